"""Pickles: small where the folder says all, whole where something was changed, refused where the folder has changed."""

import copy
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nystrom_np import (
    NystromformerForMaskedLM,
    NystromformerForTokenClassification,
    NystromformerModel,
    NystromformerTokenizer,
    pipeline,
)
from nystrom_np.text_vectors import TextVectors

pytestmark = pytest.mark.host

SMALL = 700
"""Bytes, with the folder's name of about a hundred."""


@pytest.fixture
def folder(checkpoints: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoints / "masked-lm-nystrom", tmp_path / "model"))


def through(thing: Any) -> tuple[Any, int]:
    data = pickle.dumps(thing)
    return pickle.loads(data), len(data)


def assert_same(model: Any, other: Any) -> None:
    assert type(other) is type(model)
    assert other.config == model.config
    assert (other.dtype, other.device, other.initialised) == (model.dtype, model.device, model.initialised)
    mine, found = model.state_dict(), other.state_dict()
    assert list(found) == list(mine)
    for name in mine:
        assert found[name].tobytes() == mine[name].tobytes(), name
    inputs = {"input_ids": [[2, 7, 9, 3]]}
    assert model(**inputs)[0].tobytes() == other(**inputs)[0].tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("fields", [{}, {"num_landmarks": 3, "masking": "invariant", "id2label": {0: "a", 1: "b"}}])
def test_a_model_is_its_folder(dtype: str, fields: dict[str, Any], folder: Path) -> None:
    model = NystromformerForMaskedLM.from_pretrained(folder, dtype=dtype, **fields)
    other, size = through(model)
    assert size < SMALL
    assert_same(model, other)
    assert other.state_dict()["cls.predictions.bias"].flags.writeable == (dtype != "float32")  # mapped again


@pytest.mark.parametrize("kind", [NystromformerModel, NystromformerForMaskedLM])
def test_settings_of_one_call(kind: Any, folder: Path) -> None:
    model = kind.from_pretrained(folder)
    changed = model.configured(pinv_iterations=2)
    other, size = through(changed)
    assert (size < SMALL) == (kind is NystromformerModel)  # the encoder in one with a head keeps its own settings
    assert_same(changed, other)
    assert model.config.pinv_iterations == 6


def test_an_encoder_that_was_changed(folder: Path) -> None:
    model = NystromformerForMaskedLM.from_pretrained(folder)
    model.nystromformer.double()
    other, size = through(model)
    assert size > 10_000
    assert other.nystromformer.dtype == "float64"
    assert_same(model, other)


def test_a_dtype_that_gives_the_same_bits(folder: Path) -> None:
    for changed in (
        NystromformerModel.from_pretrained(folder).double(),
        NystromformerModel.from_pretrained(folder).half(),
    ):
        other, size = through(changed)
        assert size < SMALL
        assert_same(changed, other)
    rounded = NystromformerModel.from_pretrained(folder, dtype="float16").float()
    other, size = through(rounded)
    assert size > 10_000  # the folder has more digits
    assert_same(rounded, other)


def test_a_head_that_was_drawn(folder: Path) -> None:
    with pytest.warns(UserWarning, match="classifier"):
        model = NystromformerForTokenClassification.from_pretrained(folder, num_labels=3)
    other, size = through(model)
    assert size < SMALL
    assert model.initialised
    assert_same(model, other)


def set_one_number(model: Any) -> None:
    model.state_dict()["embeddings.LayerNorm.weight"][1] += 1e-9


CHANGES: list[Callable[[Any], Any]] = [
    set_one_number,
    lambda model: model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()}),
    lambda model: model.resize_token_embeddings(model.config.vocab_size + 1),
]


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_not_lost(change: Callable[[Any], Any], folder: Path) -> None:
    model = NystromformerModel.from_pretrained(folder, dtype="float64")
    change(model)
    other, size = through(model)
    assert size > 10_000
    assert_same(model, other)


def test_what_was_added_is_not_lost(folder: Path) -> None:
    model = NystromformerModel.from_pretrained(folder)
    model.mine = "a note"
    assert through(model)[0].mine == "a note"


def test_without_a_folder(folder: Path) -> None:
    model = NystromformerModel.from_pretrained(folder)
    drawn = NystromformerModel(model.config)
    assert_same(drawn, through(drawn)[0])
    given = NystromformerModel.from_pretrained(None, config=model.config, state_dict=model.state_dict())
    assert_same(given, through(given)[0])
    shutil.rmtree(folder)
    other, size = through(model)  # the mapped file lives as long as the model
    assert size > 10_000
    assert_same(model, other)


