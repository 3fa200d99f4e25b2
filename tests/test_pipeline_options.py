"""What people give pipelines: files of their own, and transformers' keywords. The answers are transformers 4.37.2's."""

import json
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nystrom_np
from nystrom_np import pipeline
from nystrom_np.pipelines import AggregationStrategy, PipelineException

DENSE = {"num_landmarks": 64, "segment_means_seq_len": 64}
FILM = "What a wonderful film."
NEW_YORK = "The old dog sleeps in New York."
MILK = {"question": "What did Sandra take?", "context": "Sandra went to the office. Sandra took the milk there."}
FOOTBALL = {
    "question": "Where is the football?",
    "context": "Daniel got the football. Daniel went to the bedroom. Mary went back to the hallway.",
}
MARY = {"question": "Where is Mary?", "context": "Mary went to the garden. John went to the kitchen."}
THERE = {"score": 0.9338, "start": 47, "end": 53, "answer": " there"}
DANIEL = {"score": 1.0, "start": 0, "end": 6, "answer": "Daniel"}
GARDEN = {"score": 1.0, "start": 16, "end": 23, "answer": " garden"}
POSITIVE, NEGATIVE = {"label": "positive", "score": 0.9984}, {"label": "negative", "score": 0.0016}


@pytest.fixture
def copied(weights: Path, tmp_path: Path) -> Callable[..., Path]:
    def copy(head: str, file: str, **values: Any) -> Path:
        """Copy a shipped checkpoint, with a change in one of its JSON files."""
        folder = tmp_path / head
        shutil.copytree(weights / head, folder)
        content = json.loads((folder / file).read_text(encoding="utf-8"))
        (folder / file).write_text(json.dumps({**content, **values}), encoding="utf-8")
        return folder

    return copy


def dense(task: str, folder: Path | None = None, **options: Any) -> Any:
    return pipeline(task, folder, model_kwargs=DENSE, **options)


