"""The shipped checkpoints: one for each head, running Nyström attention, equal to the reference on stored inputs."""

import json

import pytest

from nystrom_np import demo
from nystrom_np.checkpoint import stored_tensors
from nystrom_np.pipelines import load_whole


@pytest.fixture(params=demo.HEADS)
def folder(request, weights):
    return weights / request.param


def test_the_head_is_the_folders(folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == [demo.HEADS[folder.name].__name__]
    load_whole(demo.HEADS[folder.name], folder)  # all of it is in the file


def test_nystrom_attention_runs(folder):
    """At the one length at which the reference runs it, with fewer landmarks than tokens."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    _, cases = demo._stored_cases(folder)
    assert cases
    for case in cases:
        assert case.inputs["input_ids"].shape[-1] == config["segment_means_seq_len"] > config["num_landmarks"]


def test_stored_outputs(folder):
    comparisons = list(demo.verify(folder))
    assert {comparison.dtype for comparison in comparisons} == {"int64", "float64", "float32"}
    assert [comparison for comparison in comparisons if not comparison.agrees] == []


def test_tokenizer_files_are_copies_of_the_source(folder, weights):
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        assert (folder / name).read_bytes() == (weights / "tokenizer" / name).read_bytes()


def test_they_are_small(weights):
    """At most 8 MB a folder and 30 MB in all, in float16."""
    sizes = [sum(file.stat().st_size for file in (weights / head).iterdir()) for head in demo.HEADS]
    assert max(sizes) <= 8e6
    assert sum(sizes) <= 30e6
    for head in demo.HEADS:
        stored = stored_tensors(weights / head)
        assert {tensor.dtype for tensor in stored.values()} == {"F16"}


@pytest.mark.parametrize("heading", ["Data", "Licence", "Recipe", "Quality", "Limits"])
def test_each_has_a_model_card(folder, heading):
    assert f"## {heading}\n" in (folder / "README.md").read_text(encoding="utf-8")
