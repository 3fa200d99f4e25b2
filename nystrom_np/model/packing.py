"""Sequences of different lengths packed end to end: no padding is computed, and none can have an influence.

A packed batch is one row of all real tokens, (1, N, D), of which each sequence is a segment. What is computed for it is
put back to its places here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nystrom_np.array_module import Array, get_array_module, move_like
from nystrom_np.config import NystromformerConfig
from nystrom_np.definition import is_exact

__all__ = ["Packed", "Padded", "collect"]


class Padded:
    """A batch as it was given, (B, L): everything is in its place."""

    not_padding: np.ndarray | None = None
    segments: list[slice] | None = None

    def first(self, x: Array) -> Array:
        """Return hidden states (B, L, D) of which the first is that of each sequence's first token."""
        return x

    def unpack(self, array: Array) -> Array:
        """Return what was computed for each token, (B, L, ...)."""
        return array

    def unpack_attention(self, weights: Array, config: NystromformerConfig, like: Array) -> Array:
        """Return the attention, (B, H, L, columns)."""
        return weights


class Packed(Padded):
    """Where the tokens of a packed batch belong.

    Of ``not_padding``, booleans (B, L) on the host, it keeps ``order``, the sequences that have a token, the longest
    first; ``segments``, their positions in the packed row; and ``rows`` and ``columns``, (N,), the place of each
    packed token in the padded batch, beside an array. Where no sequence has a token, the encoder is given one of zeros,
    whose place is nowhere.

    Examples
    --------
    >>> packed = Packed(np.array([[True, False], [True, True]]), np.zeros(1))
    >>> packed.order, packed.segments
    ([1, 0], [slice(0, 2, None), slice(2, 3, None)])
    >>> packed.unpack(packed.pack(np.array([[5, 6], [7, 8]])))
    array([[5, 0],
           [7, 8]])
    """

    not_padding: np.ndarray
    segments: list[slice]

    def __init__(self, not_padding: np.ndarray, like: Array) -> None:
        lengths = not_padding.sum(axis=1)
        self.not_padding = not_padding
        self.order = [int(row) for row in np.argsort(-lengths, kind="stable") if lengths[row]]
        ends = np.cumsum(lengths[self.order], dtype=int)
        self.segments = [
            slice(int(end - length), int(end)) for end, length in zip(ends, lengths[self.order], strict=True)
        ] or [slice(0, 1)]
        rows = np.repeat(np.array(self.order, int), lengths[self.order])
        columns = np.concatenate([np.flatnonzero(not_padding[row]) for row in self.order] or [np.zeros(0, int)])
        self.rows, self.columns = move_like(rows, like), move_like(columns, like)

    def pack(self, array: Array) -> Array:
        """Pack an array (B, L, ...), or one that broadcasts to it, to (1, N, ...)."""
        xp = get_array_module(array)
        if not self.order:
            return xp.zeros((1, 1, *array.shape[2:]), dtype=array.dtype)
        whole = xp.broadcast_to(array, (*self.not_padding.shape, *array.shape[2:]))
        return whole[self.rows, self.columns][None]

    def starts(self) -> np.ndarray:
        """Return how many tokens of its sequence are before each packed token."""
        return np.concatenate([np.arange(part.stop - part.start) for part in self.segments])

    def first(self, x: Array) -> Array:
        """Return the hidden states (B, 1, D) of each sequence's first token; zeros for a sequence without one."""
        out = get_array_module(x).zeros((len(self.not_padding), 1, x.shape[-1]), dtype=x.dtype)
        for row, segment in zip(self.order, self.segments, strict=False):
            out[row, 0] = x[0, segment.start]
        return out

    def unpack(self, array: Array) -> Array:
        """Put a packed array (1, N, ...) back to its places (B, L, ...), with zeros at padding."""
        out = get_array_module(array).zeros((*self.not_padding.shape, *array.shape[2:]), dtype=array.dtype)
        out[self.rows, self.columns] = array[0, : len(self.rows)]
        return out

    def unpack_attention(self, weights: Sequence[Array], config: NystromformerConfig, like: Array) -> Array:
        """Put each sequence's attention back to its place: (B, H, L, L), or (B, H, L, m) with landmarks.

        In a batch with landmarks, a sequence with no more tokens than landmarks has its own tokens' weights in the
        first columns.
        """
        batch, length = self.not_padding.shape
        exact = is_exact(config, length)
        columns = length if exact else config.num_landmarks
        out = get_array_module(like).zeros((batch, config.num_attention_heads, length, columns), dtype=like.dtype)
        for row, segment, part in zip(self.order, self.segments, weights, strict=False):
            place = self.columns[segment]
            if exact:
                out[row][:, place[:, None], place] = part[0]
            else:
                out[row][:, place, : part.shape[-1]] = part[0]
        return out


def collect(
    config: NystromformerConfig, layout: Padded, states: list[Array], attentions: list[Any]
) -> tuple[tuple[Array, ...] | None, tuple[Array, ...] | None]:
    """Return the hidden states and attentions that a configuration asks for, each in its place, or None.

    Examples
    --------
    >>> states = [np.zeros((1, 2, 4))] * 3
    >>> hidden, attentions = collect(NystromformerConfig(output_hidden_states=True), Padded(), states, [])
    >>> len(hidden), attentions
    (3, None)
    """
    hidden = tuple(layout.unpack(state) for state in states) if config.output_hidden_states else None
    if not config.output_attentions:
        return hidden, None
    return hidden, tuple(layout.unpack_attention(weights, config, states[-1]) for weights in attentions)
