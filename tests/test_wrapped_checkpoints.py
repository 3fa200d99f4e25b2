"""Checkpoints as they lie about: wrapped by a training library, or a pointer or a page in their place."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from nystrom_np import NystromformerForMaskedLM, NystromformerModel, convert
from nystrom_np.checkpoint import CheckpointError, unwrapped
from nystrom_np.pipelines import load_whole
from nystrom_np.torch_archive import load_archive
from tests.models import MASKED_LM, build
from tests.torch_files import archive, state_dict

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 437000000\n"
PAGE = "<!doctype html>\n<html><body>404</body></html>"
PREFIXES = ["module.", "model.", "_orig_mod.", "module.model.", "a.b.c."]


def same_parameters(found: Any, expected: Any) -> None:
    assert found.state_dict().keys() == expected.state_dict().keys()
    for name, value in expected.state_dict().items():
        np.testing.assert_array_equal(found.state_dict()[name], value)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("head", [NystromformerForMaskedLM, NystromformerModel])
def test_a_prefix_of_all_names_is_left_out_and_named(prefix: str, head: Any, tmp_path: Path) -> None:
    model = build(head, dtype="float32")
    model.save_pretrained(tmp_path)
    arrays = {prefix + name: array for name, array in load_file(tmp_path / "model.safetensors").items()}
    save_file(arrays, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(UserWarning, match=f"all names in .*model.safetensors begin with '{prefix}', which is left out"):
        same_parameters(head.from_pretrained(tmp_path), model)
    with pytest.warns(UserWarning, match="which is left out"):
        same_parameters(load_whole(head, tmp_path), model)


@pytest.mark.parametrize("place", ["state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_in_a_file_of_torch_save(prefix: str, place: str, tmp_path: Path) -> None:
    model = build(MASKED_LM, dtype="float32")
    model.config.save_pretrained(tmp_path)
    wrapped = {prefix + name: array for name, array in model.state_dict().items()}
    path = archive({place: state_dict(wrapped), "epoch": 3}).write(tmp_path / "last.ckpt")
    with pytest.warns(UserWarning, match=f"all names in .*last.ckpt begin with '{prefix}', which is left out"):
        made = convert.convert(path, tmp_path / "made")
    assert made.model == "NystromformerForMaskedLM"
    same_parameters(NystromformerForMaskedLM.from_pretrained(made.folder), model)


@pytest.mark.parametrize(
    "names",
    [
        ["nystromformer.encoder.a", "cls.b"],
        ["encoder.a", "encoder.b"],
        ["model.transformer_0.a", "model.embeddings.b"],  # the authors' own names
        ["module.encoder.a", "criterion.b"],  # not all
        ["bert.layer.a", "bert.layer.b"],  # another model's
        ["a", "b"],
        [],
    ],
)
def test_names_that_are_nobodys_wrapper_stay(names: list[str]) -> None:
    tensors = dict.fromkeys(names, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert unwrapped(tensors, "a file") == tensors


@pytest.mark.parametrize(
    ("content", "message"), [(POINTER, "a Git LFS pointer"), (PAGE, "an HTML page"), ("\n" + PAGE, "an HTML page")]
)
def test_what_lies_in_place_of_weights_is_named(content: str, message: str, tmp_path: Path) -> None:
    model = build(MASKED_LM, dtype="float32")
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_text(content)
    with pytest.raises(CheckpointError, match=rf"model.safetensors is {message}"):
        NystromformerForMaskedLM.from_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_text(content)
    with pytest.raises(CheckpointError, match=rf"pytorch_model.bin: it is {message}"):
        load_archive(tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=rf"config.json is {message}"):
        NystromformerForMaskedLM.from_pretrained(tmp_path)
