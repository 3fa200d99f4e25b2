"""A vector for each of many texts: lines are read in windows, and in each the texts of about one length run together.

A window is a number of lines that depends on the lines alone, not on where a run was interrupted. So the batches of a
file are always the same, and so are the bytes of its vectors, on one machine.
"""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from nystrom_np.array_module import to_numpy
from nystrom_np.files import json_values, text_lines
from nystrom_np.model import NystromformerModel
from nystrom_np.pipelines.base import Encoding, Pipeline, PipelineOptions, check_choice, trained_length
from nystrom_np.pipelines.loading import load_whole, shipped_weights
from nystrom_np.tokenization import NystromformerTokenizer

__all__ = ["POOLING", "TextVectors", "Window", "beside", "lines_of", "windows"]

Item = TypeVar("Item")

POOLING = ("mean", "first")

LINES_PER_WINDOW, BYTES_PER_WINDOW = 512, 2**17
"""A window ends with the line that reaches one of them: what is sorted by length, and what an interruption may cost."""
LINES_PER_BATCH, TOKENS_PER_BATCH = 128, 2**13
"""Most of a batch, which one pass of the model takes."""
CHARACTERS_PER_TOKEN = 64
"""Of a text, so many for each token that the model takes are looked at: those that follow are cut off anyway."""
LONGEST_LINE = 2**26
"""Bytes. A line is read whole, so one that never ends would fill the memory."""


class Window(NamedTuple):
    """Consecutive lines.

    Attributes
    ----------
    texts : list of str
    ids : list
        The value under ``"id"`` of lines that are objects, None for the others.
    digest : str
        Of the bytes of the lines.
    """

    texts: list[str]
    ids: list[Any]
    digest: str


def lines_of(file: Any, source: object, first: int = 1) -> Iterator[bytes]:
    r"""Yield the lines of a file with their ends. A ValueError names one that is too long to be one.

    Examples
    --------
    >>> import io
    >>> list(lines_of(io.BytesIO(b"one\n\ntwo"), "a.txt"))
    [b'one\n', b'\n', b'two']
    """
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), start=first):
        if len(line) > LONGEST_LINE:
            raise ValueError(f"{source}, line {number} is longer than {LONGEST_LINE:,} bytes")
        yield line


def windows(lines: Iterable[bytes], source: object, field: str, is_json: bool, first: int = 1) -> Iterator[Window]:
    r"""Cut lines into windows, as texts.

    Parameters
    ----------
    lines : iterable of bytes
    source : object
        What errors call the file.
    field : str
        The key of the text in an object of JSON Lines.
    is_json : bool
        Whether the lines are JSON.
    first : int
        The number of the first line.

    Yields
    ------
    Window

    Raises
    ------
    ValueError
        If a line is not a text; it says which.

    Examples
    --------
    >>> [window.texts for window in windows([b"one\n", b"two\n"], "a.txt", "text", is_json=False)]
    [['one', 'two']]
    """
    digest, size, texts, ids = hashlib.sha256(), 0, list[str](), list[Any]()

    def digested() -> Iterator[bytes]:
        nonlocal size
        for line in lines:
            digest.update(line)
            size += len(line)
            yield line

    placed = text_lines(digested(), source, first)
    for place, value in json_values(placed) if is_json else placed:
        texts.append(_text_of(value, field, place))
        ids.append(value.get("id") if isinstance(value, dict) else None)
        if len(texts) == LINES_PER_WINDOW or size >= BYTES_PER_WINDOW:
            yield Window(texts, ids, digest.hexdigest())
            digest, size, texts, ids = hashlib.sha256(), 0, [], []
    if texts:
        yield Window(texts, ids, digest.hexdigest())


def _text_of(value: Any, field: str, place: str) -> str:
    text = value.get(field) if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise ValueError(f"{place} is not a string, or an object with a string under {field!r}")
    return text


def beside(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the items, each made in a thread of its own while the one before it is worked on.

    Examples
    --------
    >>> list(beside(iter([1, 2])))
    [1, 2]
    """
    nothing: Any = object()
    with ThreadPoolExecutor(1, "nystrom_np") as helper:
        waiting = helper.submit(next, items, nothing)
        while (item := waiting.result()) is not nothing:
            waiting = helper.submit(next, items, nothing)
            yield item


@dataclass(frozen=True)
class _Options(PipelineOptions):
    pooling: Any = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("pooling", self.pooling, POOLING)


class TextVectors(Pipeline[_Options]):
    """A pipeline from encodings to vectors, one a text.

    Examples
    --------
    >>> make = TextVectors.of(None, "mean", "float32", "cpu", {})
    >>> make.vectors(make.encodings(["A dog.", "Paris is the capital of France."])).shape == (2, make.width)
    True
    """

    task = "embed"
    head = NystromformerModel
    options = _Options

    @classmethod
    def of(cls, model: Any, pooling: str, dtype: str, device: str, overrides: dict[str, Any]) -> "TextVectors":
        """Load a checkpoint; without one, the shipped masked language model."""
        folder = shipped_weights() / "masked-lm" if model is None else model
        tokenizer = NystromformerTokenizer.from_pretrained(folder)
        body = load_whole(NystromformerModel, folder, dtype, device, **overrides)
        return cls(body, tokenizer, LINES_PER_BATCH, pooling=pooling)

    @property
    def width(self) -> int:
        """How many numbers a vector has."""
        return int(self.model.config.hidden_size)

    def encodings(self, texts: list[str]) -> list[Encoding]:
        """Tokenise texts, each cut to the model's length."""
        return self.cut(texts)[0]

    def cut(self, texts: list[str]) -> tuple[list[Encoding], int]:
        """Tokenise texts, each cut to the model's length, and count those that were."""
        most = CHARACTERS_PER_TOKEN * self.longest
        columns = self.tokenizer([text[:most] for text in texts], truncation=True, max_length=self.longest)
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        cut = [len(text) > most or bool(columns[number].overflowing) for number, text in enumerate(texts)]
        return rows, sum(cut)

    def vectors(self, encodings: list[Encoding]) -> np.ndarray:
        """Return the vectors (N, D) of a window's encodings, in their order."""
        found = np.empty((len(encodings), self.width), self.model.dtype)
        for places in self._batches([len(row["input_ids"]) for row in encodings]):
            found[places] = self([encodings[place] for place in places], batch_size=len(places))
        return found

    def _batches(self, lengths: list[int]) -> Iterator[list[int]]:
        """Yield the places of texts of about one length, the longest first, as many as one pass takes."""
        least = trained_length(self.model.config) or 0
        order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
        while order:
            room = TOKENS_PER_BATCH // max(lengths[order[0]], least)
            count = max(1, min(room, LINES_PER_BATCH))
            yield order[:count]
            order = order[count:]

    def encode(self, item: Encoding, options: _Options) -> tuple[None, list[Encoding]]:
        """Take an encoding as it is: the tokenizer works beside the model."""
        return None, [item]

    def answer(self, known: None, outputs: list[Any], options: _Options) -> np.ndarray:
        """Pool the last hidden states of a text."""
        tokens = to_numpy(outputs[0].last_hidden_state)[0]
        if options.pooling == "first":
            return tokens[0]
        return tokens.mean(axis=0, dtype=np.float64).astype(tokens.dtype)

    def digest(self) -> str:
        """A digest of the content of configuration, parameters and tokenizer, not of where they lie."""
        digest = hashlib.sha256(self.model.config.to_json_string(use_diff=False).encode())
        digest.update(self.tokenizer.backend.to_str().encode())
        for name, value in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(to_numpy(value)).data)
        return digest.hexdigest()
