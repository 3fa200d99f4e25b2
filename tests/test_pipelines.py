"""The pipelines: what transformers' answer to the same, padding to the trained length, and reading little ahead."""

import math
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nystrom_np
from nystrom_np.pipelines import TASKS, pipeline, trained_length
from tests.reference import store
from tests.reference.environment import ReferenceUnavailable
from tests.reference.pipeline_cases import (
    CASES,
    CHECKPOINTS,
    FILM,
    HOUSE,
    NEW_YORK,
    PARIS,
    PIZZA,
    PUPPET,
    RIVER,
    PipelineCase,
)

SCORE = 1e-4
"""What scores may differ by; float32 on both sides."""


def identity(case: PipelineCase) -> str:
    return f"{case.task}-{case.name}"


def ours(case: PipelineCase, checkpoints: Path) -> Any:
    pipe = pipeline(case.task, model=checkpoints / case.folder, **case.made_with)
    for name, value in case.config.items():
        setattr(pipe.model.config, name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of targets that are no tokens
        return pipe(*case.args, **case.options)


def same(actual: Any, expected: Any, where: str = "answer") -> None:
    """Compare answers: types, fields, order and text; numbers within what float32 allows."""
    if isinstance(expected, float):
        assert type(actual) is float
        assert math.isclose(actual, expected, rel_tol=0, abs_tol=SCORE), f"{where}: {actual} and {expected}"
    elif isinstance(expected, dict):
        assert list(actual) == list(expected), where
        for name, value in expected.items():
            same(actual[name], value, f"{where}.{name}")
    elif isinstance(expected, list):
        assert type(actual) is list, where
        assert len(actual) == len(expected), where
        for number, value in enumerate(expected):
            same(actual[number], value, f"{where}[{number}]")
    else:
        assert (type(actual), actual) == (type(expected), expected), where


stored = cache(store.read_pipelines)


@pytest.mark.parametrize("case", CASES, ids=identity)
def test_answers_are_the_references(case: PipelineCase, checkpoints: Path) -> None:
    same(ours(case, checkpoints), stored()[case.task, case.name])


def test_every_stored_answer_is_compared() -> None:
    assert list(stored()) == [(case.task, case.name) for case in CASES]
    assert {case.task for case in CASES if case.branch == "nystrom"} == set(TASKS)


@pytest.mark.reference
def test_answers_are_those_the_references_pipelines_give_now(checkpoints: Path) -> None:
    try:
        live = store.pipelines()
    except ReferenceUnavailable as error:
        pytest.skip(str(error))
    for case in CASES:
        same(ours(case, checkpoints), live[case.task, case.name], identity(case))
        same(stored()[case.task, case.name], live[case.task, case.name], identity(case))


# ------------------------------------------------------------------------------------------- the trained length


def noting_shapes(monkeypatch: pytest.MonkeyPatch, pipe: Any) -> list[tuple[int, ...]]:
    """Note the shape of every input that a pipeline gives its model."""
    shapes: list[tuple[int, ...]] = []
    call = type(pipe.model).__call__

    def noted(self: Any, **arguments: Any) -> Any:
        shapes.append(arguments["input_ids"].shape)
        assert all(np.shape(array) == shapes[-1] for name, array in arguments.items() if name != "return_dict")
        return call(self, **arguments)

    monkeypatch.setattr(type(pipe.model), "__call__", noted)
    return shapes


def test_a_nystrom_checkpoint_runs_at_its_own_length(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = pipeline("fill-mask", checkpoints / "masked-lm-nystrom")
    assert trained_length(pipe.model.config) == 24
    shapes = noting_shapes(monkeypatch, pipe)
    pipe(["[MASK]" + " a" * 40, "A [MASK].", "[MASK]"])  # those of one length together
    assert shapes == [(2, 24), (1, 43)]
    shapes.clear()
    pipe(["A [MASK].", "[MASK]", "[MASK]."], batch_size=2)
    assert shapes == [(2, 24), (1, 24)]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("initial", ["batch", "matrix"])
def test_a_batch_on_the_nystrom_branch_gives_each_its_own(checkpoints: Path, side: str, initial: str) -> None:
    """Peaked and flat sequences beside each other: the reference's initial value would mix them, by hundredths here."""
    folder = checkpoints / "sequence-classification-nystrom"
    pipe = pipeline("text-classification", folder, dtype="float64", model_kwargs={"pinv_initial": initial})
    pipe.tokenizer.padding_side = side
    texts = ["a", "A film full of life, and of people who are full of it.", "dull " * 12, "x" * 40, "a film"]
    alone = [pipe(text)[0]["score"] for text in texts]
    np.testing.assert_allclose([answer["score"] for answer in pipe(texts)], alone, rtol=1e-10)


def test_answers_do_not_depend_on_the_other_inputs(checkpoints: Path) -> None:
    for folder in ("question-answering-nystrom", "question-answering-dense"):
        pipe = pipeline("question-answering", checkpoints / folder, dtype="float64")
        together = pipe([PUPPET, HOUSE], top_k=2)
        for answer, item in zip(together, (PUPPET, HOUSE), strict=True):
            np.testing.assert_allclose([one["score"] for one in pipe(item, top_k=2)], [one["score"] for one in answer])


def test_invariant_masking_needs_no_padding(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoints / "sequence-classification-nystrom"
    model = nystrom_np.NystromformerForSequenceClassification.from_pretrained(folder, masking="invariant")
    pipe = pipeline("text-classification", model, folder)
    assert trained_length(model.config) is None
    shapes = noting_shapes(monkeypatch, pipe)
    [answer] = pipe("A film.")
    inputs = pipe.tokenizer("A film.", return_tensors="np")
    logits = model(**inputs).logits[0]
    assert shapes[0] == inputs.input_ids.shape
    assert answer["score"] == pytest.approx(np.exp(logits).max() / np.exp(logits).sum(), abs=1e-6)


def test_padding_stands_where_the_tokenizer_puts_it(checkpoints: Path) -> None:
    folder = checkpoints / "masked-lm-nystrom"
    pipe = pipeline("feature-extraction", folder, dtype="float64", return_tensors="np")
    pipe.tokenizer.padding_side = "left"
    found = pipe("My dog is cute")
    inputs = pipe.tokenizer("My dog is cute", padding="max_length", max_length=24, return_tensors="np")
    expected = pipe.model(**inputs).last_hidden_state[:, -found.shape[1] :]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


# --------------------------------------------------------------------------------------------------- many inputs


INPUTS: dict[str, Any] = {
    "fill-mask": PARIS,
    "text-classification": {"text": FILM},
    "token-classification": NEW_YORK,
    "question-answering": PUPPET,
    "multiple-choice": PIZZA,
    "feature-extraction": FILM,
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("branch", ["dense", "nystrom"])
def test_an_iterator_is_read_a_little_ahead(task: str, branch: str, checkpoints: Path) -> None:
    pipe = pipeline(task, checkpoints / f"{CHECKPOINTS[task]}-{branch}", batch_size=3)
    read = 0

    def inputs() -> Iterator[Any]:
        nonlocal read
        while True:  # without end: it can be answered only as it is read
            read += 1
            yield INPUTS[task]

    answers = pipe(inputs())
    assert read == 0
    alone = pipe([INPUTS[task]] * 2)[1]
    for number in range(1, 6):
        same(next(answers), alone)
        assert number <= read <= number + 3


def test_a_list_that_is_empty(checkpoints: Path) -> None:
    assert pipeline("feature-extraction", checkpoints / "masked-lm-dense")([]) == []


def test_windows_of_many_inputs_stay_with_their_own(checkpoints: Path) -> None:
    pipe = pipeline("question-answering", checkpoints / "question-answering-dense", batch_size=2, top_k=3)
    items = [PUPPET, RIVER, HOUSE, RIVER]
    for answer, item in zip(pipe(iter(items)), items, strict=True):
        same(answer, pipe(item))


# ------------------------------------------------------------------------------------------------ what is refused


def test_a_head_that_is_not_in_the_file_is_refused(checkpoints: Path) -> None:
    folder = checkpoints / "masked-lm-dense"
    with pytest.raises(ValueError, match=r"holds no NystromformerForQuestionAnswering: qa_outputs.* are missing"):
        pipeline("question-answering", folder)
    with pytest.warns(UserWarning, match="qa_outputs"):
        model = nystrom_np.NystromformerForQuestionAnswering.from_pretrained(folder)
    with pytest.raises(ValueError, match=r"needs a trained head; qa_outputs.* were not in the file"):
        pipeline("question-answering", model, folder)
    with pytest.raises(TypeError, match="fill-mask needs a NystromformerForMaskedLM; found NystromformerForQuestion"):
        pipeline("fill-mask", model, folder)


@pytest.mark.parametrize(
    ("task", "options", "error", "message"),
    [
        ("fly", {}, ValueError, "task must be one of fill-mask, .*ner; found 'fly'"),
        (None, {}, ValueError, "found None"),
        ("fill-mask", {"top": 5}, TypeError, "the options top_k, targets, tokenizer_kwargs, batch.*; found 'top'"),
        ("fill-mask", {"top_k": 0}, ValueError, "top_k must be a positive integer; found 0"),
        ("fill-mask", {"top_k": True}, ValueError, "top_k must be a positive integer; found True"),
        ("fill-mask", {"targets": []}, ValueError, r"none of the targets is a token: \[\]"),
        ("fill-mask", {"targets": [5]}, TypeError, "a target must be a str; found int 5"),
        ("fill-mask", {"tokenizer_kwargs": 5}, TypeError, "tokenizer_kwargs must be a mapping; found 5"),
        ("fill-mask", {"batch_size": 0}, ValueError, "batch_size must be a positive integer; found 0"),
        ("fill-mask", {"device": "tpu"}, ValueError, "device"),
        ("text-classification", {"top_k": "all"}, ValueError, "top_k must be a positive integer; found 'all'"),
        ("text-classification", {"function_to_apply": "tanh"}, ValueError, "must be one of 'softmax', 'sigmoid'"),
        ("ner", {"aggregation_strategy": "word"}, ValueError, "must be one of 'none', 'simple'.*; found 'word'"),
        ("ner", {"ignore_labels": "O"}, TypeError, "ignore_labels must be a list of str; found 'O'"),
        ("ner", {"stride": 5}, ValueError, "stride needs an aggregation_strategy"),
        ("question-answering", {"max_answer_len": 0}, ValueError, "max_answer_len must be a positive integer"),
        ("question-answering", {"doc_stride": -1}, ValueError, "doc_stride must be a positive integer; found -1"),
        ("question-answering", {"align_to_words": "no"}, ValueError, "align_to_words must be one of False, True"),
        ("multiple-choice", {"top_k": 0}, ValueError, "top_k must be a positive integer; found 0"),
        ("feature-extraction", {"return_tensors": "pt"}, ValueError, "return_tensors must be one of .*; found 'pt'"),
        ("feature-extraction", {"tokenize_kwargs": []}, TypeError, "tokenize_kwargs must be a mapping"),
        ("feature-extraction", {"truncation": True, "tokenize_kwargs": {"truncation": True}}, ValueError, "twice"),
    ],
)
def test_wrong_options(task: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pipeline(task, **options)


@pytest.mark.parametrize(
    ("task", "arguments", "error", "message"),
    [
        ("fill-mask", [5], TypeError, "an input must be a str; found int 5"),
        ("fill-mask", ["Paris"], ValueError, r"the text has no \[MASK\]: 'Paris'"),
        ("text-classification", [["a", 5]], ValueError, "an input must have text; found int 5"),
        ("text-classification", [{"pair": "a"}], ValueError, r"an input must have text; found \['pair'\]"),
        ("token-classification", [None], TypeError, "an input must be a str; found None"),
        ("question-answering", ["Who?"], ValueError, "an input must have question and context; found str 'Who\\?'"),
        ("question-answering", ["Who?", "", "x"], TypeError, "several inputs not in a list"),
        ("question-answering", [{"question": "Who?"}], ValueError, r"found \['question'\]"),
        ("question-answering", ["Who?", ""], ValueError, "context must not be empty"),
        ("question-answering", [{"question": "", "context": "x"}], ValueError, "question must not be empty"),
        ("question-answering", [{"question": 5, "context": "x"}], TypeError, "question must be a str; found int 5"),
        ("multiple-choice", [{"prompt": "a", "choices": []}], ValueError, "choices must be a list of one str or more"),
        ("multiple-choice", [{"prompt": "a", "choices": "b"}], ValueError, "found 'b'"),
        ("multiple-choice", [{"prompt": "a", "choices": [5]}], TypeError, "a choice must be a str; found int 5"),
        ("multiple-choice", [], ValueError, "prompt|choices"),
        ("feature-extraction", [{"text": "a"}], TypeError, "an input must be a str; found dict"),
    ],
)
def test_wrong_inputs(task: str, arguments: list[Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pipeline(task)(*arguments)


def test_inputs_given_twice() -> None:
    with pytest.raises(TypeError, match="either inputs, or question and context"):
        pipeline("question-answering")(PUPPET, question="Who?", context="x")
    with pytest.raises(TypeError, match="either inputs, or prompt and choices"):
        pipeline("multiple-choice")(PIZZA, prompt="x")
    with pytest.raises(ValueError, match="as many contexts as questions; found 1 and 2"):
        pipeline("question-answering")(question=["Who?", "Where?"], context=["x"])


def test_a_window_needs_room_for_the_context(checkpoints: Path) -> None:
    pipe = pipeline("question-answering", checkpoints / "question-answering-dense")
    with pytest.raises(ValueError, match=r"max_length=8 and stride=0 leave no room: 8 tokens are the same"):
        pipe(PUPPET, max_seq_len=8)
    with pytest.raises(ValueError, match="stride=30 leave no room"):
        pipe(RIVER, max_seq_len=32, doc_stride=30)


def test_a_long_question_loses_its_end(checkpoints: Path) -> None:
    pipe = pipeline("question-answering", checkpoints / "question-answering-dense")
    same(pipe("Who was it? " * 40, PUPPET["context"], max_question_len=3), pipe("Who was it", PUPPET["context"]))


def test_a_model_needs_a_tokenizer(checkpoints: Path) -> None:
    folder = checkpoints / "masked-lm-dense"
    model = nystrom_np.NystromformerForMaskedLM.from_pretrained(folder)
    with pytest.raises(ValueError, match="fill-mask needs a tokenizer"):
        pipeline("fill-mask", model)
    with pytest.raises(TypeError, match="tokenizer must be a NystromformerTokenizer; found int"):
        pipeline("fill-mask", model, tokenizer=5)
    same(pipeline("fill-mask", model, folder, device=-1)(PARIS), pipeline("fill-mask", folder)(PARIS))


def test_names_and_devices_of_transformers(checkpoints: Path) -> None:
    assert pipeline("sentiment-analysis").task == "text-classification"
    assert pipeline("ner").task == "token-classification"
    with pytest.raises(ValueError, match="cuda"):
        pipeline("fill-mask", device=0)


def test_targets_that_are_no_tokens_are_named(checkpoints: Path) -> None:
    pipe = pipeline("fill-mask", checkpoints / "masked-lm-dense")
    with pytest.warns(UserWarning, match="the target 'Brussels' is not in the vocabulary: '▁.*' stands for it"):
        pipe(PARIS, targets="Brussels")
    with (
        pytest.warns(UserWarning, match="the target '' is not in the vocabulary: it is left out"),
        pytest.raises(ValueError, match="none of the targets is a token"),
    ):
        pipe(PARIS, targets=[""])
