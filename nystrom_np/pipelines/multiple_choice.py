"""``multiple-choice``: which of several texts goes on from a first."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from nystrom_np.model import NystromformerForMultipleChoice
from nystrom_np.pipelines.base import (
    Encoding,
    Pipeline,
    PipelineOptions,
    check_count,
    check_item,
    check_text,
    probabilities,
)

__all__ = ["MultipleChoiceOptions", "MultipleChoicePipeline"]


@dataclass(frozen=True)
class MultipleChoiceOptions(PipelineOptions):
    """Options of ``multiple-choice``.

    Attributes
    ----------
    top_k : int or None
        How many choices to return, the likeliest first; None for all. One alone is not in a list.
    """

    top_k: Any = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top_k is not None:
            check_count("top_k", self.top_k)


class MultipleChoicePipeline(Pipeline[MultipleChoiceOptions]):
    """Choose what goes on from a prompt.

    An input is a dict with ``prompt`` and ``choices``, a list of texts; or the two by name. An answer is a dict with
    ``score`` (the softmax over the choices), ``index`` (of the choice, from 0) and ``choice`` (its text); if there
    are several, a list of them, the likeliest first, as the reference's question answering does.

    Notes
    -----
    transformers has no such pipeline. Its documentation of ``NystromformerForMultipleChoice`` encodes the prompt with
    each choice as a pair, as is done here.

    Examples
    --------
    >>> from nystrom_np.pipelines import pipeline
    >>> choose = pipeline("multiple-choice")
    >>> answer = choose(prompt="Mary went to the garden. Where is Mary?", choices=["garden", "kitchen"])
    >>> list(answer)
    ['score', 'index', 'choice']
    """

    task = "multiple-choice"
    head = NystromformerForMultipleChoice
    options = MultipleChoiceOptions

    def __call__(self, inputs: Any = None, *, prompt: Any = None, choices: Any = None, **options: Any) -> Any:
        """Choose.

        Parameters
        ----------
        inputs : dict, list of dict, or iterator over dict
            With ``prompt`` and ``choices``.
        prompt, choices : str, list of str
            One input, instead.
        **options
            Fields of :class:`.MultipleChoiceOptions`.

        Returns
        -------
        dict or list of dict; a list or an iterator of these

        Raises
        ------
        ValueError
            If an input has another form.
        """
        if inputs is None:
            inputs = {"prompt": prompt, "choices": choices}
        elif prompt is not None or choices is not None:
            raise TypeError("either inputs, or prompt and choices; found both")
        return super().__call__(inputs, **options)

    def encode(self, item: Any, options: MultipleChoiceOptions) -> tuple[list[str], list[Encoding]]:
        """Tokenise the prompt with each choice; what is known are the choices."""
        prompt, choices = check_item(item, ["prompt", "choices"])
        if not isinstance(choices, list | tuple) or not choices:
            raise ValueError(f"choices must be a list of one str or more; found {choices!r:.60}")
        pairs = [(check_text("prompt", prompt), check_text("a choice", choice)) for choice in choices]
        return list(choices), [self.tokenizer(pairs, padding=True, verbose=False)]

    def answer(self, known: list[str], outputs: list[Any], options: MultipleChoiceOptions) -> Any:
        """Rank the choices."""
        scores = probabilities(outputs[0].logits[0])
        order = np.argsort(-scores, kind="stable")[: options.top_k].tolist()
        ranked = [{"score": float(scores[index]), "index": index, "choice": known[index]} for index in order]
        return ranked[0] if len(ranked) == 1 else ranked
