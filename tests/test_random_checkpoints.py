"""The random checkpoints: what ``tests/checkpoints`` holds, and that this package reproduces the stored outputs."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from nystrom_np import NystromformerTokenizer
from nystrom_np.demo import HEADS
from tests.reference import compare

FOLDERS = [f"{head}-{branch}" for head in HEADS for branch in ("dense", "nystrom")]


@pytest.fixture(params=FOLDERS)
def folder(request, checkpoints):
    return checkpoints / request.param


def reference(folder):
    """``[(case, inputs, outputs)]`` of a folder."""
    told = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
    arrays = load_file(folder / "reference.safetensors")
    return [
        (
            case,
            {name: arrays[f"{case['name']}/inputs/{name}"] for name in case["inputs"]},
            {name: arrays[f"{case['name']}/outputs/{name}"] for name in case["outputs"]},
        )
        for case in told["cases"]
    ]


def flags(outputs):
    """What the call must be asked for, to return these."""
    kinds = {name.partition(".")[0] for name in outputs}
    return {f"output_{kind}": True for kind in ("hidden_states", "attentions") if kind in kinds}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_stored_outputs(folder, dtype):
    told = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
    assert told["tolerance"] == {"float64": compare.FLOAT64_TOLERANCE}
    model = compare.load(told["head"], folder, dtype)
    for case, inputs, outputs in reference(folder):
        distances = {name: entry["float32_distance"] for name, entry in case["outputs"].items()}
        compare.assert_agree(compare.run(model, inputs, flags(outputs)), outputs, dtype, distances)


def test_stored_ids_are_what_the_tokenizer_gives(folder):
    tokenizer = NystromformerTokenizer.from_pretrained(folder)
    for case, inputs, _ in reference(folder):
        texts = case["text"]
        if isinstance(texts[0], list) and isinstance(texts[0][0], list):  # the choices of each example
            texts = [pair for choices in texts for pair in choices]
        sides = [texts] if isinstance(texts[0], str) else [list(side) for side in zip(*texts, strict=True)]
        length = inputs["input_ids"].shape[-1]
        encoded = tokenizer(*sides, padding="max_length", max_length=length, return_tensors="np")
        for name in ("input_ids", "token_type_ids", "attention_mask"):
            np.testing.assert_array_equal(encoded[name], inputs[name].reshape(-1, length))


def test_every_kind_of_output_is_stored(folder):
    """Each head's folder stores a loss, hidden states and, but for the long multiple choice, attentions."""
    kinds = {name.partition(".")[0] for case, _, _ in reference(folder) for name in case["outputs"]}
    assert {"loss", "hidden_states"} <= kinds
    assert "attentions" in kinds or folder.name.startswith("multiple-choice")


def test_branch_and_head(folder):
    config = json.loads((folder / "config.json").read_text())
    head, _, branch = folder.name.rpartition("-")
    assert config["architectures"] == [HEADS[head].__name__]
    landmarks, seen = config["num_landmarks"], config["segment_means_seq_len"]
    assert (landmarks == seen) == (branch == "dense")
    if branch == "nystrom":  # fewer landmarks than tokens, and the only length that the reference takes
        for _, inputs, _ in reference(folder):
            assert inputs["input_ids"].shape[-1] == seen > landmarks


def test_special_ids_agree_with_the_tokenizer(folder):
    config = json.loads((folder / "config.json").read_text())
    tokenizer = NystromformerTokenizer.from_pretrained(folder)
    assert config["pad_token_id"] == tokenizer.pad_token_id == 0
    assert config["bos_token_id"] == tokenizer.cls_token_id
    assert config["eos_token_id"] == tokenizer.sep_token_id
    assert config["vocab_size"] == 1024


def test_tokenizer_files_are_copies_of_the_source(folder, checkpoints):
    for name in sorted(path.name for path in (checkpoints / "tokenizer").iterdir()):
        assert (folder / name).read_bytes() == (checkpoints / "tokenizer" / name).read_bytes()


def test_folders_are_all_tested(checkpoints):
    made = {path.parent.name for path in checkpoints.glob("*/config.json")}
    assert set(FOLDERS) <= made
