"""``fill-mask``: the likeliest tokens in the place of each mask."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nystrom_np.model import NystromformerForMaskedLM
from nystrom_np.pipelines.base import (
    Encoding,
    Pipeline,
    PipelineException,
    PipelineOptions,
    check_count,
    check_text,
    probabilities,
)

__all__ = ["FillMaskOptions", "FillMaskPipeline"]


@dataclass(frozen=True)
class FillMaskOptions(PipelineOptions):
    """Options of ``fill-mask``.

    Attributes
    ----------
    top_k : int
        How many guesses to make for each mask.
    targets : str or list of str, optional
        The tokens to choose from. One that is not in the vocabulary stands for the first token of its text, with
        a warning. Probabilities remain those among all tokens.
    tokenizer_kwargs : dict
        Further arguments of the tokenizer, such as ``{"truncation": True}``.
    """

    top_k: Any = 5
    targets: Any = None
    tokenizer_kwargs: Any = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("top_k", self.top_k)
        if not isinstance(self.tokenizer_kwargs, Mapping):
            raise TypeError(f"tokenizer_kwargs must be a mapping; found {self.tokenizer_kwargs!r}")


class FillMaskPipeline(Pipeline[FillMaskOptions]):
    """Guess the masked tokens of a text.

    An answer is a list of guesses, the likeliest first, each a dict with ``score``, ``token`` (the id),
    ``token_str`` and ``sequence``; for a text with several masks, a list of such lists. As in the reference, a
    list of one text gives that text's own answer.

    Notes
    -----
    Names, shapes and values are those of ``FillMaskPipeline`` in transformers 4.37.2.

    Examples
    --------
    >>> from nystrom_np.pipelines import pipeline
    >>> fill = pipeline("fill-mask", top_k=2)
    >>> [sorted(guess) for guess in fill("Paris is the [MASK] of France.")]
    [['score', 'sequence', 'token', 'token_str'], ['score', 'sequence', 'token', 'token_str']]
    """

    task = "fill-mask"
    head = NystromformerForMaskedLM
    options = FillMaskOptions

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Guess.

        Parameters
        ----------
        inputs : str, list of str, or iterator over str
            With one ``[MASK]`` or more in each.
        **options
            Fields of :class:`.FillMaskOptions`.

        Returns
        -------
        list of dict, or list of list of dict; a list or an iterator of these

        Raises
        ------
        PipelineException
            If a text has no mask; a ValueError.
        ValueError
            If no target is a token.
        """
        answers = super().__call__(inputs, **options)
        return answers[0] if isinstance(inputs, list) and len(inputs) == 1 else answers

    def encode(self, item: Any, options: FillMaskOptions) -> tuple[list[int], list[Encoding]]:
        """Tokenise a text; what is known of it are its ids."""
        encoding = self._tokenized(check_text("an input", item), **options.tokenizer_kwargs)
        if self.tokenizer.mask_token_id not in encoding.input_ids:
            absent = self.tokenizer.mask_token or "mask, nor has the tokenizer"
            reason = f"the text has no {absent}: {item!r:.60}"
            raise PipelineException(self.task, self.model.config.model_type, reason)
        return encoding.input_ids, [encoding]

    def answer(self, known: list[int], outputs: list[Any], options: FillMaskOptions) -> Any:
        """Rank the tokens at each mask."""
        ids = np.array(known)
        places = np.flatnonzero(ids == self.tokenizer.mask_token_id).tolist()
        masks = []
        for place, row in zip(places, probabilities(outputs[0].logits[0][places]), strict=True):
            candidates = np.arange(len(row)) if options.targets is None else options.targets
            best = candidates[np.argsort(-row[candidates], kind="stable")[: options.top_k]]
            masks.append([self._guess(ids, place, index, row[index], len(places) == 1) for index in best.tolist()])
        return masks[0] if len(masks) == 1 else masks

    def _guess(self, ids: np.ndarray, place: int, index: int, score: float, alone: bool) -> dict[str, Any]:
        filled = np.where(np.arange(len(ids)) == place, index, ids)
        sequence = self.tokenizer.decode(filled[filled != self.tokenizer.pad_token_id], skip_special_tokens=alone)
        return {
            "score": float(score),
            "token": index,
            "token_str": self.tokenizer.decode([index]),
            "sequence": sequence,
        }

    def _choose(self, before: FillMaskOptions, given: dict[str, Any]) -> FillMaskOptions:
        if given.get("targets") is not None:
            given = given | {"targets": self._ids(given["targets"])}
        return super()._choose(before, given)

    def _ids(self, targets: Any) -> np.ndarray:
        """Return the ids of the targets, once each."""
        vocabulary, ids = self.tokenizer.get_vocab(), []
        for target in [targets] if isinstance(targets, str) else targets:
            index = vocabulary.get(check_text("a target", target))
            ids += self._first_piece(target) if index is None else [index]
        if not ids:
            raise ValueError(f"none of the targets is a token: {targets!r}")
        return np.array(sorted(set(ids)))

    def _first_piece(self, target: str) -> list[int]:
        pieces = self.tokenizer(target, add_special_tokens=False, verbose=False).input_ids[:1]
        instead = f"{self.tokenizer.convert_ids_to_tokens(pieces[0])!r} stands for it" if pieces else "it is left out"
        warnings.warn(f"the target {target!r} is not in the vocabulary: {instead}", UserWarning, stacklevel=2)
        return pieces
