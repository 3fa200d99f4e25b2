"""``text-classification``: the label of a text, or of a pair of texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nystrom_np.array_module import to_numpy
from nystrom_np.functional import sigmoid
from nystrom_np.model import NystromformerForSequenceClassification
from nystrom_np.pipelines.base import (
    Encoding,
    Pipeline,
    PipelineOptions,
    check_choice,
    check_count,
    check_text,
    deprecated,
    probabilities,
    wrong,
)

__all__ = ["TextClassificationOptions", "TextClassificationPipeline"]

BEST = ""
"""The default ``top_k``: the best label alone, not in a list. (None is taken: all labels.)"""


@dataclass(frozen=True)
class TextClassificationOptions(PipelineOptions):
    """Options of ``text-classification``.

    Attributes
    ----------
    top_k : int or None
        How many labels to return, the likeliest first; None for all. By default the best, which is not in a list.
    function_to_apply : {"softmax", "sigmoid", "none", None}
        What makes scores of the logits. By default the sigmoid for a model of one label or of several that may
        hold at once, otherwise the softmax.
    return_all_scores : bool, optional
        An older name: True returns all labels in their own order, False the best; without effect beside `top_k`.
        By default what the model's configuration says under this name.
    truncation : bool or str, optional
        Whether to cut a text that is too long, as for the tokenizer.
    max_length : int, optional
        The length to cut or to fill up to; by default as many tokens as the tokenizer and the model take.
    padding : bool or str
        As for the tokenizer. What is filled up has a share in the answer, unless ``masking`` is "invariant".
    pad_to_multiple_of, add_special_tokens, return_token_type_ids, return_attention_mask
        As for the tokenizer.
    """

    top_k: Any = BEST
    function_to_apply: Any = None
    return_all_scores: Any = None
    truncation: Any = None
    max_length: Any = None
    padding: Any = False
    pad_to_multiple_of: Any = None
    add_special_tokens: Any = True
    return_token_type_ids: Any = None
    return_attention_mask: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top_k is not None and not _is_best(self.top_k):
            check_count("top_k", self.top_k)
        self.lowered("function_to_apply")
        check_choice("function_to_apply", self.function_to_apply, ("softmax", "sigmoid", "none", None))
        check_choice("return_all_scores", self.return_all_scores, (None, False, True))


def _is_best(top_k: Any) -> bool:
    return isinstance(top_k, str) and top_k == BEST


TOKENIZING = (
    *("truncation", "max_length", "padding", "pad_to_multiple_of"),
    *("add_special_tokens", "return_token_type_ids", "return_attention_mask"),
)
"""The options that are the tokenizer's."""


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
            ``[["text", "pair"]]`` is a pair, too: an older form.
        **options
            Fields of :class:`.TextClassificationOptions`.

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
        if isinstance(item, list) and len(item) == 1 and isinstance(item[0], list | tuple) and len(item[0]) == 2:
            item = dict(zip(("text", "text_pair"), item[0], strict=True))
        texts = {"text": item} if isinstance(item, str) else item
        if not isinstance(texts, Mapping) or "text" not in texts or not set(texts) <= {"text", "text_pair"}:
            wrong(item, ["text"])
        arguments = {name: getattr(options, name) for name in TOKENIZING}
        texts = {name: check_text(name, text) for name, text in texts.items() if text is not None or name == "text"}
        return None, [self._tokenized(**texts, **arguments)]

    def answer(self, known: None, outputs: list[Any], options: TextClassificationOptions) -> Any:
        """Name the labels."""
        scores = self._scores(outputs[0].logits[0], options.function_to_apply)
        told = options.return_all_scores
        told = getattr(self.model.config, "return_all_scores", None) if told is None else told
        every = _is_best(options.top_k) and told
        order = range(len(scores)) if every else np.argsort(-scores, kind="stable").tolist()
        labelled = [{"label": self.model.config.id2label[i], "score": float(scores[i])} for i in order]
        if every:
            return labelled
        return labelled[0] if _is_best(options.top_k) else labelled[: options.top_k]

    def _choose(self, before: TextClassificationOptions, given: dict[str, Any]) -> TextClassificationOptions:
        if given.get("return_all_scores") is not None:
            deprecated("return_all_scores", "top_k=None returns all labels, the likeliest first")
        return super()._choose(before, given)

    def _scores(self, logits: Any, function: str | None) -> np.ndarray:
        config = self.model.config
        several = config.problem_type == "multi_label_classification" or config.num_labels == 1
        function = function or ("sigmoid" if several else "softmax")
        if function == "softmax":
            return probabilities(logits)
        exact = to_numpy(logits).astype(np.float64)
        return sigmoid(exact) if function == "sigmoid" else exact