def rounded(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {name: rounded(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return [rounded(value) for value in answer]
    return pytest.approx(answer, abs=1e-4) if isinstance(answer, float) else answer


def same(found: Any, expected: Any) -> None:
    assert found == rounded(expected)


# ------------------------------------------------------------------------------------------ tokenizers' files


def test_a_side_stored_with_the_vocabulary(copied: Any) -> None:
    truncation = {"direction": "Left", "max_length": 16, "strategy": "LongestFirst", "stride": 0}
    folder = copied("sequence-classification", "tokenizer.json", truncation=truncation)
    text = "It starts as a dull and lifeless story. " + "We see a man and a house. " * 9
    text += "What a wonderful film, full of life."
    answer = dense("text-classification", folder)(text, truncation=True, max_length=16)
    same(answer, [{"label": "positive", "score": 0.9983}])


NAMES = ["input_ids", "attention_mask"]


def test_no_token_types_where_the_tokenizer_names_none(copied: Any) -> None:
    answer = dense("question-answering", copied("question-answering", "tokenizer_config.json", model_input_names=NAMES))
    same(answer(MILK), {"score": 0.6426, "start": 53, "end": 54, "answer": "."})
    folder = copied("sequence-classification", "tokenizer_config.json", model_input_names=NAMES)
    pair, without = {"text": "What a film", "text_pair": "so dull"}, {"label": "negative", "score": 0.9883}
    same(dense("text-classification", folder)(pair), without)
    same(dense("text-classification")(pair), {"label": "negative", "score": 0.7685})
    same(dense("text-classification", return_token_type_ids=False)(pair), without)
    folder = copied("masked-lm", "tokenizer_config.json", model_input_names=["input_ids"])
    [guess] = dense("fill-mask", folder)("Paris is the [MASK] of France.", top_k=1)
    same(guess["score"], 0.0368)


def test_the_context_is_first_where_the_tokenizer_pads_on_the_left(copied: Any) -> None:
    answer = dense("question-answering", copied("question-answering", "tokenizer_config.json", padding_side="left"))
    same(answer(FOOTBALL), {"score": 1.0, "start": 74, "end": 82, "answer": " hallway"})
    same(answer(MARY), GARDEN)
    same(
        answer(
            question="Where is the milk?", context="John took the milk. John went to the park. Mary is in the school."
        ),
        {"score": 1.0, "start": 57, "end": 64, "answer": " school"},
    )
    windows = answer(FOOTBALL["question"], FOOTBALL["context"] * 4, max_seq_len=40, doc_stride=8)
    same(windows, {"score": 1.0, "start": 249, "end": 255, "answer": "Daniel"})


def test_no_answer_is_in_the_question_or_the_padding(copied: Any) -> None:
    """Where the context is first, the reference lets tokens of the question answer too: 0.5497 and 0.5362 here."""
    answer = dense("question-answering", copied("question-answering", "tokenizer_config.json", padding_side="left"))
    for item in (MILK, FOOTBALL, MARY):
        every = answer(item, top_k=2000, max_answer_len=100)
        assert sum(one["score"] for one in every) <= 1 + 1e-6
        assert all(one["answer"] == item["context"][one["start"] : one["end"]] != "" for one in every)
        best = answer(item, padding="max_length", handle_impossible_answer=True)
        assert best["answer"] == item["context"][best["start"] : best["end"]]


def test_lengths_for_the_tokenizer_in_feature_extraction() -> None:
    extract = dense("feature-extraction", return_tensors=True)
    text = "a house is here"

    def shape_and_sum(**options: Any) -> tuple[int, float]:
        features = extract(text, **options)
        return features.shape[1], float(np.abs(features).sum())

    for options, expected in (
        ({"tokenize_kwargs": {"max_length": 3}}, (3, 312.3)),
        ({"tokenize_kwargs": {"max_length": 12, "padding": "max_length"}}, (12, 863.2)),
        ({"tokenize_kwargs": {"max_length": 3}, "truncation": False}, (6, 533.6)),
        ({"padding": True}, (6, 533.6)),
    ):
        assert shape_and_sum(**options) == pytest.approx(expected, abs=0.1)


def test_labels_that_are_numbers(copied: Any) -> None:
    folder = copied("sequence-classification", "config.json", id2label={"0": 0, "1": 1}, label2id={"0": 0, "1": 1})
    same(dense("text-classification", folder)(FILM), [{"label": 1, "score": 0.9984}])
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["label2id"] == {"0": 0, "1": 1}


def test_entities_that_are_numbers(copied: Any) -> None:
    tag = dense("ner")
    numbers = {str(index): index for index in tag.model.config.id2label}
    folder = copied("token-classification", "config.json", id2label=numbers, label2id=numbers)
    for strategy in ("none", "simple", "first"):
        name = "entity" if strategy == "none" else "entity_group"
        found = dense("ner", folder)(NEW_YORK, aggregation_strategy=strategy)
        for one, named in zip(found, tag(NEW_YORK, aggregation_strategy=strategy, ignore_labels=[]), strict=True):
            assert tag.model.config.id2label[one[name]] == named[name]
        assert len(dense("ner", folder)(NEW_YORK, ignore_labels=[found[0][name]])) < 13


# ---------------------------------------------------------------------------------------------- limits of length


@pytest.fixture(params=[(30, 512), (30, None), (512, 30)])
def limited(request: pytest.FixtureRequest, weights: Path, tmp_path: Path) -> Callable[[Any], Path]:
    """Make a random checkpoint whose model, or whose tokenizer, takes 30 tokens."""
    positions, limit = request.param

    def make(head: Any) -> Path:
        config = nystrom_np.NystromformerConfig(
            vocab_size=2048,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            max_position_embeddings=positions,
            pad_token_id=0,
        )
        head(config).save_pretrained(tmp_path)
        tokenizer = nystrom_np.NystromformerTokenizer.from_pretrained(weights / "masked-lm")
        tokenizer.model_max_length = limit or int(1e30)
        tokenizer.save_pretrained(tmp_path)
        return tmp_path

    return make


LONG = ("the river runs through town " * 40).strip()


def test_a_text_is_cut_to_what_the_tokenizer_and_the_model_take(limited: Any) -> None:
    pipe = pipeline("feature-extraction", limited(nystrom_np.NystromformerModel), return_tensors=True)
    assert pipe.longest == 30
    for options in ({"truncation": True}, {"tokenize_kwargs": {"truncation": "longest_first"}}):
        assert pipe(LONG, **options).shape == (1, 30, 8)
    assert pipe("a", tokenize_kwargs={"padding": "max_length"}).shape == (1, 30, 8)


def test_texts_of_every_task_are_cut_to_that(limited: Any) -> None:
    classify = pipeline("text-classification", limited(nystrom_np.NystromformerForSequenceClassification))
    tokens = classify.tokenizer
    same(classify(LONG, truncation=True), classify(tokens.decode(tokens.encode(LONG, verbose=False)[1:29])))
    fill = pipeline("fill-mask", limited(nystrom_np.NystromformerForMaskedLM), tokenizer_kwargs={"truncation": True})
    assert len(fill("[MASK] " + LONG)) == 5
    answer = pipeline("question-answering", limited(nystrom_np.NystromformerForQuestionAnswering))
    assert answer("Where?", LONG)["answer"] in LONG


def test_windows_are_as_long_as_that(limited: Any) -> None:
    folder = limited(nystrom_np.NystromformerForTokenClassification)
    tag = pipeline("token-classification", folder, aggregation_strategy="first", stride=4, ignore_labels=[])
    assert tag(LONG)[-1]["end"] == len(LONG)
    first = pipeline("token-classification", folder)(LONG)
    assert first[-1]["index"] == 28


def test_what_is_too_long_says_which_input_it_is() -> None:
    extract = dense("feature-extraction")
    with pytest.raises(ValueError, match=r"^inputs\[1\]: an input has 203 tokens, more than the model's 64 positions"):
        extract(["a", "a house " * 100])
    with pytest.raises(TypeError, match=r"^inputs\[2\]: an input must be a str; found int 5"):
        extract(["a", "b", 5])
    with pytest.raises(ValueError, match=r"^inputs\[0\]: the text has no \[MASK\]"):
        dense("fill-mask")(["a", "[MASK]"])


# -------------------------------------------------------------------------------------------------- text options


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"padding": True, "truncation": True, "max_length": 60}, [POSITIVE]),
        ({"padding": "max_length", "max_length": 32, "truncation": True}, [POSITIVE]),
        ({"batch_size": 8, "num_workers": 2}, [POSITIVE]),
        ({"batch_size": None}, [POSITIVE]),
        ({"batch_size": np.int64(2)}, [POSITIVE]),
        ({"max_length": 4}, [{"label": "negative", "score": 0.6708}]),
        ({"return_all_scores": True}, [[NEGATIVE, POSITIVE]]),
        ({"return_all_scores": False}, [POSITIVE]),
        ({"return_all_scores": True, "top_k": 1}, [POSITIVE]),
        ({"function_to_apply": "SOFTMAX"}, [POSITIVE]),
        (
            {"function_to_apply": "Sigmoid", "top_k": None},
            [{"label": "positive", "score": 0.9529}, {"label": "negative", "score": 0.0322}],
        ),
        (
            {"function_to_apply": "NONE", "top_k": np.int64(2)},
            [{"label": "positive", "score": 3.0078}, {"label": "negative", "score": -3.4018}],
        ),
    ],
)
def test_keywords_of_text_classification(options: dict[str, Any], expected: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of older names
        same(dense("text-classification")(FILM, **options), expected)
        made_with = dense("sentiment-analysis", **options)(FILM)
    same(made_with, [expected] if "top_k" in options else expected)


@pytest.mark.parametrize(
    ("told", "options", "expected"),
    [
        (True, {}, [[NEGATIVE, POSITIVE]]),
        (False, {}, [POSITIVE]),
        (True, {"top_k": 1}, [POSITIVE]),
        (True, {"return_all_scores": False}, [POSITIVE]),
    ],
)
def test_all_scores_where_the_configuration_says_so(copied: Any, told: bool, options: Any, expected: Any) -> None:
    folder = copied("sequence-classification", "config.json", return_all_scores=told)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the older name
        same(dense("text-classification", folder)(FILM, **options), expected)


def test_an_older_form_of_a_pair() -> None:
    classify = dense("text-classification")
    same(classify([[["What a film", "so dull"]]]), [classify({"text": "What a film", "text_pair": "so dull"})])


@pytest.mark.parametrize(
    ("options", "strategy"),
    [
        ({"grouped_entities": True}, "simple"),
        ({"grouped_entities": True, "ignore_subwords": True}, "first"),
        ({"ignore_subwords": True}, "none"),
        ({"grouped_entities": False}, "none"),
    ],
)
def test_older_names_in_token_classification(options: dict[str, Any], strategy: str) -> None:
    tag = dense("ner")
    with pytest.warns(UserWarning, match=f"{next(iter(options))}.* is an older name: .*{strategy}"):
        found = tag(NEW_YORK, **options)
    same(found, tag(NEW_YORK, aggregation_strategy=strategy.upper()))


@pytest.mark.parametrize("strategy", AggregationStrategy)
def test_strategies_as_an_enumeration(strategy: AggregationStrategy) -> None:
    tag = dense("ner")
    same(tag(NEW_YORK, aggregation_strategy=strategy), tag(NEW_YORK, aggregation_strategy=strategy.value))


@pytest.mark.parametrize(
    ("inputs", "place"), [("a", ""), (["[MASK]", ""], r"inputs\[1\]: "), (["mask"], r"inputs\[0\]: ")]
)
def test_a_text_without_a_mask_is_a_pipeline_exception(inputs: Any, place: str) -> None:
    with pytest.raises(PipelineException, match=f"^{place}the text has no") as caught:
        dense("fill-mask")(inputs)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.task, again.model, str(again)) == ("fill-mask", "nystromformer", str(caught.value))


