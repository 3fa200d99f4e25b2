"""The names that code written for transformers loads by."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nystrom_np
from nystrom_np import AutoConfig, AutoModel, AutoTokenizer, NystromformerConfig, NystromformerTokenizer

HEADS = ("MaskedLM", "MultipleChoice", "QuestionAnswering", "SequenceClassification", "TokenClassification")
WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
TINY = {"vocab_size": 11, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}


def auto(head: str) -> Any:
    return getattr(nystrom_np, f"AutoModelFor{head}")


def named(head: str) -> Any:
    return getattr(nystrom_np, f"NystromformerFor{head}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WEIGHTS / "masked-lm", tmp_path / "copy", ignore=shutil.ignore_patterns("reference*")))


def as_model_type(folder: Path, model_type: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": model_type}))


@pytest.mark.parametrize("head", HEADS)
def test_a_head_is_loaded_by_its_name(head: str, tmp_path: Path) -> None:
    saved = named(head)(NystromformerConfig(**TINY), seed=3)
    saved.save_pretrained(tmp_path)
    loaded = auto(head).from_pretrained(tmp_path, dtype="float64", trust_remote_code=False, num_landmarks=4)
    assert type(loaded) is named(head)
    assert (loaded.dtype, loaded.config.num_landmarks) == (np.float64, 4)
    for name, value in saved.state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], value)


@pytest.mark.parametrize("head", HEADS)
def test_a_head_is_made_from_a_configuration(head: str) -> None:
    config = AutoConfig.for_model("nystromformer", **TINY)
    model = auto(head).from_config(config, seed=5)
    assert type(model) is named(head)
    for name, value in named(head)(config, seed=5).state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], value)


def test_configuration_tokenizer_and_bare_model() -> None:
    where = WEIGHTS / "masked-lm"
    assert AutoConfig.from_pretrained(where, num_landmarks=8) == NystromformerConfig.from_pretrained(
        where, num_landmarks=8
    )
    tokenizer = AutoTokenizer.from_pretrained(str(where), use_fast=True, padding_side="left")
    assert (type(tokenizer), tokenizer.padding_side) == (NystromformerTokenizer, "left")
    assert type(AutoModel.from_pretrained(where)) is nystrom_np.NystromformerModel


@pytest.mark.parametrize("name", [name for name in nystrom_np.__all__ if name.startswith("Auto")])
@pytest.mark.parametrize("model_type", ["bert", "", 3])
def test_another_model_is_one_sentence(name: str, model_type: Any, folder: Path) -> None:
    as_model_type(folder, model_type)
    with pytest.raises(ValueError, match=rf"config\.json: model_type must be 'nystromformer'; found {model_type!r}"):
        getattr(nystrom_np, name).from_pretrained(folder)


def test_a_tokenizer_needs_no_configuration(folder: Path) -> None:
    as_model_type(folder, "bert")
    assert AutoTokenizer.from_pretrained(folder, config=NystromformerConfig()).sep_token == "[SEP]"
    (folder / "config.json").unlink()
    assert AutoTokenizer.from_pretrained(folder).sep_token == "[SEP]"
    (folder / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no tokenizer\.json"):
        AutoTokenizer.from_pretrained(folder)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        AutoTokenizer.from_pretrained(folder / "nowhere")


@pytest.mark.parametrize("name", [name for name in nystrom_np.__all__ if name.startswith("Auto")])
def test_there_are_no_instances(name: str) -> None:
    with pytest.raises(OSError, match=rf"{name} is made by {name}\.from_pretrained"):
        getattr(nystrom_np, name)(NystromformerConfig())


def test_another_kind_of_model_by_name() -> None:
    with pytest.raises(ValueError, match="found 'bert'"):
        AutoConfig.for_model("bert")
