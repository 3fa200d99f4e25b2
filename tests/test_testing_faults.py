"""Faults that the kit for ports once had: wrong ports with which it agreed, and faithful ones that it refused."""

from typing import Any

import numpy as np
import pytest

from nystrom_np import (
    NystromformerConfig,
    NystromformerForMaskedLM,
    NystromformerForMultipleChoice,
    NystromformerForQuestionAnswering,
    NystromformerForSequenceClassification,
    NystromformerForTokenClassification,
    NystromformerModel,
)
from nystrom_np.functional import nystrom_attention, softmax_attention
from nystrom_np.rewrite import Change
from nystrom_np.testing import (
    Exercised,
    Mismatch,
    NotExercised,
    compare_model,
    compare_nystrom_attention,
    random_model,
)
from nystrom_np.trace import run

CONFIG = {
    "vocab_size": 9,
    "hidden_size": 6,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 5,
    "num_landmarks": 2,
    "conv_kernel_size": 3,
}
HEADS = (
    NystromformerModel,
    NystromformerForMaskedLM,
    NystromformerForSequenceClassification,
    NystromformerForMultipleChoice,
    NystromformerForTokenClassification,
    NystromformerForQuestionAnswering,
)


def small(head: Any = NystromformerModel, **fields: Any) -> Any:
    return random_model(NystromformerConfig(**{**CONFIG, **fields}), head=head)


def with_parameters(model: Any, change: Any) -> Any:
    """A port that reads each parameter as a function of its name and value says."""
    changed = {name: change(name, value.copy()) for name, value in model.state_dict().items()}
    return type(model)(model.config, parameters=changed)


def no_biases(name: str, value: np.ndarray) -> np.ndarray:
    return np.zeros_like(value) if name.endswith("bias") else value


def no_gains(name: str, value: np.ndarray) -> np.ndarray:
    return np.ones_like(value) if name.endswith("LayerNorm.weight") else value


def zero_padding_row(name: str, value: np.ndarray) -> np.ndarray:
    if name.endswith("word_embeddings.weight"):
        value[1] = 0.0
    return value


@pytest.mark.parametrize("ignored", [no_biases, no_gains, zero_padding_row])
def test_a_port_that_ignores_parameters(ignored: Any) -> None:
    """With a freshly drawn model such a port agrees: the comparison refuses it. With a random one it is found."""
    fresh = NystromformerModel(NystromformerConfig(**CONFIG), seed=0, dtype="float64")
    with pytest.raises(ValueError, match=r"^a port could ignore parameters of this model: .* is all [01]"):
        compare_model(with_parameters(fresh, ignored), fresh)
    assert compare_model(with_parameters(fresh, ignored), fresh, allow_trivial=True, max_examples=5).cases
    model = small()
    with pytest.raises(Mismatch):
        compare_model(with_parameters(model, ignored), model)


def test_no_parameter_of_a_random_model_is_trivial() -> None:
    for head in HEADS:
        for name, value in small(head).state_dict().items():
            assert (value != 0.0).all(), name
            assert value.size == 1 or np.ptp(value) > 0.0, name


def test_what_was_tried_is_told() -> None:
    model = small(masking="original")
    tried = compare_model(model, model)
    assert isinstance(tried, Exercised)
    assert tried.cases >= 50
    for kind in (
        "exact attention", "Nyström attention", "a mask with padding", "no mask", "token_type_ids", "position_ids",
        "head_mask", "inputs_embeds", "masking=original",
    ):  # fmt: skip
        assert 0 < tried.kinds[kind] <= tried.cases, kind


def test_nothing_tried_of_a_kind_is_no_agreement() -> None:
    """A model whose attention is always exact says nothing of a port's Nyström attention."""
    dense = small(num_landmarks=4, segment_means_seq_len=4)
    with pytest.raises(NotExercised, match=r"no case would try Nyström attention: num_landmarks equals"):
        compare_model(dense, dense)
    assert "Nyström attention" not in compare_model(dense, dense, branches=["exact"]).kinds
    with pytest.raises(NotExercised, match="no case would try exact attention"):
        compare_model(small(), small(), lengths=[5, 6])


