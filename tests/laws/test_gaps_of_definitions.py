"""Laws that mutation testing found missing of the definitions themselves, where a twin runs in their place."""

import inspect

import numpy as np
import pytest

from nystrom_np.fast import definitions
from nystrom_np.losses import answer_loss, binary_cross_entropy_with_logits, mean_squared_error


@pytest.mark.parametrize("loss", [mean_squared_error, binary_cross_entropy_with_logits])
def test_targets_are_not_broadcast(loss) -> None:
    """A definition refuses targets of another shape as its twin does."""
    with definitions(), pytest.raises(ValueError, match=r"targets must have shape \(2, 3\); found \(1, 3\)"):
        inspect.unwrap(loss)(np.zeros((2, 3)), np.zeros((1, 3)))


def test_answers_before_the_text_begin_at_its_first_token() -> None:
    """The reference clamps positions to 0 … L, where L is ignored; −100 is no exception."""
    logits = np.random.default_rng(0).standard_normal((2, 4, 2))
    found = answer_loss(logits, np.array([-100, 9]), np.array([2, -1]))
    assert found == answer_loss(logits, np.array([0, 4]), np.array([2, 0]))
