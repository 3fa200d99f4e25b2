"""Batches of encoded texts for training elsewhere: the data collators that transformers offers for NumPy.

>>> from nystrom_np import NystromformerTokenizer
>>> tokenizer = NystromformerTokenizer.from_pretrained("weights/masked-lm")
>>> collate = DataCollatorWithPadding(tokenizer)
>>> collate([tokenizer("A house.") | {"label": 1}, tokenizer("A river runs here.") | {"label": 0}]).labels
array([1, 0])
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nystrom_np.tokenization import BatchEncoding, NystromformerTokenizer
from nystrom_np.tokenization.options import check_tensors

__all__ = [
    "DataCollatorForLanguageModeling",
    "DataCollatorForTokenClassification",
    "DataCollatorWithPadding",
    "DefaultDataCollator",
    "default_data_collator",
]

IGNORED = -100
"""The label of what has none."""


def default_data_collator(
    features: Sequence[Mapping[str, Any]], return_tensors: str | None = "np"
) -> dict[str, np.ndarray]:
    """Stack records whose values have one shape each.

    Parameters
    ----------
    features : list of dict
        ``label`` or ``label_ids`` in them becomes ``labels``. Texts and None are left out.
    return_tensors : {"np"}

    Returns
    -------
    dict of str to numpy.ndarray
        Labels are int64 if the first is an integer, else float32.

    Raises
    ------
    ValueError
        If other tensors are asked for, there is no record, one lacks a value of the first, or values have different
        shapes or are no numbers.

    Examples
    --------
    >>> default_data_collator([{"input_ids": [2, 3], "label": 1}, {"input_ids": [2, 7], "label": 0}])["labels"]
    array([1, 0])
    """
    if return_tensors != "np":
        raise ValueError(f'return_tensors is "np", found {return_tensors!r}')
    if not features:
        raise ValueError("features must be one record or more; found none")
    first, batch = features[0], dict[str, np.ndarray]()
    for name in ("label", "label_ids"):
        if first.get(name) is not None and not batch:
            labels = _stacked(features, name)
            batch["labels"] = labels.astype(np.int64 if labels.dtype.kind in "iu" else np.float32)
    for name, value in first.items():
        if name not in ("label", "label_ids") and value is not None and not isinstance(value, str):
            batch[name] = _stacked(features, name)
    return batch


def _stacked(features: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """One array of a value of all records."""
    if any(one.get(name) is None for one in features):
        raise ValueError(f"every record must have {name!r}, as the first has")
    try:
        array = np.asarray([one[name] for one in features])
    except ValueError:
        raise ValueError(f"{name!r} must have one shape in all records") from None
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name!r} must be numbers; found {features[0][name]!r:.80}")
    return array


@dataclass
class DefaultDataCollator:
    """`default_data_collator` as an object.

    Parameters
    ----------
    return_tensors : {"np"}

    Examples
    --------
    >>> DefaultDataCollator()([{"a": [1, 2]}, {"a": [3, 4]}])["a"].shape
    (2, 2)
    """

    return_tensors: str = "np"

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Make a batch: see `default_data_collator`."""
        return default_data_collator(features, self.return_tensors)


@dataclass
class DataCollatorWithPadding:
    """Fill encodings up to one length, and stack them.

    Parameters
    ----------
    tokenizer : NystromformerTokenizer
    padding, max_length, pad_to_multiple_of
        As for :meth:`nystrom_np.NystromformerTokenizer.pad`.
    return_tensors : {"np", None}
        None: lists.

    Examples
    --------
    >>> from nystrom_np import NystromformerTokenizer
    >>> tokenizer = NystromformerTokenizer.from_pretrained("weights/masked-lm")
    >>> DataCollatorWithPadding(tokenizer)([{"input_ids": [2, 3]}, {"input_ids": [2, 7, 3]}]).input_ids
    array([[2, 3, 0],
           [2, 7, 3]])
    """

    tokenizer: NystromformerTokenizer
    padding: Any = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    return_tensors: str | None = "np"

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> BatchEncoding:
        """Make a batch.

        Parameters
        ----------
        features : list of dict
            Encodings. ``label`` or ``label_ids`` in them becomes ``labels``.

        Returns
        -------
        BatchEncoding
        """
        batch = self._padded(features, self.return_tensors)
        for name in ("label", "label_ids"):
            if name in batch:
                batch["labels"] = batch.pop(name)
        return batch

    def _padded(self, features: Sequence[Mapping[str, Any]], return_tensors: str | None) -> BatchEncoding:
        return self.tokenizer.pad(
            list(features), self.padding, self.max_length, self.pad_to_multiple_of, return_tensors=return_tensors
        )


