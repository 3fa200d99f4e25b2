"""The activations: each against a formula written independently, its exact landmarks, and its ends."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import scipy.special
from hypothesis import given

from nystrom_np import functional
from nystrom_np.fast.on_numpy.rows import ELEMENTS_PER_BLOCK
from nystrom_np.functional import ACTIVATIONS, get_activation
from tests.backends import Backend
from tests.laws.tools import assert_close, cases, eps, exponential_is, float_arrays


def normal_cdf(x: np.ndarray) -> np.ndarray:
    return scipy.special.ndtr(x)


def tanh_gelu(x: np.ndarray, root: float = np.sqrt(2 / np.pi)) -> np.ndarray:
    return x * scipy.special.expit(2 * root * (x + 0.044715 * np.power(x, 3)))


# Each formula in another form than the package's: 1 + erf as a normal distribution, tanh as a logistic
# function, maxima as cases.
FORMULAS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gelu": lambda x: x * normal_cdf(x),
    "gelu_python": lambda x: x * normal_cdf(x),
    "gelu_10": lambda x: np.minimum(x * normal_cdf(x), 10),
    "gelu_new": tanh_gelu,
    "gelu_pytorch_tanh": tanh_gelu,
    "gelu_accurate": tanh_gelu,
    "gelu_fast": partial(tanh_gelu, root=0.7978845608),
    "quick_gelu": lambda x: x * scipy.special.expit(1.702 * x),
    "relu": lambda x: np.where(x > 0, x, 0),
    "relu2": lambda x: np.where(x > 0, x**2, 0),
    "relu6": lambda x: np.select([x < 0, x > 6], [0, 6], x),
    "leaky_relu": lambda x: np.where(x > 0, x, x / 100),
    "selu": lambda x: np.where(x > 0, 1.0507009873554805 * x, 1.7580993408473766 * (np.exp(np.minimum(x, 0)) - 1)),
    "silu": lambda x: x * scipy.special.expit(x),
    "swish": lambda x: x * scipy.special.expit(x),
    "mish": lambda x: x * (1 - 2 / (np.square(1 + np.exp(x)) + 1)),
    "sigmoid": scipy.special.expit,
    "tanh": lambda x: 1 - 2 / (np.exp(2 * x) + 1),
    "linear": lambda x: x,
    "laplace": lambda x: normal_cdf((x - 0.707107) / 0.282095),
}
SIGMOIDAL = ("sigmoid", "tanh", "laplace")
MONOTONIC = (*SIGMOIDAL, "relu", "relu2", "relu6", "leaky_relu", "selu", "linear")


def test_every_activation_has_a_formula() -> None:
    assert FORMULAS.keys() == ACTIVATIONS.keys()
    assert {functional.get_activation(name).__name__ for name in ACTIVATIONS} <= set(functional.__all__)


def test_formula(backend: Backend) -> None:
    """Each activation is its published formula (the sources are in its docstring; transformers' ACT2FN
    names it).
    """

    @cases(40)
    @given(float_arrays(scale=8.0))
    def law(x: np.ndarray) -> None:
        for name, formula in FORMULAS.items():
            found = backend.numpy(ACTIVATIONS[name](backend.array(x)))
            assert_close(found, formula(x), 16 * eps(x.dtype) * max(1.0, np.abs(found).max()), name)

    law()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_array_without_axes(name: str, backend: Backend) -> None:
    """A single number is any array's element: the shape changes nothing, and the number given is left as it was."""
    x = np.array([-0.75, 1.25])
    expected = backend.numpy(ACTIVATIONS[name](backend.array(x)))
    for place in range(2):
        one = backend.array(np.array(x[place]))
        found = backend.numpy(ACTIVATIONS[name](one))
        assert found.shape == ()
        np.testing.assert_array_equal(found, expected[place])
        np.testing.assert_array_equal(backend.numpy(one), x[place])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_extremes(name: str, backend: Backend) -> None:
    """Far out nothing overflows or becomes NaN: an activation tends to 0 or its bound below, to x or its
    bound above.
    """
    far = {"float64": 1e100, "float32": 1e12, "float16": 100.0}
    above = {"gelu_10": 10, "relu6": 6, "sigmoid": 1, "tanh": 1, "laplace": 1}
    for dtype, size in far.items():
        x = np.array([-size, size], dtype)
        with np.errstate(over="ignore" if backend.name == "strict" else "warn"):  # of which a device says nothing
            low, high = backend.numpy(ACTIVATIONS[name](backend.array(x))).astype("float64")
        size = float(x[1])
        expected_high = {"relu2": size**2, "selu": 1.0507009873554805 * size}.get(name, above.get(name, size))
        expected_low = {
            "selu": -1.7580993408473766,
            "tanh": -1,
            "linear": -size,
            "leaky_relu": -size / 100,
        }.get(name, 0)
        np.testing.assert_allclose(high, expected_high, rtol=2 * eps(dtype))
        np.testing.assert_allclose(low, expected_low, rtol=2 * eps(dtype))