@pytest.mark.parametrize("head", HEADS)
def test_every_head(head: Any) -> None:
    """Multiple choice gets its choices, and every head its labels; a port with another loss is found."""
    model = small(head, num_labels=3)
    tried = compare_model(lambda **inputs: dict(model(**inputs).items()), model, max_examples=20)
    if head is NystromformerModel:
        return
    assert tried.kinds["labels"] > 0

    def halved(**inputs: Any) -> dict[str, Any]:
        found = dict(model(**inputs).items())
        return {**found, "loss": 0.5 * found["loss"]} if found.get("loss") is not None else found

    with pytest.raises(Mismatch, match=r"^loss: "):
        compare_model(halved, model, lengths=[2, 3], batch=1)


@pytest.mark.parametrize("argument", ["inputs_embeds", "head_mask"])
def test_a_port_that_misreads_an_argument(argument: str) -> None:
    model = small()

    def port(**inputs: Any) -> Any:
        return model(**{name: 1 - value if name == argument else value for name, value in inputs.items()})

    with pytest.raises(Mismatch) as caught:
        compare_model(port, model)
    assert argument in caught.value.case
    assert compare_model(port, model, without=[argument]).cases >= 50


def test_a_port_that_takes_one_length() -> None:
    """transformers 4.37.2 raises on the Nyström branch unless L is segment_means_seq_len."""
    model = small(segment_means_seq_len=6)

    def port(**inputs: Any) -> Any:
        ids = inputs["input_ids"]
        assert ids.shape == (2, 6)
        assert all(value.flags.c_contiguous and value.flags.writeable for value in inputs.values())
        return model(**inputs)

    tried = compare_model(port, model, lengths=6, batch=2, branches=["nystrom"], without=["inputs_embeds"])
    assert tried.kinds["Nyström attention"] == tried.cases
    with pytest.raises(AssertionError):
        compare_model(port, model, without=["inputs_embeds"])


def test_masking_and_empty_rows() -> None:
    """A port of another mask mode agrees when told so, on sequences without a real token too."""
    model = small()
    other = NystromformerModel(
        NystromformerConfig(**CONFIG, masking="invariant"), parameters=model.state_dict(), dtype="float64"
    )
    with pytest.raises(Mismatch):
        compare_model(other, model)
    tried = compare_model(other, model, masking="invariant", empty_rows=True)
    assert tried.kinds["a sequence without a real token"] > 0


def test_layouts() -> None:
    model, seen = small(), set()

    def port(**inputs: Any) -> Any:
        seen.update((value.flags.c_contiguous, value.flags.writeable) for value in inputs.values())
        return model(**inputs)

    compare_model(port, model)
    assert seen == {(True, True)}  # as torch.from_numpy takes them
    compare_model(port, model, layouts=("contiguous", "read-only", "strided"))
    assert {(True, False), (False, True)} <= seen


def test_a_faithful_port_of_an_ill_conditioned_model() -> None:
    """Rounding alone takes a port further than 1e-10 where the inverse magnifies it: that is allowed, and no more."""
    narrow = ("query.weight", "key.weight", "query.bias", "key.bias")  # A is nearly of rank one
    model = small(num_landmarks=4, num_hidden_layers=2, pinv_iterations=30)
    sharp = with_parameters(model, lambda name, x: x * 0.2 if name.endswith(narrow) else x)
    draw = np.random.default_rng(0)
    port = with_parameters(sharp, lambda name, x: x * (1.0 + 2.0**-52 * draw.choice([-1, 0, 1], x.shape)))
    worst = 0.0

    def measured(**inputs: Any) -> Any:
        nonlocal worst
        found = port(**inputs).last_hidden_state
        worst = max(worst, float(abs(found - sharp(**inputs).last_hidden_state).max()))
        return found

    compare_model(measured, sharp)
    assert worst > 1e-10
    wrong = with_parameters(sharp, lambda name, x: x * (1.0 + 1e-4))
    with pytest.raises(Mismatch):
        compare_model(wrong, sharp)


