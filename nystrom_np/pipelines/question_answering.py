"""``question-answering``: where in a text the answer to a question stands."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nystrom_np.array_module import to_numpy
from nystrom_np.functional import softmax
from nystrom_np.model import NystromformerForQuestionAnswering
from nystrom_np.pipelines.base import (
    Encoding,
    Pipeline,
    PipelineOptions,
    check_choice,
    check_count,
    check_item,
    check_text,
    deprecated,
    trained_length,
)

__all__ = ["QuestionAnsweringOptions", "QuestionAnsweringPipeline"]

LONGEST_WINDOW, LONGEST_STRIDE = 384, 128
"""Of the windows' defaults, as in the reference."""


@dataclass(frozen=True)
class QuestionAnsweringOptions(PipelineOptions):
    """Options of ``question-answering``.

    Attributes
    ----------
    top_k : int
        How many answers to return, the likeliest first.
    max_seq_len : int, optional
        Tokens of a window: the question, a part of the context, and special tokens. By default 384, or fewer if the
        tokenizer or the model takes no more, or the model was trained at one shorter length.
    doc_stride : int, optional
        How many tokens of the context a window repeats of the one before it; by default half of `max_seq_len`, at
        most 128, and at most what the question leaves room for.
    max_question_len : int
        A longer question loses its end.
    max_answer_len : int
        Tokens that an answer may have.
    handle_impossible_answer : bool
        Whether "there is none" is an answer too: the empty text, from 0 to 0.
    align_to_words : bool
        Whether an answer consists of whole words.
    padding : bool or str
        ``"max_length"`` fills windows up to `max_seq_len`, which has a share in the answer unless ``masking`` is
        "invariant".
    """

    top_k: Any = 1
    max_seq_len: Any = None
    doc_stride: Any = None
    max_question_len: Any = 64
    max_answer_len: Any = 15
    handle_impossible_answer: Any = False
    align_to_words: Any = True
    padding: Any = "do_not_pad"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("top_k", "max_question_len", "max_answer_len"):
            check_count(name, getattr(self, name))
        if self.max_seq_len is not None:
            check_count("max_seq_len", self.max_seq_len)
        if self.doc_stride not in (None, 0):
            check_count("doc_stride", self.doc_stride)
        for name in ("handle_impossible_answer", "align_to_words"):
            check_choice(name, getattr(self, name), (False, True))


