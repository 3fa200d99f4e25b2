"""Code as it is written for transformers, with the import changed alone; the values are 4.37.2's."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nystrom_np
from nystrom_np import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoTokenizer, pipeline

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
IMPORTS = """
from nystrom_np import AlbertTokenizerFast, AutoTokenizer, BatchEncoding, DataCollatorWithPadding, pipeline
from nystrom_np import AggregationStrategy, DataCollatorForLanguageModeling, DataCollatorForTokenClassification
from nystrom_np import DefaultDataCollator, FeatureExtractionPipeline, FillMaskPipeline, Pipeline, PipelineException
from nystrom_np import QuestionAnsweringPipeline, TextClassificationPipeline, TokenClassificationPipeline
from nystrom_np import default_data_collator
"""


@pytest.mark.parametrize("name", [one.name for node in ast.parse(IMPORTS).body for one in node.names])  # type: ignore[attr-defined]
def test_names_of_the_first_room(name: str) -> None:
    assert getattr(nystrom_np, name).__module__.startswith("nystrom_np.")


def test_a_name_that_is_in_no_room() -> None:
    with pytest.raises(AttributeError, match="module 'nystrom_np' has no attribute 'Trainer'"):
        nystrom_np.Trainer  # noqa: B018


@pytest.mark.parametrize("cls", [AutoConfig, AutoModel, AutoModelForMaskedLM, AutoTokenizer, *nystrom_np.auto.__all__])
def test_arguments_under_their_own_names(cls: Any, tmp_path: Path) -> None:
    cls = getattr(nystrom_np, cls) if isinstance(cls, str) else cls
    heads = {"Sequence": "sequence-classification", "Token": "token-classification", "Multiple": "multiple-choice"}
    head = next((folder for name, folder in heads.items() if f"For{name}" in cls.__name__), "masked-lm")
    head = "question-answering" if "Question" in cls.__name__ else head
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # of another head
        made = cls.from_pretrained(pretrained_model_name_or_path=WEIGHTS / head)
        made.save_pretrained(save_directory=tmp_path)
        again = type(made).from_pretrained(pretrained_model_name_or_path=tmp_path)
    assert type(again) is type(made)


def test_attributes_of_a_tokenizer(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / "masked-lm", do_lower_case=True, keep_accents=False)
    assert (tokenizer.max_len_single_sentence, tokenizer.max_len_sentences_pair) == (62, 61)
    assert tokenizer.name_or_path == str(WEIGHTS / "masked-lm")
    files = tokenizer.save_pretrained(tmp_path)
    assert sorted(files) == sorted(str(path) for path in tmp_path.iterdir())


@pytest.mark.parametrize("head", ["sequence-classification", "token-classification", "masked-lm"])
def test_attributes_of_a_model(head: str) -> None:
    tasks = {"sequence": "SequenceClassification", "token": "TokenClassification", "masked": "MaskedLM"}
    cls = getattr(nystrom_np, f"AutoModelFor{tasks[head.partition('-')[0]]}")
    model = cls.from_pretrained(WEIGHTS / head)
    assert model.num_labels == len(model.config.id2label)
    assert model.base_model is model.nystromformer is model.nystromformer.base_model
    assert (model.base_model_prefix, model.config_class) == ("nystromformer", type(model.config))
    assert model.training is False
    assert dict(model.named_parameters()) == model.state_dict()
    assert sum(value.size for value in model.parameters()) == model.num_parameters(only_trainable=True)
    decoder = model.get_output_embeddings()
    assert (decoder is None) == (head != "masked-lm")
    assert decoder is None or np.shares_memory(decoder.weight, model.get_input_embeddings().weight)


@pytest.mark.parametrize(
    ("features", "labels"),
    [
        ([{"a": [1, 2], "label": 1}, {"a": [3, 4], "label": 0}], np.array([1, 0])),
        ([{"a": [1, 2], "label": 0.5}, {"a": [3, 4], "label": 1.0}], np.array([0.5, 1.0], np.float32)),
        ([{"a": [1, 2], "label_ids": [5, 6]}, {"a": [3, 4], "label_ids": [7, 8]}], np.array([[5, 6], [7, 8]])),
        ([{"a": np.array([1, 2]), "text": "x", "b": None}, {"a": np.array([3, 4]), "text": "y", "b": None}], None),
    ],
)
def test_the_default_collator(features: Any, labels: Any) -> None:
    for collate in (nystrom_np.default_data_collator, nystrom_np.DefaultDataCollator()):
        batch = collate(features)
        np.testing.assert_array_equal(batch["a"], [[1, 2], [3, 4]])
        assert set(batch) == ({"a"} if labels is None else {"a", "labels"})
        if labels is not None:
            np.testing.assert_array_equal(batch["labels"], labels)
            assert batch["labels"].dtype == labels.dtype
    with pytest.raises(ValueError, match="return_tensors is \"np\", found 'pt'"):
        nystrom_np.default_data_collator(features, return_tensors="pt")


def test_a_pipeline_made_of_its_class(tmp_path: Path) -> None:
    folder = WEIGHTS / "sequence-classification"
    model, tokenizer = (
        nystrom_np.AutoModelForSequenceClassification.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    classify = nystrom_np.TextClassificationPipeline(model=model, tokenizer=tokenizer)
    assert classify("A joy.") == pipeline("text-classification", model=model, tokenizer=tokenizer)("A joy.")
    assert (classify.device, classify.task) == ("cpu", "text-classification")
    classify.save_pretrained(save_directory=tmp_path)
    assert pipeline("text-classification", str(tmp_path))("A joy.") == classify("A joy.")


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({"max_length": 8, "pad_to_max_length": True}, [2, 7, 40, 102, 3, 0, 0, 0]),
        ({"max_length": 4, "pad_to_max_length": True}, [2, 7, 40, 3]),
        ({"max_length": 4, "pad_to_max_length": True, "truncation": False}, [2, 7, 40, 102, 3]),
        ({"pad_to_max_length": True}, [2, 7, 40, 102, 3]),
        ({"max_length": 4, "pad_to_max_length": False}, [2, 7, 40, 3]),
        ({"max_length": 8, "pad_to_max_length": True, "padding": True}, [2, 7, 40, 102, 3]),
        ({"max_length": 4, "truncation_strategy": "only_first", "padding": True}, [2, 7, 40, 3]),
        ({"max_length": 4, "truncation_strategy": "do_not_truncate", "padding": True}, [2, 7, 40, 102, 3]),
        ({"max_length": 4, "truncation_strategy": "only_first", "truncation": False}, [2, 7, 40, 102, 3]),
    ],
)
def test_options_under_the_names_of_transformers_2(options: dict[str, Any], ids: list[int]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / "masked-lm")
    with pytest.warns(UserWarning, match="is an older name: use (padding=.max_length.|truncation)"):
        assert tokenizer.encode_plus("a b c", **options).input_ids == ids
    with pytest.warns(UserWarning, match="is an older name"):
        assert tokenizer.encode("a b c", **options) == tokenizer("a b c", **options).input_ids == ids
