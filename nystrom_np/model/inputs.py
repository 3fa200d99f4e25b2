"""What users pass to a model, checked: every mistake is one sentence that names the argument.

Arguments that come from the host (lists, NumPy arrays) are checked there, before they are moved to the model.
The values of those that already lie on its device are checked by reductions on the device, which are read
together, once, when all work is queued: the forward pass never waits for the device in between.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nystrom_np.array_module import Array, get_array_module, move_like, to_numpy
from nystrom_np.config import NystromformerConfig
from nystrom_np.definition import is_exact
from nystrom_np.model.packing import Packed, Padded

__all__ = ["Checks", "Inputs", "check_inputs", "check_shape", "default_positions"]


@dataclass
class Inputs:
    """Checked arguments of a forward pass, as :func:`nystrom_np.definition.encode` takes them.

    Masks are booleans, or None where nothing is masked. The layout is packed, with (1, N) for (B, L), where padding or
    other sequences could have an influence and must not.
    """

    words: Array
    token_type_ids: Array
    position_ids: Array
    mask: Array
    head_mask: Array
    layout: Padded

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What follows the parameters and the configuration."""
        tokens = (self.words, self.token_type_ids, self.position_ids)
        return (*tokens, self.mask, self.head_mask, self.layout.segments)


class Checks:
    """Turns arguments into arrays beside the model and checks their values: on the host at once, on a device later.

    Arguments are moved to where ``like`` lies, a parameter of the model. ``choices`` is how many were folded into each
    sequence of the batch, so that messages count as the caller does.
    """

    def __init__(self, like: Array) -> None:
        self.like = like
        self.choices: int | None = None
        self._later: list[tuple[Array, Callable[[], None]]] = []

    def array(self, name: str, value: Any, kinds: str) -> Array:
        """Return an argument as an array, on the host or where the model lies; a ValueError if it is none.

        ``kinds`` are NumPy's kinds of dtype that are allowed: of "b" (bool), "iu" (integers), "f" (floats).
        """
        if on_device(value):
            here = get_array_module(value) is get_array_module(self.like)
            array = value if here else to_numpy(value)
        else:
            array = _host_array(name, value)
        if array.size == 0:
            raise ValueError(f"{name} must not be empty; found shape {array.shape}")
        if array.dtype.kind not in kinds:
            words = {"b": "bool", "i": "integers", "f": "floats"}
            allowed = " or ".join(word for kind, word in words.items() if kind in kinds)
            raise ValueError(f"{name} must hold {allowed}; found {array.dtype}")
        return array

    def values(
        self,
        array: Array,
        wrong: Callable[[Array], Array],
        message: Callable[[Any, tuple[int, ...]], Exception],
    ) -> Array:
        """Check the values of what :meth:`array` returned, and return it beside the model.

        ``wrong`` makes booleans of the array, true where a value is not allowed, and ``message`` the exception for the
        first such value and its index.
        """

        def check(host: np.ndarray) -> None:
            bad = wrong(host)
            if bad.any():
                index = tuple(int(i) for i in np.argwhere(bad)[0])
                raise message(host[index].item(), index)

        if isinstance(array, np.ndarray):
            check(array)
            return move_like(array, self.like)
        self._later.append((wrong(array).any(), lambda: check(to_numpy(array))))
        return array

    def finish(self) -> None:
        """Read the checks that ran on the device, in one transfer; to be called when all work is queued."""
        if self._later:
            flags = to_numpy(get_array_module(self.like).stack([flag for flag, _ in self._later]))
            for failed, (_, check) in zip(flags, self._later, strict=True):
                if failed:
                    check()
            self._later.clear()

    def ids(self, name: str, array: Array, limit: int, what: str) -> Array:
        """Return ids that index a table of ``limit`` rows."""

        def message(found: Any, index: tuple[int, ...]) -> Exception:
            place = self._place(name, index)
            return IndexError(f"{name}[{place}] is {found}, but {what} has {limit} rows: 0 to {limit - 1}")

        return self.values(array, lambda ids: (ids < 0) | (ids >= limit), message)

    def _place(self, name: str, index: tuple[int, ...]) -> str:
        """An index as the caller counts: by example and choice where choices were folded into the batch."""
        if self.choices and name != "head_mask":
            index = (*divmod(index[0], self.choices), *index[1:])
        return ", ".join(map(str, index))

    def binary(self, name: str, value: Any) -> Array:
        """Return a mask of ones and zeros as booleans; a mask from the host that masks nothing as None."""

        def message(found: Any, index: tuple[int, ...]) -> Exception:
            place = self._place(name, index)
            return ValueError(f"{name} must hold only 0 and 1 (or bool); found {found} at [{place}]")

        array = self.array(name, value, "biuf")
        if isinstance(array, np.ndarray) and (array == 1).all():
            return None
        return self.values(array, lambda mask: (mask != 0) & (mask != 1), message) != 0

    def labels(self, name: str, labels: Array, classes: int, ignore_index: int = -100) -> Array:
        """Return class labels, from 0 to classes − 1 or ignored, in a type that can hold both."""

        def message(found: Any, index: tuple[int, ...]) -> Exception:
            place = ", ".join(map(str, index))
            return IndexError(
                f"{name}[{place}] is {found}, but there are {classes} classes: 0 to {classes - 1}, "
                f"or {ignore_index} for a label to ignore"
            )

        def wrong(labels: Array) -> Array:
            return ((labels < 0) | (labels >= classes)) & (labels != ignore_index)

        return self.values(labels.astype("int64", copy=False), wrong, message)


