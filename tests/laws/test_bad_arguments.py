"""What would be broadcast, wrapped or rounded silently is an error with what was expected and what was found.

The functions are called without the declared shapes being enforced, as users call them.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nystrom_np import functional
from tests.backends import Backend


def complaint(error: type[Exception], function: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(error) as caught:
        inspect.unwrap(function)(*arguments)
    assert caught.type is error
    return str(caught.value)


@pytest.mark.parametrize("dtype", ["int64", "int8", "bool", "complex128"])
def test_no_floats(dtype: str, backend: Backend) -> None:
    """Softmax, normalisation, attention and the inverses would round their results to whole numbers, as would means."""
    whole, one = backend.array(np.ones((3, 3), dtype)), backend.array(np.ones((3, 3)))
    for function, arguments in (
        (functional.softmax, (whole,)),
        (functional.layer_norm, (whole, one[0], one[0])),
        (functional.softmax_attention_matrix, (whole, one)),
        (functional.softmax_attention_matrix, (one, whole)),
        (functional.softmax_attention, (whole, one, one)),
        (functional.softmax_attention, (one, whole, one)),
        (functional.softmax_attention, (one, one, whole)),
        (functional.segment_means, (whole, 2)),
        (functional.nystrom_kernels, (whole, one, 2)),
        (functional.nystrom_kernels, (one, whole, 2)),
        (functional.nystrom_attention_matrix, (whole, one, 2)),
        (functional.nystrom_attention_matrix, (one, whole, 2)),
        (functional.nystrom_attention, (whole, one, one, 2)),
        (functional.nystrom_attention, (one, whole, one, 2)),
        (functional.nystrom_attention, (one, one, whole, 2)),
        (functional.iterative_pinv, (whole,)),
        (functional.svd_pinv, (whole,)),
    ):
        message = complaint(TypeError, function, *arguments)
        assert message == f"an array of floats was expected; found {dtype}", function.__name__


@pytest.mark.parametrize("shape", [(1,), (3,), (1, 3), (2, 1), (2, 4), (2, 3, 1), ()])
def test_labels_of_another_shape(shape: tuple[int, ...], backend: Backend) -> None:
    for dtype in ("int64", "float64"):
        labels = backend.array(np.zeros(shape, dtype))
        message = complaint(ValueError, functional.cross_entropy, backend.array(np.zeros((2, 3))), labels)
        assert message == f"labels must have shape (2,) or (2, 3); found {shape}"


@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 1), (1, 1), (2, 4), (1, 2, 3), ()])
@pytest.mark.parametrize("loss", [functional.mean_squared_error, functional.binary_cross_entropy_with_logits])
def test_targets_of_another_shape(loss: Any, shape: tuple[int, ...], backend: Backend) -> None:
    message = complaint(ValueError, loss, backend.array(np.zeros((2, 3))), backend.array(np.zeros(shape)))
    assert message == f"targets must have shape (2, 3); found {shape}"


@pytest.mark.parametrize("initial", ["Batch", "matrices", "", None, True])
def test_an_unknown_initial_value(initial: Any, backend: Backend) -> None:
    a = backend.array(np.eye(2))
    for function, arguments in (
        (functional.initial_inverse, (a, initial)),
        (functional.iterative_pinv, (a, 6, initial)),
    ):
        message = complaint(ValueError, function, *arguments)
        assert message == f"initial must be 'batch', 'sequence' or 'matrix'; found {initial!r}"


def test_a_sequence_needs_an_axis_of_heads(backend: Backend) -> None:
    a = backend.array(np.eye(2))
    message = complaint(ValueError, functional.iterative_pinv, a, 6, "sequence")
    assert message == "initial='sequence' needs matrices of shape (..., heads, m, m); found (2, 2)"


@pytest.mark.parametrize(
    "shape", [(2, 1, 4, 1), (2, 1, 2, 1), (2, 1, 0, 1), (3, 1, 3, 1), (1, 1, 3, 1), (2, 2, 3, 1), (2, 1, 3, 2), (2, 3)]
)
def test_filters_of_another_shape(shape: tuple[int, ...], backend: Backend) -> None:
    """One filter for each head, of odd size: an even one has no middle, and one head's would serve all."""
    value = backend.array(np.ones((1, 2, 5, 3)))
    message = complaint(ValueError, functional.depthwise_conv, value, backend.array(np.ones(shape)))
    assert re.fullmatch(r"weight must have shape \(2, 1, size, 1\) of odd size; found \(.*\)", message)
    assert message.endswith(f"found {shape}")
    for short in ((), (3,)):
        message = complaint(ValueError, functional.depthwise_conv, value, backend.array(np.ones(short)))
        assert message.endswith(f"found {short}")
