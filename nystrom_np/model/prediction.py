"""Inference over many inputs: batches in, one result a sequence out, as if each had been alone."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from nystrom_np.array_module import start_copy_to_host, to_numpy
from nystrom_np.config import NystromformerConfig
from nystrom_np.definition import is_exact
from nystrom_np.model.inputs import on_device
from nystrom_np.outputs import ModelOutput

__all__ = ["batches", "pad", "split", "start_return", "delayed"]

Item = TypeVar("Item")

ARGUMENTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")


def batches(encodings: Any, size: Any) -> Iterator[list[Any]]:
    """Cut encodings into lists of at most ``size``, reading no further ahead.

    Encodings are an iterable of mappings, or one mapping of lists, as a tokenizer returns it for a list of texts.

    Examples
    --------
    >>> list(batches({"input_ids": [[1], [2], [3]]}, 2))
    [[{'input_ids': [1]}, {'input_ids': [2]}], [{'input_ids': [3]}]]
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"batch_size must be a positive integer; found {size!r}")
    if hasattr(encodings, "keys"):
        columns = {name: encodings[name] for name in list(encodings.keys())}
        for name, column in columns.items():
            if not hasattr(column, "__len__"):
                raise ValueError(f"{name} of several encodings must be a list or an array; found {column!r}")
        if "input_ids" not in columns:
            raise ValueError(f"encodings must have input_ids; found {sorted(columns)}")
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"encodings must have as many of each: found {lengths}")
        encodings = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    try:
        iterator = iter(encodings)
    except TypeError:
        raise ValueError(f"encodings must be mappings with input_ids; found {type(encodings).__name__}") from None
    return iter(lambda: list(islice(iterator, size)), [])


def pad(batch: Sequence[Any]) -> dict[str, np.ndarray]:
    """Arguments (B, L) of a batch of encodings of different lengths, with the mask that tells the real tokens.

    An encoding has ``input_ids`` (length,) or, of several sequences that belong together, (choices, length); optionally
    ``attention_mask``, ``token_type_ids`` and ``position_ids`` of the same shape. A ValueError if a key is none of
    these, is not in all encodings, or has another shape than the ids.

    Examples
    --------
    >>> pad([{"input_ids": [5, 6]}, {"input_ids": [7]}])["attention_mask"]
    array([[1, 1],
           [1, 0]])
    """
    rows = [{name: _row(name, encoding[name]) for name in _keys(encoding)} for encoding in batch]
    for number, row in enumerate(rows):
        if row.keys() != rows[0].keys():
            raise ValueError(f"all encodings must have the same keys; found {sorted(rows[0])} and {sorted(row)}")
        for name, array in row.items():
            if array.shape[:-1] != rows[0]["input_ids"].shape[:-1]:
                found = f"{rows[0]['input_ids'].shape} and {array.shape} ({name} of encoding {number})"
                raise ValueError(f"encodings of one batch must differ in length only; found {found}")
            if array.shape != row["input_ids"].shape:
                shape = row["input_ids"].shape
                raise ValueError(
                    f"{name} of encoding {number} must have shape {shape}, as its ids; found {array.shape}"
                )
    for row in rows:
        row.setdefault("attention_mask", np.ones(row["input_ids"].shape, int))
    length = max(row["input_ids"].shape[-1] for row in rows)
    return {name: _stacked([row[name] for row in rows], length) for name in rows[0]}


def _keys(encoding: Any) -> list[str]:
    if not hasattr(encoding, "keys"):
        raise ValueError(f"an encoding must be a mapping with input_ids; found {type(encoding).__name__}")
    keys = list(encoding.keys())
    if "input_ids" not in keys or not set(keys) <= set(ARGUMENTS):
        raise ValueError(f"an encoding must have input_ids, and may have {', '.join(ARGUMENTS[1:])}; found {keys}")
    return keys