def on_device(value: Any) -> bool:
    """Tell whether a value is an array of another module than NumPy.

    Examples
    --------
    >>> on_device([1, 2])
    False
    """
    try:
        return get_array_module(value) is not np
    except TypeError:  # lists and the like, which NumPy may be able to read
        return False


def _host_array(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except Exception as error:  # of lists that are ragged, or of an object that fails to become an array
        raise ValueError(f"{name} must be an array or nested lists of equal lengths ({error})") from None
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold numbers; found dtype {array.dtype}")
    return array


def check_shape(name: str, array: Array, *allowed: tuple[int, ...], words: str = "") -> Array:
    """Return the array if its shape is one of those allowed.

    Raises
    ------
    ValueError
        Naming the argument, the shapes allowed and the shape found.

    Examples
    --------
    >>> import numpy as np
    >>> check_shape("labels", np.zeros(3), (2,), (2, 1), words="(batch,)")
    Traceback (most recent call last):
    ValueError: labels must have shape (2,) or (2, 1), which is (batch,); found (3,)
    """
    if array.shape not in allowed:
        shapes = " or ".join(str(shape) for shape in dict.fromkeys(allowed))
        raise ValueError(f"{name} must have shape {shapes}{words and f', which is {words}'}; found {array.shape}")
    return array


def check_inputs(
    checks: Checks,
    config: NystromformerConfig,
    input_ids: Any = None,
    attention_mask: Any = None,
    token_type_ids: Any = None,
    position_ids: Any = None,
    head_mask: Any = None,
    inputs_embeds: Any = None,
) -> Inputs:
    """Check the arguments of a forward pass and complete them with their defaults.

    They are as users pass them: see :class:`nystrom_np.NystromformerModel`.

    Raises
    ------
    ValueError
        For a wrong shape or dtype, a mask that is not binary, both or neither of ``input_ids`` and
        ``inputs_embeds``, a sequence that is too long.
    IndexError
        For an id outside its table.

    Examples
    --------
    >>> import numpy as np
    >>> inputs = check_inputs(Checks(np.zeros(1)), NystromformerConfig(), [[5, 6, 7]], [[1, 1, 0]])
    >>> inputs.position_ids, inputs.mask.shape
    (array([[2, 3, 4]]), (1, 1, 1, 3))
    """
    if (input_ids is None) == (inputs_embeds is None):
        found = "neither" if input_ids is None else "both"
        raise ValueError(f"exactly one of input_ids and inputs_embeds must be given; found {found}")
    if input_ids is not None:
        words = checks.array("input_ids", input_ids, "iu")
        shape = _two_axes("input_ids", words.shape, "(batch, length)")
    else:
        words = move_like(checks.array("inputs_embeds", inputs_embeds, "f"), checks.like)
        words = words.astype(checks.like.dtype, copy=False)
        shape = _two_axes("inputs_embeds", words.shape, "(batch, length, hidden_size)", config.hidden_size)
    if config.chunk_size_feed_forward > 0 and shape[1] % config.chunk_size_feed_forward:
        raise ValueError(
            f"the sequence length must be a multiple of chunk_size_feed_forward={config.chunk_size_feed_forward}; "
            f"found {shape[1]}"
        )
    mask, not_padding = _check_mask(checks, config, attention_mask, shape)

    def ids(name: str, value: Any, limit: int, table: str) -> Array:
        array = _per_token(name, checks.array(name, value, "iu"), shape)
        return checks.ids(name, blank_padding(array, not_padding), limit, table)

    if input_ids is not None:
        words = ids("input_ids", words, config.vocab_size, "the word embedding")
    if position_ids is not None:
        rows = config.max_position_embeddings + 2
        position_ids = ids("position_ids", position_ids, rows, "the position embedding")
    elif not_padding is None:  # else each sequence has its own
        position_ids = default_positions(checks.like, config, shape[1])
    if token_type_ids is None:
        token_type_ids = get_array_module(checks.like).zeros((1, shape[1]), dtype="int64")
    else:
        token_type_ids = ids("token_type_ids", token_type_ids, config.type_vocab_size, "the token type embedding")
    heads = _check_head_mask(checks, config, head_mask)
    if not_padding is None:
        return Inputs(words, token_type_ids, position_ids, mask, heads, Padded())
    layout = Packed(not_padding, checks.like)
    positions = _positions_alone(layout, checks.like, config) if position_ids is None else layout.pack(position_ids)
    return Inputs(layout.pack(words), layout.pack(token_type_ids), positions, None, heads, layout)


def _positions_alone(layout: Packed, like: Array, config: NystromformerConfig) -> Array:
    """The default position ids (1, N) of packed tokens: those of each sequence begin with the first."""
    starts = layout.starts()
    table = default_positions(like, config, int(max(starts)) + 1)[0]
    return table[move_like(starts, like)][None]


def blank_padding(array: Array, not_padding: np.ndarray | None, fill: int = 0) -> Array:
    """Return integers, broadcast to the batch, with those at padding replaced: padding may hold anything."""
    if not_padding is None:
        return array
    xp = get_array_module(array)
    array = array if fill >= 0 else array.astype("int64")  # an unsigned type has no room for it
    return xp.where(move_like(not_padding, array), xp.broadcast_to(array, not_padding.shape), fill)


def _two_axes(name: str, shape: tuple[int, ...], words: str, *rest: int) -> tuple[int, int]:
    if len(shape) != 2 + len(rest) or shape[2:] != rest:
        raise ValueError(
            f"{name} must have shape {words}{f' with hidden_size {rest[0]}' if rest else ''}; found {shape}"
        )
    return shape[0], shape[1]


def default_positions(like: Array, config: NystromformerConfig, length: int) -> Array:
    """Return the position ids 2, 3, …, length + 1, shape (1, length), beside an array.

    Raises
    ------
    ValueError
        If the position table has no row for the last of them.

    Examples
    --------
    >>> import numpy as np
    >>> default_positions(np.zeros(1), NystromformerConfig(), 4)
    array([[2, 3, 4, 5]])
    """
    if length > config.max_position_embeddings:
        raise ValueError(
            f"the sequence has {length} tokens, but max_position_embeddings is {config.max_position_embeddings}: "
            "shorten it, or give position_ids"
        )
    return get_array_module(like).arange(2, length + 2)[None]


def _per_token(name: str, ids: Array, shape: tuple[int, int]) -> Array:
    batch, length = shape
    ids = ids[None] if ids.ndim == 1 else ids
    words = "(length,), (1, length), (batch, length) or (batch, 1)"
    return check_shape(name, ids, (1, length), (batch, length), (batch, 1), words=words)


def _check_mask(
    checks: Checks, config: NystromformerConfig, value: Any, shape: tuple[int, int]
) -> tuple[Array, np.ndarray | None]:
    """The attention mask with an axis for the heads, and its copy on the host if sequences are taken one by one."""
    batch, length = shape
    alone = config.masking == "invariant" and batch > 1
    if value is None:
        return None, np.ones(shape, bool) if alone else None
    array = checks.array("attention_mask", value, "biuf")
    per_query = is_exact(config, length) and config.masking != "invariant"
    words = "(batch, length)" + (", or (batch, length, length) where attention is exact" if per_query else "")
    allowed = [(batch, length), (1, length)] + [(batch, length, length), (1, length, length)] * per_query
    check_shape("attention_mask", array, *allowed, words=words)
    not_padding = None
    if config.masking == "invariant":  # needed on the host: a mask from a device is read before any work
        not_padding = np.broadcast_to(to_numpy(array) != 0, shape)
    mask = checks.binary("attention_mask", array)
    if mask is None:
        return None, not_padding if alone else None
    mask = get_array_module(mask).broadcast_to(mask, (batch, *mask.shape[1:]))
    return (mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]), not_padding


def _check_head_mask(checks: Checks, config: NystromformerConfig, value: Any) -> Array:
    if value is None:
        return None
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    array = checks.array("head_mask", value, "biuf")
    check_shape("head_mask", array, (heads,), (layers, heads), words="(heads,) or (layers, heads)")
    mask = checks.binary("head_mask", array)
    return mask if mask is None else get_array_module(mask).broadcast_to(mask, (layers, heads))