@dataclass
class DataCollatorForTokenClassification(DataCollatorWithPadding):
    """Fill encodings up to one length, and the labels of their tokens.

    Parameters
    ----------
    tokenizer, padding, max_length, pad_to_multiple_of, return_tensors
        As for :class:`DataCollatorWithPadding`; `return_tensors` is ``"np"``.
    label_pad_token_id : int
        The label of padding, which no loss counts.

    Examples
    --------
    >>> from nystrom_np import NystromformerTokenizer
    >>> collate = DataCollatorForTokenClassification(NystromformerTokenizer.from_pretrained("weights/masked-lm"))
    >>> collate([{"input_ids": [2], "labels": [5]}, {"input_ids": [2, 3], "labels": [5, 6]}]).labels
    array([[   5, -100],
           [   5,    6]])
    """

    label_pad_token_id: int = IGNORED

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> BatchEncoding:
        """Make a batch.

        Parameters
        ----------
        features : list of dict
            Encodings, with ``labels`` (or ``label``): one for each token.

        Returns
        -------
        BatchEncoding
            With ``labels``, if there were any.
        """
        name = "label" if "label" in features[0] else "labels"
        unlabelled = [{key: value for key, value in one.items() if key != name} for one in features]
        batch = self._padded(unlabelled, "np")
        if name in features[0]:
            length = batch["input_ids"].shape[1]
            batch["labels"] = np.array([self._filled(one[name], length) for one in features], np.int64)
        return batch

    def _filled(self, labels: Any, length: int) -> list[int]:
        own = [int(label) for label in labels]
        more = [self.label_pad_token_id] * (length - len(own))
        return own + more if self.tokenizer.padding_side == "right" else more + own


@dataclass
class DataCollatorForLanguageModeling:
    """Hide some tokens, for a model to guess: four fifths of them behind ``[MASK]``, a tenth behind any token.

    Parameters
    ----------
    tokenizer : NystromformerTokenizer
    mlm : bool
        Whether to hide any. If not, the labels are the ids, but for padding.
    mlm_probability : float
        The share of tokens that are to be guessed; special ones never are.
    pad_to_multiple_of : int, optional
        As for the tokenizer.
    return_tensors : {"np"}
    seed : int or numpy.random.RandomState, optional
        Of the choice of tokens; None: NumPy's own state, ``numpy.random.seed``, as in the reference.

    Raises
    ------
    ValueError
        If there is no token to hide others behind.

    Examples
    --------
    >>> from nystrom_np import NystromformerTokenizer
    >>> tokenizer = NystromformerTokenizer.from_pretrained("weights/masked-lm")
    >>> collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.5, seed=0)
    >>> batch = collate([tokenizer("The river runs through the town.")])
    >>> bool((batch.labels != -100).any()), batch.input_ids.shape == batch.labels.shape
    (True, True)
    """

    tokenizer: NystromformerTokenizer
    mlm: bool = True
    mlm_probability: float = 0.15
    pad_to_multiple_of: int | None = None
    return_tensors: str = "np"
    seed: Any = None

    def __post_init__(self) -> None:
        check_tensors(self.return_tensors)
        if self.mlm and self.tokenizer.mask_token is None:
            raise ValueError("masked language modelling needs a tokenizer with a mask token; mlm=False needs none")
        self._random: Any = np.random if self.seed is None else self.seed
        if isinstance(self.seed, int):
            self._random = np.random.RandomState(self.seed)

    def __call__(self, examples: Sequence[Any]) -> BatchEncoding:
        """Make a batch.

        Parameters
        ----------
        examples : list of dict, or list of list of int
            Encodings, with ``special_tokens_mask`` or without; or ids.

        Returns
        -------
        BatchEncoding
            With ``labels``, which are -100 where nothing is to be guessed.
        """
        rows = [one if isinstance(one, Mapping) else {"input_ids": one} for one in examples]
        own = [isinstance(one, Mapping) for one in examples]
        batch = self.tokenizer.pad(rows, True, None, self.pad_to_multiple_of, None if all(own) else False, "np")
        special = batch.pop("special_tokens_mask", None)
        ids = batch["input_ids"]
        if self.mlm:
            batch["input_ids"], batch["labels"] = self._hidden(ids, special)
        else:
            batch["labels"] = np.where(ids == self.tokenizer.pad_token_id, IGNORED, ids)
        return batch

    def _hidden(self, ids: np.ndarray, known: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return ids of which some are hidden, and labels; numbers are drawn in the reference's order."""
        kept = np.isin(ids, self.tokenizer.all_special_ids) if known is None else known.astype(bool)
        share = np.where(kept, 0.0, self.mlm_probability)
        asked = self._random.binomial(1, share, size=ids.shape).astype(bool)
        masked = self._random.binomial(1, 0.8, size=ids.shape).astype(bool) & asked
        other = self._random.binomial(1, 0.5, size=ids.shape).astype(bool) & asked & ~masked
        hidden = np.where(masked, self.tokenizer.mask_token_id, ids)
        hidden[other] = self._random.randint(0, len(self.tokenizer), size=np.count_nonzero(other), dtype=np.int64)
        return hidden, np.where(asked, ids, IGNORED)