def test_other_names_and_forms_in_question_answering() -> None:
    answer = dense("question-answering")
    with pytest.warns(UserWarning, match="topk is an older name"):
        assert [one["answer"] for one in answer(MILK, topk=2)] == [" there", " milk there"]
    same(answer(data=MILK), THERE)
    same(answer(X=[MILK, FOOTBALL]), [THERE, DANIEL])
    same(answer(MILK, padding=True, batch_size=4), THERE)
    same(answer(MILK, padding="max_length"), THERE | {"score": 0.9532})


def test_questions_in_records_and_columns() -> None:
    answer = dense("question-answering")
    columns = {name: [item[name] for item in (MILK, FOOTBALL)] for name in ("question", "context")}
    same(answer(columns), [THERE, DANIEL])
    same(answer({name: values[:1] for name, values in columns.items()}), [THERE])
    same(answer({"question": [MILK["question"]] * 2, "context": MILK["context"]}), [THERE, THERE])
    record = {"id": "1", "title": "t", "answers": {"text": [], "answer_start": []}, **MILK}
    same(list(answer(item for item in [record])), [THERE])
    same(answer([record, record]), [THERE, THERE])
    assert set(record) == {"id", "title", "answers", "question", "context"}


class Items:
    """A dataset: it has a length, and items by number."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Any:
        return self.items[number]


def test_a_dataset_is_answered_item_by_item() -> None:
    answers = dense("text-classification")(Items(FILM, "so dull"))
    assert next(answers)["label"] == "positive"
    assert [one["label"] for one in answers] == ["negative"]
    same(list(dense("question-answering")(Items({"id": 1, **MILK}, FOOTBALL))), [THERE, DANIEL])
    with pytest.raises(ValueError, match=r"^inputs\[1\]: an input must have text"):
        list(dense("text-classification")(Items(FILM, 5)))


@pytest.mark.parametrize(("side", "guess", "score"), [("right", "number", 0.0400), ("left", "act", 0.0359)])
def test_padding_has_its_share_in_a_guess(side: str, guess: str, score: float) -> None:
    fill = dense("fill-mask")
    fill.tokenizer.padding_side = side
    options = {"top_k": np.int64(1), "tokenizer_kwargs": {"padding": "max_length", "max_length": 32}}
    [found] = fill("Paris is the [MASK] of France.", **options)
    assert found["sequence"] == f"paris is the {guess} of france."
    same(found["score"], score)


# ------------------------------------------------------------------------------------------- making pipelines


def test_arguments_of_transformers_pipeline(tmp_path: Path) -> None:
    made = pipeline("fill-mask", device=None, framework="pt", use_fast=True, torch_dtype="float64", revision=None)
    assert made.model.dtype == np.float64
    for dtype in (np.float16, np.dtype("float16"), "torch.float16"):
        assert pipeline("fill-mask", torch_dtype=dtype).model.dtype == np.float16
    with pytest.raises(ValueError, match="framework must be one of None, 'pt'; found 'tf'"):
        pipeline("fill-mask", framework="tf")
    made.save_pretrained(tmp_path)
    again = pipeline("fill-mask", str(tmp_path), torch_dtype="float64")
    text = "Paris is the [MASK] of France."
    assert again(text) == made.predict(text) == made.transform(text)


# ------------------------------------------------------------------------------------- halves of a character

HALF = chr(0xD800)


@pytest.mark.parametrize("half", [HALF, chr(0xDCE9), chr(0xD83D) + chr(0xDC4D)])
def test_half_of_a_character_in_an_input(half: str) -> None:
    whole = "👍" if len(half) == 2 else "\ufffd"
    same(dense("text-classification")(f"What {half} film"), dense("text-classification")(f"What {whole} film"))
    found = dense("token-classification")(f"a {half} in New York")
    assert found == dense("token-classification")(f"a {whole} in New York")
    found = dense("question-answering")(question=f"{half} Where is Mary?", context=f"Oh {half}! {MARY['context']}")
    assert found["answer"] == f"Oh {whole}! {MARY['context']}"[found["start"] : found["end"]] == " garden"
    assert dense("fill-mask")(f"{half} [MASK]")[0]["sequence"]


def test_a_picture_needs_no_names_of_inputs(weights: Path) -> None:
    """A tokenizer that names no mask gives one where it is asked for."""
    from nystrom_np import NystromformerTokenizer
    from nystrom_np.plot import padded_ids

    tokenizer = NystromformerTokenizer.from_pretrained(weights / "masked-lm", model_input_names=["input_ids"])
    ids, mask = padded_ids(dense("fill-mask").model, tokenizer, "a house")
    assert (ids, mask) == ([2, 7, 888, 3], [1] * 4)
