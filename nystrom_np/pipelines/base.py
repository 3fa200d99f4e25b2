"""What all pipelines do: many inputs in, one answer each out, in order, reading little ahead."""

import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from typing import Any, Generic, NoReturn, TypeVar

import numpy as np

from nystrom_np.array_module import to_numpy
from nystrom_np.config import NystromformerConfig
from nystrom_np.files import also_called
from nystrom_np.functional import softmax
from nystrom_np.model.prediction import batches, split, start_return
from nystrom_np.tokenization import NystromformerTokenizer, whole_characters
from nystrom_np.tokenization.texts import kind

__all__ = ["Pipeline", "PipelineException", "PipelineOptions", "trained_length"]

Options = TypeVar("Options", bound="PipelineOptions")

Encoding = dict[str, Any]
"""``input_ids``, ``attention_mask`` and ``token_type_ids`` of one sequence, or of the choices of one question."""


def trained_length(config: NystromformerConfig) -> int | None:
    """Return the length to which a pipeline pads shorter inputs, or None if it pads none.

    The reference computes Nyström attention at one length only, S = m · ⌊n / m⌋ for m landmarks, where n is
    ``segment_means_seq_len``, so a checkpoint that runs it was trained on inputs that were padded to S. Unless
    ``masking`` is ``"invariant"``, the padding has a share in the landmarks and in the convolution, and the
    checkpoint answers well only where it is there. Longer inputs run at their own length. Dense attention was
    trained at any length.

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


class PipelineException(ValueError):
    """An input that a task cannot answer, such as a text without a mask.

    Parameters
    ----------
    task : str
        The task of the pipeline.
    model : str
        What the model is called.
    reason : str
        The message.

    Examples
    --------
    >>> from nystrom_np.pipelines import PipelineException, pipeline
    >>> try:
    ...     pipeline("fill-mask")("no mask")
    ... except PipelineException as error:
    ...     print(error.task, error.model)
    fill-mask nystromformer
    """

    def __init__(self, task: str, model: str, reason: str) -> None:
        super().__init__(reason)
        self.task, self.model = task, model

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.task, self.model, str(self))


ALONE = {"batch": "sequence", "sequence": "sequence", "matrix": "matrix"}
"""The initial value of the inverse with which a sequence gets in a batch what it gets alone."""


@dataclass(frozen=True)
class PipelineOptions:
    """Options of every pipeline.

    Attributes
    ----------
    batch_size : int
        How many sequences are read and held at a time. No answer depends on it.
    num_workers : int, optional
        Without effect: texts are tokenised as they are read.
    """

    batch_size: Any = 32
    num_workers: Any = None

    def __post_init__(self) -> None:
        check_count("batch_size", self.batch_size)
        object.__setattr__(self, "batch_size", int(self.batch_size))

    def lowered(self, name: str) -> None:
        """Take the name of a choice in capitals, too, and a member of an enumeration for its value."""
        value = getattr(self, name)
        value = getattr(value, "value", value)
        object.__setattr__(self, name, value.lower() if isinstance(value, str) else value)


class Pipeline(Generic[Options]):
    """Text in, answers out. Made by :func:`nystrom_np.pipeline`; one subclass a task.

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
        self.model = model
        self.tokenizer: NystromformerTokenizer = tokenizer
        self.chosen = self._choose(self.options(), {"batch_size": batch_size, **options})

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Answer.

        Parameters
        ----------
        inputs : one input, a list of them, an iterator, or a dataset
            The last is anything with a length and items by number.
        **options
            Of the task, and those of :class:`.PipelineOptions`.

        Returns
        -------
        the answer, or a list of answers, or for an iterator or a dataset an iterator over answers
        """
        return self._respond(inputs, self._choose(self.chosen, options))

    def predict(self, inputs: Any) -> Any:
        """Answer: the call under the name that scikit-learn gives it.

        Parameters
        ----------
        inputs : one input, a list of them, an iterator, or a dataset

        Returns
        -------
        as the call
        """
        return self(inputs)

    transform = predict

    @property
    def device(self) -> str:
        """Where the model is."""
        return str(self.model.device)

    @also_called("save_directory")
    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the model and the tokenizer into a folder, from which a pipeline can be made again.

        Parameters
        ----------
        folder : str or path
            Made if it does not exist.
        """
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    @property
    def batch_size(self) -> int:
        """How many sequences are read and held at a time, where a call says nothing else."""
        return int(self.chosen.batch_size)

    @property
    def longest(self) -> int:
        """As many tokens as both the tokenizer and the model take of a sequence."""
        return min(self.tokenizer.model_max_length, self.model.config.max_position_embeddings)

    def encode(self, item: Any, options: Options) -> tuple[Any, list[Encoding]]:
        """Return what :meth:`answer` will want to know of an input, and the sequences to run for it."""
        raise NotImplementedError

    def answer(self, known: Any, outputs: list[Any], options: Options) -> Any:
        """Make an answer of the model's outputs for the sequences of an input."""
        raise NotImplementedError

    def _choose(self, before: Options, given: dict[str, Any]) -> Options:
        common = [field.name for field in fields(PipelineOptions)]
        names = [field.name for field in fields(self.options) if field.name not in common]
        for name in given:
            if name not in (*names, *common):
                raise TypeError(f"{self.task} has the options {', '.join([*names, *common])}; found {name!r}")
        return replace(before, **{name: given[name] for name in given if name not in common or given[name] is not None})

    def _respond(self, inputs: Any, options: Options) -> Any:
        if isinstance(inputs, list | tuple):
            return list(self._answers(inputs, options, "inputs[{}]: "))
        if isinstance(inputs, Iterator):
            return self._answers(inputs, options)
        if (
            not isinstance(inputs, str | bytes | Mapping)
            and hasattr(inputs, "__len__")
            and hasattr(inputs, "__getitem__")
        ):
            return self._answers((inputs[i] for i in range(len(inputs))), options, "inputs[{}]: ")
        [answer] = self._answers([inputs], options)
        return answer

    def _answers(self, inputs: Iterable[Any], options: Options, place: str = "") -> Iterator[Any]:
        waiting: deque[tuple[Any, int]] = deque()  # what is known of each input that was read, and its sequences

        def encodings() -> Iterator[Encoding]:
            for number, item in enumerate(inputs):
                known, rows = self._encoded(item, options, place.format(number))
                waiting.append((known, len(rows)))
                yield from rows

        outputs: list[Any] = []
        for output in self._outputs(encodings(), options.batch_size):
            outputs.append(output)
            known, count = waiting[0]
            if len(outputs) == count:
                waiting.popleft()
                yield self.answer(known, outputs, options)
                outputs = []

    def _encoded(self, item: Any, options: Options, place: str) -> tuple[Any, list[Encoding]]:
        """Return what :meth:`encode` does; errors say which input of several is meant."""
        try:
            known, rows = self.encode(item, options)
            self._check_lengths(rows)
        except PipelineException as error:
            raise PipelineException(error.task, error.model, f"{place}{error}") from error
        except (ValueError, TypeError) as error:
            if not place or type(error) not in (ValueError, TypeError):
                raise
            raise type(error)(f"{place}{error}") from error
        return known, rows

    def _check_lengths(self, rows: list[Encoding]) -> None:
        """Refuse what is too long when it is read, so that the error comes with the input that it is about."""
        limit = self.model.config.max_position_embeddings
        longest = max(np.shape(row["input_ids"])[-1] for row in rows)
        if longest > limit:
            raise ValueError(f"an input has {longest} tokens, more than the model's {limit} positions")

    def _tokenized(self, text: Any, text_pair: Any = None, **arguments: Any) -> Any:
        """Tokenise a text. Where it is to be cut or filled up and no length is given, to :attr:`longest`."""
        cuts = arguments.get("truncation") not in (None, False, "do_not_truncate")
        if (cuts or arguments.get("padding") == "max_length") and arguments.get("max_length") is None:
            arguments["max_length"] = self.longest
        return self.tokenizer(text, text_pair, **{"verbose": False, **arguments})

    def _inputs(self, window: Any) -> Encoding:
        """Return what the model takes, of an encoding of the tokenizers library."""
        values = {"input_ids": window.ids, "attention_mask": window.attention_mask, "token_type_ids": window.type_ids}
        return {name: row for name, row in values.items() if name in self.tokenizer.model_input_names}

    def _outputs(self, encodings: Iterator[Encoding], batch_size: int) -> Iterator[Any]:
        """Run the model over sequences, several at a time; each output is that of its sequence alone.

        Padding that a call asked for has its influence, as padding to the trained length has; all other sequences are
        run without any.
        """
        length = trained_length(self.model.config)
        for padded, group in groupby(encodings, lambda row: length is not None or self._is_padded(row)):
            if padded:
                for rows in batches(group, 1 if self.model.choices else batch_size):
                    yield from self._run_padded(rows, length or 0)
            else:
                yield from self.model.predict(group, batch_size, progress=False)

    def _is_padded(self, row: Encoding) -> bool:
        return not self.model.choices and 0 in row.get("attention_mask", ())

    def _run_padded(self, rows: list[Encoding], length: int) -> Iterator[Any]:
        """Run the model over sequences filled up to a length; the outputs are without what was filled up."""
        filled = [self._filled(row, length) for row in rows]
        if self.model.choices:
            yield from (self.model(**_stacked([row]), return_dict=True) for row, _ in filled)
            return
        alone = self.model.configured(pinv_initial=ALONE[self.model.config.pinv_initial])
        records: dict[int, Any] = {}
        numbers = sorted(range(len(filled)), key=lambda number: filled[number][1].size)
        for _, group in groupby(numbers, lambda number: filled[number][1].size):
            together = list(group)
            record = start_return(alone(**_stacked([filled[i][0] for i in together]), return_dict=True))()
            own = np.stack([filled[i][1] for i in together])
            records |= dict(zip(together, split(record, own, alone.config, alone.per_token), strict=True))
        yield from (records[number] for number in range(len(filled)))

    def _filled(self, row: Encoding, length: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return a sequence filled up to a length, and a mask of the tokens that it had before."""
        own = np.ones(np.shape(row["input_ids"]), np.int64)
        filled = {name: self._padded(name, array, length) for name, array in {"attention_mask": own, **row}.items()}
        return filled, self._padded("attention_mask", own, length)

    def _padded(self, name: str, row: Any, length: int) -> np.ndarray:
        array = np.asarray(row)
        own = array.shape[-1]
        fill = (self.tokenizer.pad_token_id or 0) if name == "input_ids" else 0
        filled = np.full((*array.shape[:-1], max(own, length)), fill, array.dtype)
        start = 0 if self.tokenizer.padding_side == "right" else filled.shape[-1] - own
        filled[..., start : start + own] = array
        return filled


def _stacked(rows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def probabilities(logits: Any) -> np.ndarray:
    """Softmax over the last axis, in float64 on the CPU."""
    return softmax(to_numpy(logits).astype(np.float64))


def check_count(name: str, value: Any) -> None:
    """Refuse what is not a positive integer."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a positive integer; found {value!r}")


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Refuse what is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; found {value!r}")


def check_text(name: str, value: Any) -> str:
    """Return a text that must be one, without halves of characters, so that places in it are those of tokens."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str; found {kind(value)}")
    return whole_characters(value)


def deprecated(name: str, instead: str) -> None:
    """Warn of an option under an older name."""
    warnings.warn(f"{name} is an older name: {instead}", UserWarning, stacklevel=5)


def check_item(item: Any, names: Sequence[str]) -> list[Any]:
    """Return the values of a mapping that must have these keys, and may have others."""
    if not isinstance(item, Mapping) or not set(item) >= set(names):
        wrong(item, names)
    return [item[name] for name in names]


def wrong(item: Any, names: Sequence[str]) -> NoReturn:
    """Say what an input looks like."""
    found = sorted(map(str, item)) if isinstance(item, Mapping) else kind(item)
    raise ValueError(f"an input must have {' and '.join(names)}; found {found}")
