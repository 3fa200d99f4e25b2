"""What holds for every function: arguments are left alone, layout does not matter, dtype and device are
kept.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nystrom_np import functional
from nystrom_np.functional import ACTIVATIONS
from nystrom_np.testing import arrays, masks
from tests.backends import Backend
from tests.laws.tools import FLOATS, cases, eps

Arguments = tuple[Any, ...]


def several(*shapes: tuple[int, ...]) -> Callable[[str], st.SearchStrategy[Arguments]]:
    """Arrays of the given shapes."""
    return lambda dtype: st.tuples(*(arrays(shape, dtype, scale=2.0) for shape in shapes))


def attention_arguments(dtype: str) -> st.SearchStrategy[Arguments]:
    floats = (arrays((2, 3, 6, 2), dtype, scale=2.0) for _ in range(3))
    return st.tuples(*floats, masks((2, 1, 1, 6), empty_rows=False))


def distributions(dtype: str) -> st.SearchStrategy[Arguments]:
    """Row-stochastic matrices, far from singular."""

    def build(scores: np.ndarray) -> Arguments:
        a = functional.softmax(np.array(scores, "float64")) / 2 + np.eye(3) / 2
        return (np.asfortranarray(a.astype(dtype)) if scores.flags.f_contiguous else a.astype(dtype),)

    return arrays((2, 3, 3), "float64", scale=2.0).map(build)


def with_labels(dtype: str) -> st.SearchStrategy[Arguments]:
    labels = st.sampled_from([np.array([0, 2, -100, 1]), np.array([2, 9, 0, 9, 1, 9, 1, 9])[::2]])
    return st.tuples(arrays((4, 3), dtype), labels)


# Every function, the arguments it takes, and how to call it.
CALLS: dict[str, tuple[Callable[[str], Any], Callable[..., Any]]] = {
    **{f.__name__: (several((3, 5)), f) for f in ACTIVATIONS.values()},
    "binary_cross_entropy_with_logits": (
        several((2, 3), (2, 3)),
        functional.binary_cross_entropy_with_logits,
    ),
    "cross_entropy": (with_labels, functional.cross_entropy),
    "depthwise_conv": (several((2, 3, 5, 2), (3, 1, 3, 1)), functional.depthwise_conv),
    "initial_inverse": (distributions, functional.initial_inverse),
    "iterative_pinv": (distributions, lambda a: functional.iterative_pinv(a, iterations=3)),
    "layer_norm": (
        several((3, 4), (4,), (4,)),
        lambda x, *affine: functional.layer_norm(x, *affine, eps=1.0),
    ),
    "linear": (several((2, 3, 4), (5, 4), (5,)), functional.linear),
    "log_softmax": (several((3, 4)), functional.log_softmax),
    "mean_squared_error": (several((2, 3), (2, 3)), functional.mean_squared_error),
    "nystrom_attention": (
        attention_arguments,
        lambda q, k, v, mask: functional.nystrom_attention(q / 4, k / 4, v, 4, mask, functional.initial_inverse),
    ),
    "nystrom_attention_matrix": (
        attention_arguments,
        lambda q, k, v, mask: functional.nystrom_attention_matrix(q / 4, k / 4, 4, mask, functional.initial_inverse),
    ),
    "nystrom_kernels": (
        attention_arguments,
        lambda q, k, v, mask: functional.nystrom_kernels(q, k, 4, mask),
    ),
    "segment_means": (several((2, 7, 3)), lambda x: functional.segment_means(x, 3)),
    "softmax": (several((3, 4)), functional.softmax),
    "softmax_attention": (attention_arguments, functional.softmax_attention),
    "softmax_attention_matrix": (
        attention_arguments,
        lambda q, k, v, mask: functional.softmax_attention_matrix(q, k, mask),
    ),
    "svd_pinv": (distributions, functional.svd_pinv),
}
WIDENED = ("iterative_pinv", "svd_pinv")  # these return float16 as float32


def test_no_function_is_forgotten() -> None:
    """The table above names every function that is documented."""
    assert CALLS.keys() == set(functional.__all__) - {"ACTIVATIONS", "get_activation"}


def test_no_function_can_be_told_to_write() -> None:
    """A function of numbers has no argument that receives its result (the package's contract)."""
    for name in CALLS:
        parameters = inspect.signature(getattr(functional, name)).parameters
        assert parameters, name
        assert not {"out", "add_to"} & parameters.keys(), name


def results(backend: Backend, name: str, arguments: Arguments) -> list[Any]:
    found = CALLS[name][1](*(backend.array(x) for x in arguments))
    return list(found) if isinstance(found, tuple) else [found]


@pytest.mark.parametrize("name", CALLS)
def test_arguments_and_layout(name: str, backend: Backend) -> None:
    """No argument is written to (read-only ones are drawn too), and memory layout changes results by
    rounding alone: these are functions of numbers (the package's contract).
    """

    @cases(6)
    @given(CALLS[name][0]("float64"))
    def law(arguments: Arguments) -> None:
        plain = [np.array(x, order="C") for x in arguments]
        before = [x.copy() for x in plain]
        expected = results(backend, name, plain)
        for x, y in zip(plain, before, strict=True):
            np.testing.assert_array_equal(x, y)
        found = results(backend, name, arguments)
        for x, y in zip(arguments, before, strict=True):
            np.testing.assert_array_equal(x, y)
        for one, other in zip(found, expected, strict=True):
            one, other = backend.numpy(one), backend.numpy(other)
            assert one.shape == other.shape
            np.testing.assert_allclose(one, other, rtol=0, atol=256 * eps("float64") * max(1.0, np.abs(other).max()))

    law()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", CALLS)
def test_dtype_and_device(name: str, dtype: str, backend: Backend) -> None:
    """The dtype that goes in comes out, on the device where it was, with the values of float64 up to its
    precision (the package's contract).
    """

    @cases(3)
    @given(CALLS[name][0](dtype))
    def law(arguments: Arguments) -> None:
        floats = [x.astype("float64") if x.dtype == dtype else x for x in arguments]
        exact = results(backend, name, floats)
        for one, other in zip(results(backend, name, arguments), exact, strict=True):
            assert type(one) is type(backend.array(arguments[0])) or backend.name == "numpy"
            wide = "float32" if dtype == "float16" and name in WIDENED else dtype
            assert one.dtype == wide
            one, other = backend.numpy(one).astype("float64"), backend.numpy(other)
            np.testing.assert_allclose(one, other, rtol=0, atol=64 * eps(dtype) * max(1.0, np.abs(other).max()))

    law()
