"""What all pipelines do: many inputs in, one answer each out, in order, reading little ahead."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Generic, NoReturn, TypeVar

import numpy as np

from nystrom_np.array_module import to_numpy
from nystrom_np.config import NystromformerConfig
from nystrom_np.functional import softmax
from nystrom_np.model.prediction import split
from nystrom_np.tokenization import NystromformerTokenizer

__all__ = ["Pipeline", "trained_length"]

Options = TypeVar("Options")

Encoding = dict[str, Any]
"""``input_ids``, ``attention_mask`` and ``token_type_ids`` of one sequence, or of the choices of one question."""


def trained_length(config: NystromformerConfig) -> int | None:
    """Return the length to which a pipeline pads shorter inputs, or None if it pads none.

    The reference computes Nyström attention at one length only, S = m·⌊``segment_means_seq_len`` / m⌋ for m
    landmarks, so a checkpoint that runs it was trained on inputs that were padded to S. Unless ``masking`` is
    ``"invariant"``, the padding has a share in the landmarks and in the convolution, and the checkpoint answers
    well only where it is there. Longer inputs run at their own length. Dense attention was trained at any length.

    Parameters
    ----------
    config : NystromformerConfig

    Returns
    -------
    int or None

    Examples
    --------
    >>> trained_length(NystromformerConfig(num_landmarks=16, segment_means_seq_len=100))
    96
    >>> trained_length(NystromformerConfig(num_landmarks=16, segment_means_seq_len=100, masking="invariant"))
    >>> trained_length(NystromformerConfig(num_landmarks=64, segment_means_seq_len=64))
    """
    if not config.uses_nystrom_attention or config.masking == "invariant":
        return None
    landmarks = config.num_landmarks
    return landmarks * (config.segment_means_seq_len // landmarks) or None


class Pipeline(Generic[Options]):
    """Text in, answers out. Made by :func:`nystrom_np.pipelines.pipeline`; one subclass a task.

    Parameters
    ----------
    model : model
        With the head of the task.
    tokenizer : NystromformerTokenizer
    batch_size : int
        How many sequences are read and held at a time.
    **options
        Of the task: what is taken where a call says nothing else.

    Raises
    ------
    TypeError
        If the model has another head, or there is no such option.
    ValueError
        If the head was not in the file that the model comes from, or an option has a wrong value.
    """

    task: str
    head: Any
    options: type[Options]
    """A dataclass whose fields are the options and their defaults, and which checks them."""

    def __init__(self, model: Any, tokenizer: Any, batch_size: Any = 32, **options: Any) -> None:
        if not isinstance(model, self.head):
            raise TypeError(f"{self.task} needs a {self.head.__name__}; found {type(model).__name__}")
        if model.initialised:
            raise ValueError(f"{self.task} needs a trained head; {', '.join(model.initialised)} were not in the file")
        if not isinstance(tokenizer, NystromformerTokenizer):
            raise TypeError(f"tokenizer must be a NystromformerTokenizer; found {type(tokenizer).__name__}")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a positive integer; found {batch_size!r}")
        self.model = model
        self.tokenizer: NystromformerTokenizer = tokenizer
        self.batch_size = batch_size
        self.chosen = self._choose(self.options(), options)

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Answer.

        Parameters
        ----------
        inputs : one input, a list of them, or an iterator
        **options
            Of the task.

        Returns
        -------
        the answer, or a list of answers, or for an iterator an iterator over answers
        """
        return self._respond(inputs, self._choose(self.chosen, options))

    def encode(self, item: Any, options: Options) -> tuple[Any, list[Encoding]]:
        """Return what :meth:`answer` will want to know of an input, and the sequences to run for it."""
        raise NotImplementedError

    def answer(self, known: Any, outputs: list[Any], options: Options) -> Any:
        """Make an answer of the model's outputs for the sequences of an input."""
        raise NotImplementedError

    def _choose(self, before: Options, given: dict[str, Any]) -> Options:
        names = [field.name for field in fields(self.options)]  # type: ignore[arg-type]
        for name in given:
            if name not in names:
                raise TypeError(f"{self.task} has the options {', '.join(names)}; found {name!r}")
        return replace(before, **given)  # type: ignore[type-var]

    def _respond(self, inputs: Any, options: Options) -> Any:
        if isinstance(inputs, list | tuple):
            return list(self._answers(inputs, options))
        if isinstance(inputs, Iterator):
            return self._answers(inputs, options)
        [answer] = self._answers([inputs], options)
        return answer

    def _answers(self, inputs: Iterable[Any], options: Options) -> Iterator[Any]:
        waiting: deque[tuple[Any, int]] = deque()  # what is known of each input that was read, and its sequences

        def encodings() -> Iterator[Encoding]:
            for item in inputs:
                known, rows = self.encode(item, options)
                self._check_lengths(rows)
                waiting.append((known, len(rows)))
                yield from rows

        outputs: list[Any] = []
        for output in self._outputs(encodings()):
            outputs.append(output)
            known, count = waiting[0]
            if len(outputs) == count:
                waiting.popleft()
                yield self.answer(known, outputs, options)
                outputs = []

    def _check_lengths(self, rows: list[Encoding]) -> None:
        """Refuse what is too long when it is read, so that the error comes with the input that it is about."""
        limit = self.model.config.max_position_embeddings
        longest = max(np.shape(row["input_ids"])[-1] for row in rows)
        if longest > limit:
            raise ValueError(f"an input has {longest} tokens, more than the model's {limit} positions")

    def _outputs(self, encodings: Iterator[Encoding]) -> Iterator[Any]:
        """Run the model over sequences; each output is that of its sequence alone, without padding."""
        length = trained_length(self.model.config)
        if length is None:
            yield from self.model.predict(encodings, self.batch_size, progress=False)
            return
        for encoding in encodings:  # one by one: with the original initial value of the inverse, others have a say
            arguments = {name: self._padded(name, row, length)[None] for name, row in encoding.items()}
            record = self.model(**arguments, return_dict=True)
            if not self.model.choices:
                [record] = split(record, arguments["attention_mask"], self.model.config, self.model.per_token)
            yield record

    def _padded(self, name: str, row: Any, length: int) -> np.ndarray:
        array = np.asarray(row)
        missing = max(0, length - array.shape[-1])
        at_the_end = self.tokenizer.padding_side == "right"
        width = [(0, 0)] * (array.ndim - 1) + [(0, missing) if at_the_end else (missing, 0)]
        fill = (self.tokenizer.pad_token_id or 0) if name == "input_ids" else 0
        return np.pad(array, width, constant_values=fill)


def model_inputs(window: Any) -> Encoding:
    """Return what the model takes, of an encoding of the tokenizers library."""
    return {"input_ids": window.ids, "attention_mask": window.attention_mask, "token_type_ids": window.type_ids}


def probabilities(logits: Any) -> np.ndarray:
    """Softmax over the last axis, in float64 on the CPU."""
    return softmax(to_numpy(logits).astype(np.float64))


def check_count(name: str, value: Any) -> None:
    """Refuse what is not a positive integer."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive integer; found {value!r}")


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Refuse what is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; found {value!r}")


def check_text(name: str, value: Any) -> str:
    """Return a text that must be one."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str; found {type(value).__name__} {value!r:.60}")
    return value


def check_item(item: Any, names: Sequence[str]) -> list[Any]:
    """Return the values of a mapping that must have exactly these keys."""
    if not isinstance(item, Mapping) or set(item) != set(names):
        wrong(item, names)
    return [item[name] for name in names]


def wrong(item: Any, names: Sequence[str]) -> NoReturn:
    """Say what an input looks like."""
    found = sorted(map(str, item)) if isinstance(item, Mapping) else f"{type(item).__name__} {item!r:.60}"
    raise ValueError(f"an input must have {' and '.join(names)}; found {found}")
