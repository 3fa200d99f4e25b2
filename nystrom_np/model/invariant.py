"""``masking="invariant"``: each sequence of a padded batch computes what it would compute alone and unpadded."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nystrom_np.array_module import Array, get_array_module, move_like
from nystrom_np.config import NystromformerConfig
from nystrom_np.model.encoder import is_exact
from nystrom_np.model.inputs import Inputs, default_positions
from nystrom_np.parallel import parallel_map

__all__ = ["Encoded", "blank", "encode_alone", "gather"]


@dataclass
class Encoded:
    """What the encoder hands to a head.

    Attributes
    ----------
    last_hidden_state : array, (B, L, D)
    hidden_states, attentions : tuple of arrays, or None
    real : array of booleans, (B, L), or None
        With ``masking="invariant"`` and padding: which positions are real.
    """

    last_hidden_state: Array
    hidden_states: tuple[Array, ...] | None
    attentions: tuple[Array, ...] | None
    real: Array | None = None

    def states(self) -> tuple[Array, ...]:
        """The last hidden state and all others there are."""
        return (self.last_hidden_state, *(self.hidden_states or ()))

    def first_token(self) -> Array:
        """The hidden state (B, D) of each sequence's first token: its first real one where padding is set aside."""
        if self.real is None:
            return self.last_hidden_state[:, 0]
        xp = get_array_module(self.last_hidden_state)
        return self.last_hidden_state[xp.arange(self.real.shape[0]), self.real.argmax(axis=1)]

    def without_padding(self, scores: Array, fill: Any = 0) -> Array:
        """Scores (B, L, ...) with those at set-aside padding replaced."""
        if self.real is None:
            return scores
        real = self.real.reshape(*self.real.shape, *[1] * (scores.ndim - 2))
        return get_array_module(scores).where(real, scores, fill)


def blank(
    config: NystromformerConfig, shape: tuple[int, int], like: Array, attentions: bool, hidden_states: bool
) -> Encoded:
    """Zeros for a batch of a shape (B, L), of the dtype and on the device of an array.

    Attentions have a column for each position where attention over L positions is exact, else for each landmark.
    """
    xp, layers = get_array_module(like), config.num_hidden_layers
    columns = shape[1] if is_exact(config, shape[1]) else config.num_landmarks
    heads = (shape[0], config.num_attention_heads, shape[1], columns)

    def zeros(count: int, shape: tuple[int, ...]) -> tuple[Array, ...]:
        return tuple(xp.zeros(shape, dtype=like.dtype) for _ in range(count))

    tokens = (*shape, config.hidden_size)
    return Encoded(
        *zeros(1, tokens), zeros(layers + 1, tokens) if hidden_states else None, zeros(layers, heads) if attentions else None
    )


def encode_alone(
    encode: Callable[[Inputs], Encoded], config: NystromformerConfig, inputs: Inputs, out: Encoded
) -> Encoded:
    """Encode each sequence's real tokens alone, in order and holes closed, and put the results in their places.

    What is at padding stays as it was. The attention of a sequence with no more tokens than landmarks, in a batch
    that has landmarks for its columns, fills the first columns with its own tokens' weights.

    Parameters
    ----------
    encode : callable
        The encoder of a batch without padding.
    config : NystromformerConfig
    inputs : Inputs
        With ``real``.
    out : Encoded
        Zeros for the whole batch, as :func:`blank` makes them; filled and returned.

    Returns
    -------
    Encoded
    """
    real: np.ndarray = inputs.real  # type: ignore[assignment]
    exact = is_exact(config, real.shape[1])

    def alone(sequence: int) -> None:
        place = np.flatnonzero(real[sequence])
        if not len(place):
            return
        place = move_like(place, out.last_hidden_state)
        part = encode(gather(inputs, config, sequence, place))
        for whole, states in zip(out.states(), part.states(), strict=True):
            whole[sequence, place] = states[0]
        for whole, weights in zip(out.attentions or (), part.attentions or (), strict=True):
            if exact:
                whole[sequence][:, place[:, None], place] = weights[0]
            else:
                whole[sequence][:, place, : weights.shape[-1]] = weights[0]

    if get_array_module(out.last_hidden_state) is np:
        parallel_map(alone, range(len(real)))
    else:
        for sequence in range(len(real)):
            alone(sequence)
    return replace(out, real=move_like(real, out.last_hidden_state))


def gather(inputs: Inputs, config: NystromformerConfig, sequence: int, place: Array) -> Inputs:
    """The inputs of one sequence at some positions, as a batch of one without padding."""
    shape = inputs.real.shape  # type: ignore[union-attr]

    def pick(array: Array) -> Array:
        if array is None:
            return None
        xp = get_array_module(array)
        return xp.broadcast_to(array, (*shape, *array.shape[2:]))[sequence, place][None]

    positions = default_positions(place, config, len(place)) if inputs.position_ids is None else pick(inputs.position_ids)
    return Inputs(
        pick(inputs.input_ids),
        pick(inputs.inputs_embeds),
        pick(inputs.token_type_ids),
        positions,
        None,
        inputs.head_mask,
        None,
    )
