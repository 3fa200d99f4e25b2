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
    """Softmax, normalisation, attention and the inverses widen their arguments first."""
    message = complaint(TypeError, functional.widen, backend.array(np.ones(3, dtype)))
    assert message == f"an array of floats was expected; found {dtype}"


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
    message = complaint(ValueError, functional.initial_inverse, backend.array(np.eye(2)), initial)
    assert message == f"initial must be 'batch' or 'matrix'; found {initial!r}"


@pytest.mark.parametrize(
    "shape", [(2, 1, 4, 1), (2, 1, 2, 1), (2, 1, 0, 1), (3, 1, 3, 1), (1, 1, 3, 1), (2, 2, 3, 1), (2, 1, 3, 2), (2, 3)]
)
@pytest.mark.parametrize("form", [functional.depthwise_conv, functional.shifted_sum_conv])
def test_filters_of_another_shape(form: Any, shape: tuple[int, ...], backend: Backend) -> None:
    """One filter for each head, of odd size: an even one has no middle, and one head's would serve all."""
    value = backend.array(np.ones((1, 2, 5, 3)))
    message = complaint(ValueError, form, value, backend.array(np.ones(shape)))
    assert re.fullmatch(r"weight must have shape \(2, 1, size, 1\) of odd size; found \(.*\)", message)
    assert message.endswith(f"found {shape}")
    for short in ((), (3,)):
        assert complaint(ValueError, form, value, backend.array(np.ones(short))).endswith(f"found {short}")
