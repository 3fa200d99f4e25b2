"""While the tests run, the package's functions refuse what their signatures do not declare."""

import numpy as np
import pytest
from beartype.roar import BeartypeCallHintParamViolation, BeartypeCallHintReturnViolation
from jaxtyping import Float

from nystrom_np import functional
from tests.shapes import check, jaxtyped


def test_arguments_of_one_call_agree():
    functional.linear(np.ones((2, 3)), np.ones((4, 3)), np.ones(4))
    functional.linear(np.ones((2, 5)), np.ones((4, 5)), np.ones(4))  # a call has its own lengths
    with pytest.raises(BeartypeCallHintParamViolation, match="weight"):
        functional.linear(np.ones((2, 3)), np.ones((4, 5)), np.ones(4))


def test_an_array_of_the_wrong_kind():
    with pytest.raises(BeartypeCallHintParamViolation, match="Float"):
        functional.softmax(np.ones((2, 3), int))


def test_what_is_returned_agrees_with_the_arguments():
    def rows(x: Float[np.ndarray, "rows columns"], count: int) -> Float[np.ndarray, "rows columns"]:
        return x[:count]

    rows.__qualname__ = "rows"  # as if defined at the top of a module
    checked = jaxtyped(rows, typechecker=check)
    assert checked(np.ones((2, 3)), 2).shape == (2, 3)
    with pytest.raises(BeartypeCallHintReturnViolation):
        checked(np.ones((2, 3)), 1)


def test_a_function_that_names_no_axes():
    with pytest.raises(BeartypeCallHintParamViolation, match="str"):
        functional.get_activation(np.ones(3))
