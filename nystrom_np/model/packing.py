"""Sequences of different lengths packed end to end: no padding is computed, and none can have an influence.

A packed batch is one row of all real tokens, (1, N, D). Steps that treat each token alone (projections,
feed-forward, normalisation) see nothing but more rows; attention and convolution run on each sequence's segment.
"""

from dataclasses import dataclass, replace

import numpy as np

from nystrom_np.array_module import Array, get_array_module, move_like
from nystrom_np.config import NystromformerConfig
from nystrom_np.model.encoder import is_exact
from nystrom_np.model.inputs import Inputs, default_positions

__all__ = ["Encoded", "Packing", "pack"]


@dataclass
class Packing:
    """Where the tokens of a packed batch belong.

    Attributes
    ----------
    real : numpy array of booleans, (B, L)
        The padded batch: which positions are real.
    segments : dict of int to slice
        The packed positions of each sequence that has a token; long sequences come first.
    rows, columns : arrays of integers, (N,)
        The place of each packed token in the padded batch.
    """

    real: np.ndarray
    segments: dict[int, slice]
    rows: Array
    columns: Array

    @classmethod
    def of(cls, real: np.ndarray, like: Array) -> "Packing":
        """Pack what a mask (B, L) on the host calls real; the indices lie where an array does."""
        lengths = real.sum(axis=1)
        order = [int(row) for row in np.argsort(-lengths, kind="stable") if lengths[row]]
        ends = np.cumsum(lengths[order], dtype=int)
        segments = {row: slice(int(end - lengths[row]), int(end)) for row, end in zip(order, ends, strict=True)}
        rows = np.repeat(np.array(order, int), lengths[order])
        columns = np.concatenate([np.flatnonzero(real[row]) for row in order] or [np.zeros(0, int)])
        return cls(real, segments, move_like(rows, like), move_like(columns, like))

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (B, L) of the padded batch."""
        return self.real.shape

    def pack(self, array: Array) -> Array:
        """Pack an array (B, L, ...), or one that broadcasts to it, to (1, N, ...)."""
        whole = get_array_module(array).broadcast_to(array, (*self.shape, *array.shape[2:]))
        return whole[self.rows, self.columns][None]

    def unpack(self, array: Array) -> Array:
        """Put a packed array (1, N, ...) back to its places (B, L, ...), with zeros at padding."""
        out = get_array_module(array).zeros((*self.shape, *array.shape[2:]), dtype=array.dtype)
        out[self.rows, self.columns] = array[0]
        return out

    def unpack_attention(self, weights: dict[int, Array], config: NystromformerConfig, like: Array) -> Array:
        """Put each sequence's attention back to its place: (B, H, L, L), or (B, H, L, m) with landmarks.

        In a batch with landmarks, a sequence with no more tokens than landmarks has its own tokens' weights in the
        first columns.
        """
        length = self.shape[1]
        exact = is_exact(config, length)
        columns = length if exact else config.num_landmarks
        shape = (self.shape[0], config.num_attention_heads, length, columns)
        out = get_array_module(like).zeros(shape, dtype=like.dtype)
        for row, part in weights.items():
            place = self.columns[self.segments[row]]
            if exact:
                out[row][:, place[:, None], place] = part[0]
            else:
                out[row][:, place, : part.shape[-1]] = part[0]
        return out


def pack(inputs: Inputs, config: NystromformerConfig, like: Array) -> Inputs:
    """Pack checked inputs with ``real`` set: the same arguments for one row of all real tokens.

    Raises
    ------
    ValueError
        If a sequence has more tokens than there are default positions.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_np.model.inputs import Checks, check_inputs
    >>> config, home = NystromformerConfig(masking="invariant"), np.zeros(1)
    >>> inputs = check_inputs(Checks(home), config, [[5, 6, 7], [8, 9, 1]], [[0, 1, 1], [1, 1, 1]])
    >>> packed = pack(inputs, config, home)
    >>> packed.input_ids, packed.position_ids
    (array([[8, 9, 1, 6, 7]]), array([[2, 3, 4, 2, 3]]))
    """
    packing = Packing.of(inputs.real, like)  # type: ignore[arg-type]

    def packed(array: Array) -> Array:
        return None if array is None else packing.pack(array)

    positions = packed(inputs.position_ids)
    if positions is None:
        longest = max((segment.stop - segment.start for segment in packing.segments.values()), default=1)
        table = default_positions(like, config, longest)[0]
        starts = [np.arange(segment.stop - segment.start) for segment in packing.segments.values()]
        positions = table[move_like(np.concatenate(starts or [np.zeros(0, int)]), like)][None]
    return replace(
        inputs,
        input_ids=packed(inputs.input_ids),
        inputs_embeds=packed(inputs.inputs_embeds),
        token_type_ids=packed(inputs.token_type_ids),
        position_ids=positions,
        mask=None,
        packing=packing,
    )


@dataclass
class Encoded:
    """What the encoder hands to a head: hidden states of a batch, padded (B, L, D) or packed (1, N, D).

    Attributes
    ----------
    last_hidden_state : array, (B, L, D) or (1, N, D)
    hidden_states, attentions : tuple of arrays (B, ...), or None
    packing : Packing or None
        Where the tokens belong, if they are packed.
    """

    last_hidden_state: Array
    hidden_states: tuple[Array, ...] | None
    attentions: tuple[Array, ...] | None
    packing: Packing | None = None

    def first_token(self) -> Array:
        """The hidden state (B, D) of each sequence's first token; zeros for a sequence without one."""
        x, packing = self.last_hidden_state, self.packing
        if packing is None:
            return x[:, 0]
        out = get_array_module(x).zeros((packing.shape[0], x.shape[-1]), dtype=x.dtype)
        for row, segment in packing.segments.items():
            out[row] = x[0, segment.start]
        return out

    def padded(self, tokens: Array) -> Array:
        """What was computed for each token of :attr:`last_hidden_state`, as (B, L, ...) with zeros at padding."""
        return tokens if self.packing is None else self.packing.unpack(tokens)

    @property
    def real(self) -> np.ndarray | None:
        """Which positions (B, L) are real, on the host; None if the encoder did not leave out the others."""
        return None if self.packing is None else self.packing.real
