"""The shipped checkpoints: one for each head, running Nyström attention, equal to the reference on stored inputs."""

import json

import pytest

from nystrom_np import demo
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
