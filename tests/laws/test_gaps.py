"""Laws that mutation testing found missing: each kills a wrong formula that the others let live."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from nystrom_np.fast import on_device
from nystrom_np.fast.on_numpy import attention, convolution
from nystrom_np.functional import cross_entropy, depthwise_conv, initial_inverse, softmax, softmax_attention
from tests.backends import Backend


def test_cross_entropy_of_a_single_class(backend: Backend) -> None:
    """A distribution over one class is certain, so its loss is 0 (Shannon), beside an ignored label as well."""
    logits, labels = backend.array(np.array([[3.0], [-5.0]])), backend.array(np.array([0, -100]))
    assert float(backend.numpy(cross_entropy(logits, labels))) == 0.0


def test_softmax_attention_of_every_small_shape(backend: Backend) -> None:
    """Attention is softmax(q kᵀ) v (Vaswani et al., equation 1), whichever of the lengths and widths are equal."""
    random = np.random.default_rng(0)
    for heads, queries, keys, dim, values in product((1, 2, 3), repeat=5):
        q = random.standard_normal((heads, queries, dim))
        k = random.standard_normal((heads, keys, dim))
        v = random.standard_normal((heads, keys, values))
        scores = np.exp(q @ k.swapaxes(-1, -2))
        expected = scores / scores.sum(axis=-1, keepdims=True) @ v
        found = backend.numpy(softmax_attention(*map(backend.array, (q, k, v))))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("batch", [(), (2,), (3, 2), (2, 2, 3)])
@pytest.mark.parametrize("initial", ["matrix", "batch"])
def test_initial_inverse_of_any_batch(initial: Any, batch: tuple[int, ...], backend: Backend) -> None:
    """Z₀ = Aᵀ / ‖A‖₁ (Xiong et al., section 3.3), of each matrix or of the largest in all leading axes."""
    a = softmax(3 * np.random.default_rng(1).standard_normal((*batch, 4, 4)))
    norms = np.array([np.linalg.norm(each, 1) for each in a.reshape(-1, 4, 4)]).reshape(*batch, 1, 1)
    expected = a.swapaxes(-1, -2) / (norms if initial == "matrix" else norms.max())
    found = backend.numpy(initial_inverse(backend.array(a), initial))
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize("shape", [(2, 0, 3), (2, 4, 0), (0, 2, 4, 3)])
def test_convolution_of_nothing(shape: tuple[int, ...], backend: Backend) -> None:
    """An empty sum: without values there are no outputs."""
    value, weight = backend.array(np.zeros(shape)), backend.array(np.ones((2, 1, 3, 1)))
    assert depthwise_conv(value, weight).shape == shape
    if backend.name == "numpy":  # the twin that can add to an array returns it
        assert convolution.depthwise_conv(value, weight, add_to=value) is value


def test_convolution_of_one_value(backend: Backend) -> None:
    """out[0] = w[size // 2] v[0] (Xiong et al., section 3.4): all other taps meet the zero padding."""
    value, weight = backend.array(np.full((1, 1, 1), 3.0)), backend.array(np.arange(1.0, 6.0).reshape(1, 1, 5, 1))
    assert backend.numpy(depthwise_conv(value, weight)).item() == 9.0


@pytest.mark.parametrize("threshold", [0, 1 << 16])
@pytest.mark.parametrize(("rows", "scores"), [(1, 1), (2, 5), (3, 9), (5, 40)])
def test_softmax_attention_in_small_blocks(
    rows: int, scores: int, threshold: int, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cutting queries and keys anywhere changes nothing (Rabe and Staats, arXiv 2112.05682): a running softmax."""
    monkeypatch.setattr(attention, "QUERIES_PER_BLOCK", rows)
    monkeypatch.setattr(attention, "SCORES_PER_BLOCK", scores)
    monkeypatch.setattr(on_device, "SCORES_PER_BLOCK", scores)
    monkeypatch.setattr(attention, "SCORES_WORTH_A_THREAD", threshold)
    random = np.random.default_rng(2)
    q, k, v = (random.standard_normal((2, length, width)) for length, width in ((7, 2), (11, 2), (11, 3)))
    mask = random.random((2, 7, 11)) < 0.7
    weights = softmax(q @ k.swapaxes(-1, -2) + np.where(mask, 0.0, -1e300))
    found = softmax_attention(*map(backend.array, (4 * q, k / 4, v, mask)))
    np.testing.assert_allclose(backend.numpy(found), weights @ v, rtol=0, atol=1e-13)


@pytest.mark.parametrize("heads", [(), (3,), (2, 3), (0,)])
def test_softmax_attention_to_nothing(heads: tuple[int, ...], backend: Backend) -> None:
    """There is no distribution over no keys; keys of no width have equal scores, and weigh the same."""
    values = np.broadcast_to(np.array([[1.0], [5.0]]), (*heads, 2, 1))
    found = softmax_attention(*(backend.array(x) for x in (np.ones((*heads, 4, 0)), np.ones((*heads, 2, 0)), values)))
    np.testing.assert_array_equal(backend.numpy(found), np.full((*heads, 4, 1), 3.0))
    nothing = backend.array(np.ones((*heads, 0, 2)))
    with pytest.raises(ValueError, match="at least one key"):
        softmax_attention(backend.array(np.ones((*heads, 4, 2))), nothing, nothing)


def test_convolution_of_two_heads(backend: Backend) -> None:
    """Each head has a filter of its own (Xiong et al., section 3.4): a one in the middle leaves it as it is."""
    value = np.random.default_rng(3).standard_normal((2, 70, 3))
    weight = np.zeros((2, 1, 3, 1))
    weight[:, 0, 1, 0] = 1.0, -2.0
    found = backend.numpy(depthwise_conv(backend.array(value), backend.array(weight)))
    np.testing.assert_array_equal(found, value * np.array([1.0, -2.0])[:, None, None])


@pytest.mark.parametrize("length", [63, 64, 65, 128])
def test_convolution_with_one_tap(length: int, backend: Backend) -> None:
    """A filter of one tap only scales (Xiong et al., section 3.4 with k = 1), whole blocks of positions as well."""
    value = np.random.default_rng(4).standard_normal((1, length, 2))
    found = backend.numpy(depthwise_conv(backend.array(value), backend.array(np.full((1, 1, 1, 1), 2.0))))
    np.testing.assert_array_equal(found, 2.0 * value)