class QuestionAnsweringPipeline(Pipeline[QuestionAnsweringOptions]):
    """Find the answer to a question in a context.

    An input is a dict with ``question`` and ``context``, or the two by name or in this order. An answer is a dict
    with ``score``, ``start`` and ``end`` (where it stands in the context) and ``answer`` (its text); if there are
    several, a list of them. As in the reference, a list of one input gives that input's own answer.

    Notes
    -----
    Names, shapes and values are those of ``QuestionAnsweringPipeline`` in transformers 4.37.2. There, answers of
    score 0 that end before they begin may fill up the list; here it is shorter. There, ``max_question_len`` is
    without effect for a tokenizer of this kind. As there, the context comes before the question where the tokenizer
    pads on the left. But then, there, tokens of the question have a share in the probabilities and may even be the
    answer; here they do not.

    Examples
    --------
    >>> from nystrom_np.pipelines import pipeline
    >>> answer = pipeline("question-answering")
    >>> found = answer(question="Where is Mary?", context="Mary went to the garden.")
    >>> list(found)
    ['score', 'start', 'end', 'answer']
    >>> found["answer"] == "Mary went to the garden."[found["start"] : found["end"]]
    True
    """

    task = "question-answering"
    head = NystromformerForQuestionAnswering
    options = QuestionAnsweringOptions

    def __call__(
        self, *inputs: Any, question: Any = None, context: Any = None, data: Any = None, X: Any = None, **options: Any
    ) -> Any:
        """Answer.

        Parameters
        ----------
        *inputs
            A dict, a list of dicts or an iterator over dicts with ``question`` and ``context``; or the two texts. Other
            keys are left alone. A dict may hold lists, as below.
        question, context : str, or list of str
            The same by name. Several questions may have one context.
        data, X
            Other names of `inputs`.
        **options
            Fields of :class:`.QuestionAnsweringOptions`.

        Returns
        -------
        dict or list of dict; a list or an iterator of these

        Raises
        ------
        ValueError
            If an input has another form or is empty, or a window has no room for the context.
        """
        inputs += tuple(other for other in (data, X) if other is not None)
        items = self._items(inputs, question, context)
        if isinstance(items, list) and len(items) == 1 and not (len(inputs) == 1 and _has_lists(inputs[0])):
            [items] = items
        return super().__call__(items, **options)

    @staticmethod
    def _items(inputs: tuple[Any, ...], question: Any, context: Any) -> Any:
        if len(inputs) == 2 and all(isinstance(text, str) for text in inputs):
            return {"question": inputs[0], "context": inputs[1]}
        if len(inputs) == 1 and question is None and context is None:
            return _listed(inputs[0])
        if inputs:
            raise TypeError("either inputs, or question and context; found both, or several inputs not in a list")
        return _listed({"question": question, "context": context})

    def encode(self, item: Any, options: QuestionAnsweringOptions) -> tuple[Any, list[Encoding]]:
        """Cut the context into windows; what is known are it and them."""
        question, context = (
            check_text(name, text)
            for name, text in zip(("question", "context"), check_item(item, ["question", "context"]), strict=True)
        )
        if not question or not context:
            raise ValueError(f"{'context' if question else 'question'} must not be empty")
        question, tokens = self._shortened(question, options.max_question_len)
        length = options.max_seq_len or self._window()
        stride = options.doc_stride
        if stride is None:
            room = length - tokens - self.tokenizer.num_special_tokens_to_add(True)
            stride = max(0, min(length // 2, LONGEST_STRIDE, room - 1))
        pair, cut = ((question, context), "only_second") if self._place else ((context, question), "only_first")
        windows = self.tokenizer.windows(*pair, length, stride, cut, options.padding)
        return (context, windows), [self._inputs(window) for window in windows]

    @property
    def _place(self) -> int:
        """Which of the two texts is the context: 1 for the second, 0 for the first."""
        return int(self.tokenizer.padding_side == "right")

    def _choose(self, before: QuestionAnsweringOptions, given: dict[str, Any]) -> QuestionAnsweringOptions:
        if "topk" in given:
            deprecated("topk", "top_k is its name")
            given = {"top_k": given["topk"], **{name: value for name, value in given.items() if name != "topk"}}
        return super()._choose(before, given)

    def _shortened(self, question: str, longest: int) -> tuple[str, int]:
        encoding = self.tokenizer(question, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ends = [end for _, end in encoding.offset_mapping]
        return (question, len(ends)) if len(ends) <= longest else (question[: ends[longest - 1]], longest)

    def _window(self) -> int:
        config = self.model.config
        return min(LONGEST_WINDOW, self.longest, trained_length(config) or LONGEST_WINDOW)

    def answer(self, known: Any, outputs: list[Any], options: QuestionAnsweringOptions) -> Any:
        """Rank the spans of all windows."""
        context, windows = known
        found, nothing = [], np.inf
        for window, output in zip(windows, outputs, strict=True):
            start, end = self._chances(window, output)
            nowhere = window.ids.index(cls) if (cls := self.tokenizer.cls_token_id) in window.ids else 0
            nothing = min(nothing, start[nowhere] * end[nowhere])
            for score, first, last in spans(start, end, options.top_k, options.max_answer_len, nowhere):
                begin, stop = place(window, first, last, options.align_to_words, self._place)
                found.append({"score": score, "start": begin, "end": stop, "answer": context[begin:stop]})
        if options.handle_impossible_answer:
            found.append({"score": float(nothing), "start": 0, "end": 0, "answer": ""})
        ranked = sorted(found, key=lambda one: -one["score"])[: options.top_k]
        return ranked[0] if len(ranked) == 1 else ranked

    def _chances(self, window: Any, output: Any) -> Iterator[np.ndarray]:
        """Yield the probabilities (tokens,) of where the answer begins and ends.

        They are shared by the tokens of the context and ``[CLS]``, which stands for "nowhere".
        """
        possible = np.array(window.sequence_ids) == self._place
        possible |= np.array(window.ids) == self.tokenizer.cls_token_id
        for logits in (output.start_logits, output.end_logits):
            yield softmax(np.where(possible, to_numpy(logits)[0].astype(np.float64), -np.inf))


def spans(
    start: np.ndarray, end: np.ndarray, top_k: int, longest: int, nowhere: int = 0
) -> list[tuple[float, int, int]]:
    """Return the likeliest spans with their scores, start · end, without the token that stands for "nowhere".

    Examples
    --------
    >>> spans(np.array([0.5, 0.4, 0.1]), np.array([0.5, 0.1, 0.4]), top_k=2, longest=2)
    [(0.16000000000000003, 1, 2), (0.04000000000000001, 1, 1)]
    """
    room = np.pad(end, (0, min(longest, len(end)) - 1))
    scores = start[:, None] * np.lib.stride_tricks.sliding_window_view(room, len(room) - len(end) + 1)
    scores[nowhere] = 0
    best = np.argsort(-scores, axis=None, kind="stable")[:top_k]
    pairs = zip(*(axis.tolist() for axis in np.unravel_index(best, scores.shape)), strict=True)
    return [(float(scores[first, more]), first, first + more) for first, more in pairs if scores[first, more] > 0]


def _has_lists(item: Any) -> bool:
    return isinstance(item, Mapping) and isinstance(item.get("question"), list) and "context" in item


def _listed(item: Any) -> Any:
    """Return a dict of lists as a list of dicts, in a list too. One context may be that of all questions."""
    if isinstance(item, list | tuple):
        return [one for part in item for one in (_listed(part) if _has_lists(part) else [part])]
    if not _has_lists(item):
        return item
    questions, context = item["question"], item["context"]
    contexts = context if isinstance(context, list) else [context] * len(questions)
    if len(contexts) != len(questions):
        raise ValueError(f"there must be as many contexts as questions; found {len(contexts)} and {len(questions)}")
    return [{"question": one, "context": other} for one, other in zip(questions, contexts, strict=True)]


def place(window: Any, first: int, last: int, align_to_words: bool, text: int) -> tuple[int, int]:
    """Return where in the context a span of tokens, or of the words they belong to, begins and ends."""
    if align_to_words:
        words = window.word_ids[first], window.word_ids[last]
        if None not in words:
            return window.word_to_chars(words[0], text)[0], window.word_to_chars(words[1], text)[1]
    return window.offsets[first][0], window.offsets[last][1]