@pytest.mark.parametrize("name", MONOTONIC)
def test_monotonic(name: str, backend: Backend) -> None:
    """A larger argument never gives a smaller value (of the activations without a dip below zero: their
    derivatives are nowhere negative).
    """
    y = backend.numpy(ACTIVATIONS[name](backend.array(np.linspace(-9, 9, 1001))))
    assert np.all(np.diff(y) >= 0)
    assert y[0] < y[-1]


def test_reflection(backend: Backend) -> None:
    """f(x) − f(−x) = x wherever f(x) = x · s(x) with s(x) + s(−x) = 1 (Hendrycks and Gimpel: s is a
    distribution).
    """

    @cases(20)
    @given(float_arrays())
    def law(x: np.ndarray) -> None:
        for name in ("gelu", "gelu_new", "gelu_fast", "quick_gelu", "silu"):
            function = ACTIVATIONS[name]
            difference = backend.numpy(function(backend.array(x)) - function(-backend.array(x)))
            assert_close(difference, x, 16 * eps(x.dtype), name)

    law()


@pytest.mark.parametrize("vector_exp2", [True, False])
def test_gelu_new_by_either_exponential(vector_exp2: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The formula's values, whichever exponential of NumPy's they are made of."""
    exponential_is(monkeypatch, vector_exp2)
    x = np.linspace(-9.0, 9.0, 1001)
    np.testing.assert_allclose(functional.gelu_new(x), tanh_gelu(x), rtol=1e-13, atol=1e-15)


def test_gelu_new_is_near_gelu(backend: Backend) -> None:
    """The tanh form is within 4.74e-4 of GELU (and no nearer), largest near |x| = 2.70 (Hendrycks and
    Gimpel, section 2).
    """
    x = np.linspace(-10, 10, 200_001)
    distance = np.abs(backend.numpy(functional.gelu_new(backend.array(x)) - functional.gelu(backend.array(x))))
    assert 4.73e-4 < distance.max() < 4.74e-4
    assert abs(abs(x[distance.argmax()]) - 2.699) < 1e-3


def test_selu_fixed_point(backend: Backend) -> None:
    """SELU of a standard normal variable has mean 0 and variance 1 (Klambauer et al., theorem 1): α and λ
    are these.
    """
    x, step = np.linspace(-12, 12, 480_001, retstep=True)
    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi) * step
    y = backend.numpy(functional.selu(backend.array(x)))
    assert abs((y * density).sum()) < 1e-9
    assert abs((y * y * density).sum() - 1) < 1e-9


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_blocks(name: str, backend: Backend) -> None:
    """An activation is elementwise: blocks of a long array, in any layout, give what each element gives
    alone.
    """
    x = np.linspace(-5, 5, 2 * ELEMENTS_PER_BLOCK + 6).reshape(2, -1)
    y, turned, fifth = (
        backend.numpy(ACTIVATIONS[name](backend.array(part))) for part in (x, x.T, np.ascontiguousarray(x[:, ::5]))
    )
    assert y.shape == x.shape
    np.testing.assert_array_equal(turned, y.T)
    np.testing.assert_array_equal(fifth, y[:, ::5])


def test_get_activation() -> None:
    """A name gives its function, a callable itself, an unknown name an error that lists what is known."""

    def mine(x: Any) -> Any:
        return x

    assert get_activation(mine) is mine
    assert get_activation("gelu_new") is functional.gelu_new
    with pytest.raises(ValueError, match=r"one of gelu, .*laplace; found 'no such'"):
        get_activation("no such")
