"""The comparison for people who port the model: it finds planted bugs, names them, and passes what is
right.
"""

import sys
from functools import partial
from typing import Any

import numpy as np
import pytest

from nystrom_np import NystromformerConfig, NystromformerForMaskedLM, NystromformerModel
from nystrom_np.functional import (
    iterative_pinv,
    nystrom_attention,
    segment_means,
    softmax_attention_matrix,
    svd_pinv,
)
from nystrom_np.testing import (
    Mismatch,
    compare_model,
    compare_nystrom_attention,
    masks,
    random_model,
)


def independent(q: Any, k: Any, v: Any, m: int, mask: Any, *, initial: str = "batch", steps: int = 6) -> np.ndarray:
    """Nyström attention as somebody else might write it: loops over heads, inverse of the transposed
    problem.
    """
    sizes = [(q.shape[-2] + i) // m for i in range(m)]
    pool = np.repeat(np.eye(m) / sizes, sizes, axis=1)

    def softmax(x: np.ndarray) -> np.ndarray:
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    ql, kl = pool @ q, pool @ k
    a, scores = softmax(ql @ kl.swapaxes(-1, -2)), ql @ k.swapaxes(-1, -2)
    if mask is not None:
        scores = np.where(mask.astype(bool), scores, -1e30)
    columns = a.sum(axis=-2)
    z = a.swapaxes(-1, -2) / (columns.max() if initial == "batch" else columns.max(axis=-1)[..., None, None])
    for _ in range(steps):
        z = z @ _polynomial(a @ z)
    return softmax(q @ kl.swapaxes(-1, -2)) @ (z @ (softmax(scores) @ v))


def _polynomial(az: np.ndarray) -> np.ndarray:
    """(13 − 15 t + 7 t² − t³) / 4 at t = A Z."""
    square = az @ az
    return (13 * np.eye(az.shape[-1]) - 15 * az + 7 * square - square @ az) / 4


def test_right_implementations_pass() -> None:
    compare_nystrom_attention(independent, max_examples=40)
    compare_nystrom_attention(
        partial(independent, initial="matrix"),
        pinv=partial(iterative_pinv, initial="matrix"),
        max_examples=20,
    )
    compare_nystrom_attention(partial(nystrom_attention, pinv=svd_pinv), pinv=svd_pinv, max_examples=20)
    compare_nystrom_attention(nystrom_attention, dtype="float32", max_examples=40)
    compare_nystrom_attention(lambda *case: nystrom_attention(*case).tolist(), max_examples=5)


def unmasked(q: Any, k: Any, v: Any, m: int, mask: Any) -> Any:
    return nystrom_attention(q, k, v, m)


def masked_everywhere(q: Any, k: Any, v: Any, m: int, mask: Any) -> Any:
    if mask is None:
        return nystrom_attention(q, k, v, m)
    real = mask.swapaxes(-1, -2).astype(bool)
    return nystrom_attention(np.where(real, q, 0), np.where(real, k, 0), v, m, mask)


def longer_first(q: Any, k: Any, v: Any, m: int, mask: Any) -> Any:
    """Segments in the other order: the reversed sequence's."""
    flip = (slice(None), slice(None), slice(None, None, -1))
    turned = None if mask is None else mask[..., ::-1]
    return nystrom_attention(q[flip], k[flip], v[flip], m, turned)[flip]


def transposed(q: Any, k: Any, v: Any, m: int, mask: Any) -> Any:
    f, b = (
        softmax_attention_matrix(q, segment_means(k, m)),
        softmax_attention_matrix(segment_means(q, m), k, mask),
    )
    a = softmax_attention_matrix(segment_means(q, m), segment_means(k, m))
    return f @ iterative_pinv(a).swapaxes(-1, -2) @ b @ v


@pytest.mark.parametrize(
    "wrong",
    [
        unmasked,
        masked_everywhere,
        longer_first,
        transposed,
        partial(independent, steps=5),
        partial(independent, initial="matrix"),
        lambda *case: nystrom_attention(*case) * (1 + 1e-9),
        lambda *case: np.where(np.arange(case[2].shape[-2])[:, None] == 3, np.nan, nystrom_attention(*case)),
    ],
)
def test_wrong_implementations_are_found(wrong: Any) -> None:
    with pytest.raises(Mismatch, match=r"^context: largest difference .* at \[0, \d, \d+, 0\]") as caught:
        compare_nystrom_attention(wrong, max_examples=300)
    assert caught.value.name == "context"
    assert caught.value.difference > 0
    assert len(caught.value.index) == 4
    assert "query = array(" in str(caught.value)
    assert "num_landmarks = " in str(caught.value)


def test_small_cases_are_reported() -> None:
    """The masking bug needs two tokens, one of them masked: the reported case has no more than a few."""
    with pytest.raises(Mismatch) as caught:
        compare_nystrom_attention(unmasked, max_examples=300)
    assert "of shape (1, 1, 2, 1)" in str(caught.value)


def test_wrong_shapes() -> None:
    with pytest.raises(Mismatch, match=r"context: expected shape \(.*\), found shape \(.*\)") as caught:
        compare_nystrom_attention(lambda *case: nystrom_attention(*case)[..., None])
    assert caught.value.index is None
    assert caught.value.difference == float("inf")


def test_only_what_an_implementation_can_do() -> None:
    """Cases can be limited to equal segments, and to no masks; nothing else is then drawn."""

    def demanding(q: Any, k: Any, v: Any, m: int, mask: Any) -> Any:
        assert q.shape[-2] % m == 0
        assert mask is None
        return nystrom_attention(q, k, v, m)

    compare_nystrom_attention(demanding, equal_segments=True, with_masks=False, max_examples=50)
    with pytest.raises(AssertionError):
        compare_nystrom_attention(demanding, with_masks=False)


def test_errors_of_the_implementation_come_through() -> None:
    def broken(*case: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        compare_nystrom_attention(broken)


CONFIG = {
    "vocab_size": 9,
    "hidden_size": 6,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 5,
}


def small(head: Any = NystromformerModel, dtype: str = "float64", **fields: Any) -> Any:
    fields = {**CONFIG, "num_landmarks": 2, "initializer_range": 0.5, "conv_kernel_size": 3, **fields}
    return random_model(NystromformerConfig(**fields), head=head, dtype=dtype)


def test_models_that_agree() -> None:
    for dtype in ("float64", "float32"):
        model = small(dtype=dtype)
        compare_model(lambda **inputs: model(**inputs).last_hidden_state, model, max_examples=5)  # noqa: B023
    head = small(NystromformerForMaskedLM)
    compare_model(
        lambda **inputs: head(**inputs, output_attentions=True, output_hidden_states=True),
        head,
        max_examples=5,
    )


def test_the_first_layer_that_differs_is_named() -> None:
    model, other = small(), small()
    other.state_dict()["encoder.layer.1.output.dense.bias"][2] += 1e-3

    def port(**inputs: Any) -> Any:
        out = other(**inputs, output_attentions=True, output_hidden_states=True)
        return {"last_hidden_state": out.last_hidden_state, "hidden_states": list(out.hidden_states)}

    with pytest.raises(Mismatch, match=r"hidden_states\[2\]: largest difference .*") as caught:
        compare_model(port, model, max_examples=5)
    assert "input_ids = array(" in str(caught.value)


def test_a_port_that_ignores_an_argument() -> None:
    model = small(num_hidden_layers=1)
    for argument in ("attention_mask", "position_ids"):

        def port(argument: str = argument, **inputs: Any) -> Any:
            return model(**{name: value for name, value in inputs.items() if name != argument}).last_hidden_state

        with pytest.raises(Mismatch, match="last_hidden_state"):
            compare_model(port, model)
        if argument == "attention_mask":
            compare_model(port, model, without=["attention_mask"], max_examples=5)


def test_unknown_outputs() -> None:
    model = small()
    with pytest.raises(TypeError, match="found pooled"):
        compare_model(lambda **inputs: {"pooled": 0}, model)


def test_masks_keep_a_token() -> None:
    from hypothesis import given, settings

    @settings(max_examples=50)
    @given(masks((4, 3), empty_rows=False))
    def law(mask: np.ndarray) -> None:
        assert mask.shape == (4, 3)
        assert set(np.unique(mask)) <= {0, 1}
        assert mask.astype(bool).any(axis=-1).all()

    law()


def test_hypothesis_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis.strategies", None)
    with pytest.raises(ImportError, match="pip install hypothesis"):
        compare_nystrom_attention(nystrom_attention)
