"""Softmax and layer normalisation."""

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from nystrom_np.functional import layer_norm, log_softmax, softmax
from nystrom_np.testing import arrays
from tests.backends import Backend
from tests.laws.tools import assert_close, cases, eps, float_arrays

EPS = eps("float64")


def test_softmax_is_a_distribution(backend: Backend) -> None:
    """Softmax is positive, sums to one along its axis, and is eˣ up to a factor (definition)."""

    @cases(40)
    @given(float_arrays(), st.data())
    def law(x: np.ndarray, data: st.DataObject) -> None:
        axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
        p = backend.numpy(softmax(backend.array(x), axis=axis))
        assert np.all(p > 0)
        assert_close(p.sum(axis=axis), np.ones(p.sum(axis=axis).shape), x.shape[axis] * 2 * EPS)
        assert_close(p, np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True), 4 * x.shape[axis] * EPS)
        if axis in (-1, x.ndim - 1):
            np.testing.assert_array_equal(backend.numpy(softmax(backend.array(x))), p)

    law()


def test_softmax_shift(backend: Backend) -> None:
    """Softmax does not change, to the bit, when a number is added to all scores (Goodfellow et al., Deep
    Learning, equation 4.3; no sum rounds here: eighths).
    """

    @cases(20)
    @given(float_arrays(), st.integers(-1000, 1000))
    def law(x: np.ndarray, shift: int) -> None:
        for function in (softmax, log_softmax):
            shifted = function(backend.array(x + shift))
            np.testing.assert_array_equal(backend.numpy(shifted), backend.numpy(function(backend.array(x))))

    law()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_softmax_extremes(dtype: str, backend: Backend) -> None:
    """The largest finite scores overflow nowhere: the largest takes all, ties share, −∞ takes nothing (the limits
    of the definition; Goodfellow et al., Deep Learning, section 4.1).
    """
    top = float(np.finfo(dtype).max)
    x = np.array([[top, -top, 0.0, -np.inf], [top, top, -top, top], [-top, -top, -np.inf, -np.inf]], dtype) / 2
    third = 1 / 3
    expected = np.array([[1, 0, 0, 0], [third, third, 0, third], [0.5, 0.5, 0, 0]])
    assert_close(backend.numpy(softmax(backend.array(x))), expected, eps(dtype))


def test_log_softmax(backend: Backend) -> None:
    """Log-softmax is the logarithm of softmax, and stays finite where softmax is 0
    (``scipy.special.log_softmax``).
    """

    @cases(40)
    @given(float_arrays(scale=64.0), st.data())
    def law(x: np.ndarray, data: st.DataObject) -> None:
        axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
        found = backend.numpy(log_softmax(backend.array(x), axis=axis))
        assert_close(found, scipy.special.log_softmax(x, axis=axis), 256 * EPS)
        assert_close(np.exp(found), softmax(x, axis=axis), 256 * EPS)
        if axis in (-1, x.ndim - 1):
            np.testing.assert_array_equal(backend.numpy(log_softmax(backend.array(x))), found)

    law()
    x = backend.array(np.array([0.0, 1e300, -1e300]))
    np.testing.assert_array_equal(backend.numpy(log_softmax(x)), [-1e300, 0.0, -2e300])


def _parameters(dim: int) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    return st.tuples(arrays((dim,)), arrays((dim,)))


def test_layer_norm(backend: Backend) -> None:
    """Layer normalisation is (x − mean) / √(variance + ε) · γ + β along the last axis (Ba et al., equation
    4).
    """

    @cases(40)
    @given(float_arrays(), st.sampled_from([1e-12, 1e-5, 0.25]), st.data())
    def law(x: np.ndarray, epsilon: float, data: st.DataObject) -> None:
        weight, bias = data.draw(_parameters(x.shape[-1]))
        found = layer_norm(backend.array(x), backend.array(weight), backend.array(bias), epsilon)
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        expected = (x - mean) / np.sqrt(variance + epsilon) * weight + bias
        centred = np.abs(x - mean)
        # a mean that rounds is off by ε times the values, which a tiny deviation magnifies
        magnified = 4.0 * (1 + (np.abs(x).max() + centred) / np.sqrt(variance + epsilon)).max()
        assert_close(backend.numpy(found), expected, 16 * EPS * magnified)

    law()


def test_layer_norm_moments(backend: Backend) -> None:
    """Without γ and β, rows have mean 0 and variance v / (v + ε), v the variance before (Ba et al., equation 4)."""

    @cases(30)
    @given(arrays((3, 5)), st.sampled_from([1e-5, 1.0]))
    def law(x: np.ndarray, epsilon: float) -> None:
        ones, zeros = backend.array(np.ones(5)), backend.array(np.zeros(5))
        y = backend.numpy(layer_norm(backend.array(x), ones, zeros, eps=epsilon))
        assert_close(y.mean(axis=-1), np.zeros(3), 1e3 * EPS)
        assert_close(y.var(axis=-1), x.var(axis=-1) / (x.var(axis=-1) + epsilon), 1e3 * EPS)

    law()


def test_layer_norm_affine_invariance(backend: Backend) -> None:
    """At ε = 0, layer normalisation of a x + b is that of x for a > 0, and its negative for a < 0 (Ba et al.,
    section 5.1).
    """

    @cases(30)
    @given(arrays((2, 5)), st.sampled_from([0.25, 3.0, -1.0, -8.0]), st.integers(-4, 4))
    def law(x: np.ndarray, a: float, b: int) -> None:
        x = x + np.arange(5) * 16.0  # rows that vary
        ones, zeros = backend.array(np.ones(5)), backend.array(np.zeros(5))
        plain = backend.numpy(layer_norm(backend.array(x), ones, zeros, eps=0.0))
        moved = backend.numpy(layer_norm(backend.array(a * x + b), ones, zeros, eps=0.0))
        assert_close(moved, np.sign(a) * plain, 64 * EPS)

    law()


def test_layer_norm_constant_rows(backend: Backend) -> None:
    """A row of equal values becomes β: ε keeps 0 / 0 away (Ba et al., equation 4, with σ = 0)."""
    x, weight, bias = np.full((2, 3), 7.0), np.array([2.0, 3.0, 4.0]), np.array([-1.0, 0.0, 1.0])
    y = layer_norm(backend.array(x), backend.array(weight), backend.array(bias))
    np.testing.assert_array_equal(backend.numpy(y), [bias, bias])


def test_layer_norm_default_eps() -> None:
    """Without ε being given it is 1e-5, Nyströmformer's own (config of transformers 4.37.2)."""
    x = np.array([-1e-3, 1e-3])
    assert_close(layer_norm(x, np.ones(2), np.zeros(2)), x / np.sqrt(1e-6 + 1e-5), 4 * EPS)


def test_half_precision_does_not_overflow(backend: Backend) -> None:
    """Half precision is normalised in float32: the sum and the squares of large values do not overflow."""
    x = np.array([[60000.0, -60000.0, 60000.0, -60000.0]], "float16")
    y = layer_norm(backend.array(x), backend.array(np.ones(4, "float16")), backend.array(np.zeros(4, "float16")))
    np.testing.assert_array_equal(backend.numpy(y), [[1, -1, 1, -1]])
    many = backend.numpy(softmax(backend.array(np.zeros(70000, "float16"))))
    assert_close(many, np.full(70000, 1 / 70000), 2.0**-24)