def test_a_folder_that_changed_before_and_after(folder: Path, checkpoints: Path, tmp_path: Path) -> None:
    model = NystromformerModel.from_pretrained(folder)
    data = pickle.dumps(model)
    other = NystromformerModel(model.config, seed=5)
    other.save_pretrained(folder)
    assert_same(model, through(model)[0])
    with pytest.raises(ValueError, match="has other files than when what was pickled came from there"):
        pickle.loads(data)
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="no folder"):
        pickle.loads(data)


def test_copies_are_of_the_thing_itself(folder: Path) -> None:
    model = NystromformerModel.from_pretrained(folder, dtype="float64")
    name = "embeddings.LayerNorm.weight"
    assert copy.copy(model).state_dict()[name] is model.state_dict()[name]
    deep = copy.deepcopy(model)
    set_one_number(deep)
    assert deep.state_dict()[name][1] != model.state_dict()[name][1]
    tokenizer = NystromformerTokenizer.from_pretrained(folder)
    tokenizer.padding_side = "left"
    assert copy.copy(tokenizer).backend is tokenizer.backend
    assert copy.deepcopy(tokenizer).padding_side == "left"


def test_a_tokenizer_is_its_folder(folder: Path) -> None:
    tokenizer = NystromformerTokenizer.from_pretrained(folder, model_max_length=9)
    tokenizer(["a film", "of great charm"], padding=True)  # which sets the library's own padding
    other, size = through(tokenizer)
    assert size < SMALL
    assert other.model_max_length == 9
    assert other(["a film of charm", "it"], padding=True) == tokenizer(["a film of charm", "it"], padding=True)
    data = pickle.dumps(tokenizer)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "padding_side": "left"}))
    assert through(tokenizer)[0].padding_side == "right"
    with pytest.raises(ValueError, match="has other files"):
        pickle.loads(data)


def test_a_tokenizer_that_was_changed(folder: Path) -> None:
    for change in (
        lambda tokenizer: tokenizer.add_tokens(["charming"]),
        lambda tokenizer: setattr(tokenizer, "padding_side", "left"),
        lambda tokenizer: setattr(tokenizer, "pad_token", "[SEP]"),
    ):
        tokenizer = NystromformerTokenizer.from_pretrained(folder)
        change(tokenizer)
        other, size = through(tokenizer)
        assert size > 1_000
        assert vars(other).keys() == vars(tokenizer).keys()
        assert other.get_vocab() == tokenizer.get_vocab()
        assert (other.padding_side, other.pad_token) == (tokenizer.padding_side, tokenizer.pad_token)


def test_pipelines(weights: Path) -> None:
    for answer, text in [
        (pipeline("text-classification", top_k=None), "A wonderful film."),
        (pipeline("fill-mask", torch_dtype="float64", top_k=2), "A wonderful [MASK]."),
    ]:
        other, size = through(answer)
        assert size < 1_500
        assert other(text) == answer(text)
    make = TextVectors.of(weights / "masked-lm", "first", "float32", "cpu", {"num_landmarks": 8})
    other, size = through(make)
    assert size < 1_500
    assert other.digest() == make.digest()
    assert np.array_equal(other.vectors(other.encodings(["A dog."])), make.vectors(make.encodings(["A dog."])))


@pytest.mark.slow
def test_ray_data_maps_a_pipeline(tmp_path: Path) -> None:
    """The script of the page on clusters, with the labels that the pipeline gives alone."""
    pytest.importorskip("ray.data", reason="needs Ray, which is in no extra: pip install 'ray[data]'")
    import pyarrow.parquet as parquet

    root = Path(__file__).resolve().parent.parent
    texts = ["A wonderful film, full of life.", "A dull and lifeless story."] * 20
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    command = [sys.executable, "docs/examples/ray_data.py", str(tmp_path / "corpus.jsonl"), str(tmp_path / "labels")]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run(command, check=True, capture_output=True, timeout=200, cwd=root, env=environment)
    rows = parquet.read_table(tmp_path / "labels").to_pylist()
    expected = [one["label"] for one in pipeline("text-classification")(texts)]
    assert sorted((row["text"], row["label"]) for row in rows) == sorted(zip(texts, expected, strict=True))
