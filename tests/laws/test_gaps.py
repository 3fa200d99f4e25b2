"""Laws that mutation testing found missing: each kills a wrong formula that the others let live."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from nystrom_np.functional import cross_entropy, initial_inverse, softmax, softmax_attention
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
