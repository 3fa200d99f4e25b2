"""Laws that mutation testing found missing of the definitions themselves, where a twin runs in their place."""

import inspect
from typing import Any

import numpy as np
import pytest

from nystrom_np import NystromformerModel, definition, functional
from nystrom_np.fast import definitions
from nystrom_np.losses import answer_loss, binary_cross_entropy_with_logits, mean_squared_error
from tests.models import build, small_config


@pytest.mark.parametrize("loss", [mean_squared_error, binary_cross_entropy_with_logits])
def test_targets_are_not_broadcast(loss: Any) -> None:
    """A definition refuses targets of another shape as its twin does."""
    with definitions(), pytest.raises(ValueError, match=r"targets must have shape \(2, 3\); found \(1, 3\)"):
        inspect.unwrap(loss)(np.zeros((2, 3)), np.zeros((1, 3)))


def test_answers_before_the_text_begin_at_its_first_token() -> None:
    """The reference clamps positions to 0 … L, where L is ignored; −100 is no exception."""
    logits = np.random.default_rng(0).standard_normal((2, 4, 2))
    found = answer_loss(logits, np.array([-100, 9]), np.array([2, -1]))
    assert found == answer_loss(logits, np.array([0, 4]), np.array([2, 0]))


def test_defaults_are_those_of_the_public_functions() -> None:
    """What functional documents of an argument that is left out, the definition does."""
    shared = [name for name in functional.__all__ if hasattr(definition, name)]
    for name in shared:
        public, defined = (inspect.signature(getattr(module, name)).parameters for module in (functional, definition))
        for parameter, argument in public.items():
            if parameter in defined and isinstance(argument.default, (int, float, str)):
                assert defined[parameter].default == argument.default, (name, parameter)
    x, weight = np.eye(2, 3), np.arange(6.0).reshape(2, 3)
    with definitions():
        np.testing.assert_array_equal(definition.linear(x, weight), x @ weight.T)


def test_convolution_with_any_leading_axes() -> None:
    random = np.random.default_rng(0)
    value, weight = random.standard_normal((2, 3, 2, 5, 3)), random.standard_normal((2, 1, 3, 1))
    with definitions():
        every = definition.depthwise_conv(value, weight)
        each = [[definition.depthwise_conv(one, weight) for one in row] for row in value]
    np.testing.assert_array_equal(every, each)


def test_as_many_landmarks_as_tokens_are_exact() -> None:
    """Nothing is left to approximate, so attention is the exact one up to that length and no further."""
    config = small_config("nystrom")
    assert definition.is_exact(config, config.num_landmarks)
    assert not definition.is_exact(config, config.num_landmarks + 1)


def test_original_masking_takes_a_mask_of_each_query() -> None:
    """The authors blank padded tokens; a mask (B, L, L) says of no token that it is padding."""
    mask = np.tril(np.ones((1, 5, 5), bool))
    with definitions():
        one, other = (
            build(NystromformerModel, "dense", masking=masking)([[5, 6, 7, 8, 9]], mask)
            for masking in ("original", "transformers")
        )
    np.testing.assert_array_equal(one.last_hidden_state, other.last_hidden_state)


def test_a_mask_of_one_other_number_is_refused() -> None:
    with pytest.raises(ValueError, match="only 0 and 1"):
        build(NystromformerModel, "dense")([[5, 6]], [[2, 2]])