def _row(name: str, value: Any) -> np.ndarray:
    try:
        array = to_numpy(value) if on_device(value) else np.asarray(value)
    except (ValueError, TypeError):
        raise ValueError(f"{name} of an encoding must be a list or an array; found {value!r:.60}") from None
    if array.dtype.kind not in "biuf" or array.ndim not in (1, 2) or array.size == 0:
        found = f"{array.dtype} of shape {array.shape}"
        raise ValueError(
            f"{name} of an encoding must be numbers of shape (length,) or (choices, length); found {found}"
        )
    return array


def _stacked(arrays: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Arrays (..., length) one under the other, with zeros where one is shorter."""
    out = np.zeros((len(arrays), *arrays[0].shape[:-1], length), np.result_type(*{array.dtype for array in arrays}))
    for row, array in zip(out, arrays, strict=True):
        row[..., : array.shape[-1]] = array
    return out


def delayed(items: Iterable[Item], distance: int) -> Iterator[Item]:
    """The items in their order, each handed out only once so many after it were begun.

    Where an error ends them, those begun before it are handed out first.

    Examples
    --------
    >>> begun = []
    >>> for number in delayed((begun.append(number) or number for number in range(3)), distance=1):
    ...     print(number, begun)
    0 [0, 1]
    1 [0, 1, 2]
    2 [0, 1, 2]
    """
    waiting: deque[Item] = deque()
    try:
        for item in items:
            waiting.append(item)
            if len(waiting) > distance:
                yield waiting.popleft()
    except Exception:
        yield from waiting
        raise
    yield from waiting


def start_return(record: ModelOutput) -> Callable[[], ModelOutput]:
    """Start copying a record's arrays to the host; what is returned waits for them.

    Examples
    --------
    >>> from nystrom_np.outputs import BaseModelOutput
    >>> start_return(BaseModelOutput(np.zeros((2, 3, 4))))().last_hidden_state.shape
    (2, 3, 4)
    """

    def start(value: Any) -> Callable[[], Any]:
        if value is None:
            return lambda: None
        if isinstance(value, tuple):
            parts = [start(part) for part in value]
            return lambda: tuple(wait() for wait in parts)
        return start_copy_to_host(value)

    started = {field.name: start(getattr(record, field.name)) for field in fields(record)}
    return lambda: replace(record, **{name: wait() for name, wait in started.items()})


def split(
    record: ModelOutput, mask: np.ndarray, config: NystromformerConfig, per_token: tuple[str, ...]
) -> Iterator[ModelOutput]:
    """Cut the outputs of a padded batch into those of its sequences, each a batch of one without the padding.

    The record holds NumPy arrays, of a forward pass in which padding had no influence; ``mask`` is (B, L), and
    ``per_token`` names the fields with an axis for the tokens.

    Examples
    --------
    >>> from nystrom_np.outputs import BaseModelOutput
    >>> record, mask = BaseModelOutput(np.zeros((2, 3, 4))), np.array([[1, 1, 1], [1, 0, 0]])
    >>> [one[0].shape for one in split(record, mask, NystromformerConfig(), ("last_hidden_state",))]
    [(1, 3, 4), (1, 1, 4)]
    """
    not_padding = mask != 0
    for row, places in enumerate(map(np.flatnonzero, not_padding)):
        columns = len(places) if is_exact(config, len(places)) else config.num_landmarks

        def one(name: str, value: Any, row: int = row, places: Any = places, columns: int = columns) -> Any:
            if value is None:
                return None
            if isinstance(value, tuple):
                return tuple(one(name, item) for item in value)
            if name == "attentions" and is_exact(config, not_padding.shape[1]):
                return value[row][:, places[:, None], places][None]
            if name == "attentions":
                return value[row][:, places, :columns][None]
            return value[row][places][None] if name in per_token else value[row][None]

        yield replace(record, **{field.name: one(field.name, getattr(record, field.name)) for field in fields(record)})
