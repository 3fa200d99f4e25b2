"""``text-classification``: the label of a text, or of a pair of texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nystrom_np.array_module import to_numpy
from nystrom_np.functional import sigmoid
from nystrom_np.model import NystromformerForSequenceClassification
from nystrom_np.pipelines.base import Encoding, Pipeline, check_choice, check_count, probabilities, wrong

__all__ = ["TextClassificationOptions", "TextClassificationPipeline"]

BEST = ""
"""The default ``top_k``: the best label alone, not in a list. (None is taken: all labels.)"""


@dataclass(frozen=True)
class TextClassificationOptions:
    """Options of ``text-classification``.

    Attributes
    ----------
    top_k : int or None
        How many labels to return, the likeliest first; None for all. By default the best, which is not in a list.
    function_to_apply : {"softmax", "sigmoid", "none", None}
        What makes scores of the logits. By default the sigmoid for a model of one label or of several that may
        hold at once, otherwise the softmax.
    truncation : bool or str
        Whether to cut a text that is too long, as for the tokenizer.
    max_length : int, optional
        The length to cut to; the tokenizer's ``model_max_length`` by default.
    """

    top_k: Any = BEST
    function_to_apply: Any = None
    truncation: Any = False
    max_length: Any = None

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k != BEST:
            check_count("top_k", self.top_k)
        check_choice("function_to_apply", self.function_to_apply, ("softmax", "sigmoid", "none", None))


class TextClassificationPipeline(Pipeline[TextClassificationOptions]):
    """Label a text.

    An answer is a dict with ``label`` and ``score``; with ``top_k``, a list of them. As in the reference, the
    answer to one text is in a list of its own, unless the call says ``top_k``.

    Notes
    -----
    Names, shapes and values are those of ``TextClassificationPipeline`` in transformers 4.37.2.

    Examples
    --------
    >>> from nystrom_np.pipelines import pipeline
    >>> classify = pipeline("text-classification")
    >>> [answer] = classify("A wonderful film.")
    >>> list(answer)
    ['label', 'score']
    """

    task = "text-classification"
    head = NystromformerForSequenceClassification
    options = TextClassificationOptions

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Label.

        Parameters
        ----------
        inputs : str, or dict with ``text`` and optionally ``text_pair``; a list of, or an iterator over these
        **options
            Fields of :class:`TextClassificationOptions`.

        Returns
        -------
        list of dict; or dict or list of dict for each input

        Raises
        ------
        ValueError
            If an input has another form.
        """
        answers = super().__call__(inputs, **options)
        return [answers] if isinstance(inputs, str) and "top_k" not in options else answers

    def encode(self, item: Any, options: TextClassificationOptions) -> tuple[None, list[Encoding]]:
        """Tokenise a text or a pair."""
        texts = {"text": item} if isinstance(item, str) else item
        if not isinstance(texts, Mapping) or "text" not in texts or not set(texts) <= {"text", "text_pair"}:
            wrong(item, ["text"])
        return None, [self.tokenizer(**texts, truncation=options.truncation, max_length=options.max_length)]

    def answer(self, known: None, outputs: list[Any], options: TextClassificationOptions) -> Any:
        """Name the labels."""
        scores = self._scores(outputs[0].logits[0], options.function_to_apply)
        order = np.argsort(-scores, kind="stable")
        labelled = [{"label": self.model.config.id2label[i], "score": float(scores[i])} for i in order.tolist()]
        return labelled[0] if options.top_k == BEST else labelled[: options.top_k]

    def _scores(self, logits: Any, function: str | None) -> np.ndarray:
        config = self.model.config
        several = config.problem_type == "multi_label_classification" or config.num_labels == 1
        function = function or ("sigmoid" if several else "softmax")
        if function == "softmax":
            return probabilities(logits)
        exact = to_numpy(logits).astype(np.float64)
        return sigmoid(exact) if function == "sigmoid" else exact