def test_exact_where_there_are_no_more_tokens_than_landmarks() -> None:
    """This package's own models are so, and so is a port of them."""

    def port(query: Any, key: Any, value: Any, num_landmarks: int, mask: Any) -> Any:
        if query.shape[-2] <= num_landmarks:
            return softmax_attention(query, key, value, mask)
        return nystrom_attention(query, key, value, num_landmarks, mask)

    with pytest.raises(Mismatch):
        compare_nystrom_attention(port)
    assert compare_nystrom_attention(port, exact_where_short=True).kinds["no more tokens than landmarks"] > 0
    with pytest.raises(Mismatch):
        compare_nystrom_attention(
            lambda q, k, v, m, mask: nystrom_attention(q, k, v, min(m, q.shape[-2]), mask), exact_where_short=True
        )


def test_shrinking_keeps_to_the_difference_found() -> None:
    """A port with a large fault and, in smaller cases, a tiny one is told of the large one, which is found first."""
    faults = []

    def port(query: Any, key: Any, value: Any, num_landmarks: int, mask: Any) -> Any:
        length = query.shape[-2]
        fault = 0.37 if length > 5 else 7e-9 if length == 2 else 0.0
        faults.append(fault)
        return nystrom_attention(query, key, value, num_landmarks, mask) + fault

    with pytest.raises(Mismatch) as caught:
        compare_nystrom_attention(port)
    assert next(filter(None, faults)) == 0.37
    assert 7e-9 in faults
    assert caught.value.difference == pytest.approx(0.37)


def test_a_mismatch_carries_its_numbers() -> None:
    model = small()
    with pytest.raises(Mismatch) as caught:
        compare_model(lambda **inputs: model(**inputs).last_hidden_state + 0.5, model)
    error = caught.value
    assert error.difference == pytest.approx(0.5)
    assert 0 < error.allowed < 1e-6
    np.testing.assert_allclose(error.found - error.expected, 0.5)
    again = model(**error.case).last_hidden_state
    np.testing.assert_allclose(error.expected, again, atol=1e-9)
    with pytest.raises(Mismatch) as caught:
        compare_nystrom_attention(lambda *case: nystrom_attention(*case) + 0.5)
    np.testing.assert_allclose(nystrom_attention(*caught.value.case.arguments()), caught.value.expected, atol=1e-9)


class Tensor:
    """As torch's that needs a gradient: NumPy may read it only once it is detached and on the host."""

    def __init__(self, value: np.ndarray, steps: tuple[str, ...] = ("detach", "cpu")) -> None:
        self.value, self.steps = value, steps

    def _after(self, step: str) -> "Tensor":
        return Tensor(self.value, tuple(left for left in self.steps if left != step))

    def detach(self) -> "Tensor":
        return self._after("detach")

    def cpu(self) -> "Tensor":
        return self._after("cpu")

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        if self.steps:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        return self.value


def test_tensors_with_gradients() -> None:
    model = small()
    compare_nystrom_attention(lambda *case: Tensor(nystrom_attention(*case)), max_examples=5)
    compare_model(lambda **inputs: Tensor(model(**inputs).last_hidden_state), model, max_examples=5)


def hooked(model: Any, *changes: Change) -> Any:
    """A port with forward hooks: every step by its name, of a definition with changes."""
    return lambda **inputs: dict(run(model, inputs, changes))


def test_the_first_wrong_step_is_named() -> None:
    model = small()
    assert compare_model(hooked(model), model, max_examples=5).cases >= 5
    with pytest.raises(Mismatch, match=r"The first step that differs is") as caught:
        compare_model(
            hooked(model, Change("nystrom_kernels", "f = ", "f = 1.001 * ")),
            model,
            lengths=[4],
            branches=["nystrom"],
            max_examples=5,
        )
    assert caught.value.step == caught.value.name == "encoder.layer.0.attention.self.F"


def test_hidden_states_alone_name_the_first_wrong_step() -> None:
    """Of a port that hands over nothing else, the first that differs has the name of its step in the trace."""
    model = small()
    port = with_parameters(model, lambda name, x: np.roll(x, -2, axis=0) if "position_embeddings" in name else x)

    def states(**inputs: Any) -> Any:
        return {"hidden_states": port(**inputs, output_hidden_states=True).hidden_states}

    with pytest.raises(Mismatch, match=r"The first step that differs is embeddings") as caught:
        compare_model(states, model)
    assert caught.value.step == "embeddings.LayerNorm"
