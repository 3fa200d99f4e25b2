"""Checkpoints from the Hugging Face Hub: its file routes are spoken by a server on loopback, nothing goes further."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants, get_hf_file_metadata
from safetensors.numpy import load_file, save_file

from nystrom_np import (
    NystromformerConfig,
    NystromformerForMaskedLM,
    NystromformerModel,
    NystromformerTokenizer,
    hub_guard,
)
from tests.hub_server import Hub, ask_at, serving

NAME = "uw-madison/nystromformer-tiny"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(time, "sleep", lambda _: None)  # it waits before it asks again
    with serving() as server:
        ask_at(server.endpoint, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        yield server


@pytest.fixture
def checkpoint(checkpoints: Path, tmp_path: Path) -> Path:
    """Return a checkpoint's folder that a test may change, and that no name stands for."""
    ignore = shutil.ignore_patterns("reference*", "README*")
    return Path(shutil.copytree(checkpoints / "masked-lm-dense", tmp_path / "served", ignore=ignore))


@pytest.fixture
def where(tmp_path: Path) -> dict[str, Any]:
    return {"cache_dir": tmp_path / "cache"}


def shard(folder: Path) -> None:
    """Split the weights into three files with an index."""
    tensors = load_file(folder / "model.safetensors")
    names = [f"model-{i}-of-3.safetensors" for i in (1, 2, 3)]
    weight_map = {name: names[i % 3] for i, name in enumerate(tensors)}
    for file in names:
        part = {name: tensors[name] for name, place in weight_map.items() if place == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model.safetensors").unlink()


def assert_same(one: Any, other: Any) -> None:
    assert one.config == other.config
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, value in one.state_dict().items():
        np.testing.assert_array_equal(value, other.state_dict()[name])


def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    ask_at("http://127.0.0.1:9", monkeypatch)  # where nobody listens


def test_config_model_and_tokenizer_are_those_of_the_repository(
    hub: Hub, checkpoint: Path, where: dict[str, Any]
) -> None:
    hub.add(NAME, checkpoint)
    model = NystromformerForMaskedLM.from_pretrained(NAME, **where)
    assert_same(model, NystromformerForMaskedLM.from_pretrained(checkpoint))
    assert NystromformerConfig.from_pretrained(NAME, **where) == model.config
    tokenizer = NystromformerTokenizer.from_pretrained(NAME, **where)
    local = NystromformerTokenizer.from_pretrained(checkpoint)
    assert tokenizer("Paris is the [MASK].") == local("Paris is the [MASK].")
    assert tokenizer.config == local.config
    assert {request.split()[3] for request in hub.requests if len(request.split()) == 4} == {
        *("config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    }


def test_overrides_work_as_for_a_folder(hub: Hub, checkpoint: Path, where: dict[str, Any]) -> None:
    hub.add(NAME, checkpoint)
    model = NystromformerModel.from_pretrained(NAME, dtype="float64", num_landmarks=2, **where)
    assert (model.config.uses_nystrom_attention, model.dtype) == (True, "float64")
    with pytest.raises(TypeError, match="no such configuration field: revisoin"):
        NystromformerModel.from_pretrained(NAME, revisoin="main", **where)


def test_shards(hub: Hub, checkpoint: Path, where: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = NystromformerForMaskedLM.from_pretrained(shutil.copytree(checkpoint, checkpoint.parent / "whole"))
    shard(checkpoint)
    hub.add(NAME, checkpoint)
    assert_same(NystromformerForMaskedLM.from_pretrained(NAME, **where), expected)
    assert sum("-of-3" in request and request.startswith("GET") for request in hub.requests) == 3
    no_network(monkeypatch)
    assert_same(NystromformerForMaskedLM.from_pretrained(NAME, **where), expected)


def test_an_index_that_names_a_file_elsewhere_is_refused(hub: Hub, checkpoint: Path, where: dict[str, Any]) -> None:
    shard(checkpoint)
    (checkpoint / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../secret.safetensors"}}')
    hub.add(NAME, checkpoint)
    with pytest.raises(ValueError, match=r"'\.\./\.\./secret\.safetensors' is not the name of a file beside it"):
        NystromformerForMaskedLM.from_pretrained(NAME, **where)


def test_what_is_in_the_cache_is_not_fetched_again_and_needs_no_network(
    hub: Hub, checkpoint: Path, where: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkpoint / "special_tokens_map.json").unlink()  # one that is absent is not asked for either
    hub.add(NAME, checkpoint)
    first = NystromformerForMaskedLM.from_pretrained(NAME, **where)
    NystromformerTokenizer.from_pretrained(NAME, **where)
    hub.requests.clear()
    assert_same(NystromformerForMaskedLM.from_pretrained(NAME, **where), first)
    NystromformerTokenizer.from_pretrained(NAME, **where)
    assert set(hub.requests) == {f"GET {NAME} main"}  # whether it is still the same commit
    hub.requests.clear()
    assert_same(NystromformerForMaskedLM.from_pretrained(NAME, local_files_only=True, **where), first)
    no_network(monkeypatch)
    assert_same(NystromformerForMaskedLM.from_pretrained(NAME, **where), first)
    NystromformerTokenizer.from_pretrained(NAME, **where)
    assert hub.requests == []


def test_revisions_and_a_commit_for_all_files(
    hub: Hub, checkpoint: Path, checkpoints: Path, where: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add(NAME, checkpoints / "masked-lm-nystrom", revision="trial")
    hub.add(NAME, checkpoint)
    nystrom = NystromformerForMaskedLM.from_pretrained(NAME, revision="trial", **where)
    assert nystrom.config.uses_nystrom_attention
    assert not NystromformerForMaskedLM.from_pretrained(NAME, **where).config.uses_nystrom_attention
    assert {request.split()[2] for request in hub.requests if "trial" in request} == {"trial"}
    weights_of = [request.split()[2] for request in hub.requests if request.endswith("model.safetensors")]
    assert weights_of[0] == commit  # not the name of a branch, which may move in between
    no_network(monkeypatch)
    assert_same(NystromformerForMaskedLM.from_pretrained(NAME, revision=commit, **where), nystrom)


def test_a_local_folder_of_that_name_wins(
    hub: Hub, checkpoint: Path, checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, checkpoint)
    shutil.copytree(checkpoints / "masked-lm-nystrom", tmp_path / "work" / NAME)
    monkeypatch.chdir(tmp_path / "work")
    assert NystromformerForMaskedLM.from_pretrained(NAME).config.uses_nystrom_attention
    NystromformerTokenizer.from_pretrained(NAME, revision="no such")
    assert hub.requests == []


@pytest.mark.parametrize(
    "name", [Path(NAME), "nystromformer-tiny", "a/b/c", "./a", "../a", "/absent/folder", "ä/b", "a/"]
)
def test_what_cannot_name_a_repository_is_a_folder(hub: Hub, name: str | Path) -> None:
    for load in (NystromformerConfig.from_pretrained, NystromformerTokenizer.from_pretrained):
        with pytest.raises(FileNotFoundError, match=r"no file .*config.json: a local folder|there is no folder"):
            load(name)
    assert hub.requests == []


def fails(load: Callable[..., Any], error: type[Exception], match: str, **options: Any) -> str:
    with pytest.raises(error, match=match) as caught:
        load(NAME, **options)
    assert isinstance(caught.value, OSError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


LOADERS = [
    NystromformerConfig.from_pretrained,
    NystromformerForMaskedLM.from_pretrained,
    NystromformerTokenizer.from_pretrained,
]


@pytest.mark.parametrize("load", LOADERS)
def test_what_is_wrong_is_said(
    load: Callable[..., Any],
    hub: Hub,
    checkpoint: Path,
    where: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fails(
        load, FileNotFoundError, rf"there is no folder {NAME} here and no repository {NAME} on http.*HF_TOKEN", **where
    )
    hub.add(NAME, checkpoint)
    fails(load, FileNotFoundError, f"repository {NAME} on .* has no revision 'v9'", revision="v9", **where)
    fails(load, ConnectionError, "is not in the cache, and local_files_only=True", local_files_only=True, **where)
    hub.gated.add(NAME)
    fails(load, PermissionError, f"{NAME} on .* is open only to those", **where)
    no_network(monkeypatch)
    fails(load, ConnectionError, "is not in the cache, and it cannot be fetched: .*refused", **where)


def test_weights_that_were_not_fetched_before_the_network_was_gone(
    hub: Hub, checkpoint: Path, where: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, checkpoint)
    NystromformerConfig.from_pretrained(NAME, **where)
    no_network(monkeypatch)
    fails(NystromformerModel.from_pretrained, ConnectionError, "model.safetensors of .* is not in the cache", **where)


def test_files_that_a_repository_lacks(hub: Hub, checkpoint: Path, where: dict[str, Any]) -> None:
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "model.safetensors").unlink()
    hub.add(NAME, checkpoint)
    fails(NystromformerTokenizer.from_pretrained, FileNotFoundError, f"{NAME} on .* has no tokenizer.json", **where)
    found = fails(NystromformerModel.from_pretrained, FileNotFoundError, "has no model.safetensors", **where)
    assert "convert" not in found


@pytest.mark.parametrize("file", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_a_repository_with_a_pickle_alone_names_the_command_that_converts_it(
    hub: Hub, checkpoint: Path, where: dict[str, Any], file: str
) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / file)
    hub.add(NAME, checkpoint)
    said = f"only as {file}, a pickle.*: nystrom-np convert {NAME} FOLDER"
    fails(NystromformerModel.from_pretrained, FileNotFoundError, said, **where)
    assert not any(request.startswith("GET") and request.endswith(file) for request in hub.requests)


def test_a_download_that_breaks_off_is_an_error_and_is_taken_up_again(
    hub: Hub, checkpoint: Path, where: dict[str, Any]
) -> None:
    hub.add(NAME, checkpoint)
    hub.broken.add("model.safetensors")
    fails(NystromformerModel.from_pretrained, OSError, "model.safetensors of .* could not be fetched", **where)
    hub.broken.clear()
    model = NystromformerForMaskedLM.from_pretrained(NAME, **where)
    assert_same(model, NystromformerForMaskedLM.from_pretrained(checkpoint))


ESCAPES = ["../../../OUT", "/OUT", "..", ".", "a/b", "a\\b", "C:OUT", "a b", "", "x" * 300, '"../OUT"', 'W/"/OUT"']


@pytest.mark.parametrize("name", ["ETag", "X-Linked-Etag", "X-Repo-Commit", "X-Xet-Hash"])
def test_what_a_server_says_becomes_no_name_elsewhere(
    hub: Hub, checkpoint: Path, where: dict[str, Any], name: str
) -> None:
    hub.add(NAME, checkpoint)
    before = set(where["cache_dir"].parent.rglob("*"))
    for lie in (*ESCAPES, str(where["cache_dir"].parent / "OUT")):  # absolute, where it would be seen
        hub.lies[name] = lie
        said = f"the server's {name} is '.*', which is no plain name"
        fails(NystromformerConfig.from_pretrained, OSError, said, **where)
    made = set(where["cache_dir"].parent.rglob("*")) - before
    assert all(where["cache_dir"] in (path, *path.parents) for path in made)
    assert not any(path.is_file() for path in where["cache_dir"].rglob("blobs/**/*"))


@pytest.mark.parametrize("lies", [{"sha": 0}, {"oid": 0}, {"lfs": 0}, {"xetHash": 0}], ids=str)
def test_what_a_server_lists_becomes_no_name_elsewhere(
    hub: Hub, checkpoint: Path, where: dict[str, Any], lies: dict[str, Any]
) -> None:
    hub.add(NAME, checkpoint)
    [key] = lies
    for lie in ("../../../OUT", str(where["cache_dir"].parent / "OUT"), "a\\b", 7, ["a"]):
        hub.lies = {key: {"oid": lie, "size": 1, "pointerSize": 1} if key == "lfs" else lie}
        said = f"the server's {key.replace('lfs', 'oid')} is .*, which is no plain name"
        fails(NystromformerConfig.from_pretrained, OSError, said, **where)
    assert set(where["cache_dir"].parent.iterdir()) <= {checkpoint, where["cache_dir"]}


def test_files_that_nobody_asked_for_are_not_fetched(hub: Hub, checkpoint: Path, where: dict[str, Any]) -> None:
    hub.add(NAME, checkpoint)
    hub.lies["path"] = "../../../config.json"
    fails(NystromformerConfig.from_pretrained, OSError, "has no config.json", **where)
    assert not any("resolve" in request or request.endswith("json") for request in hub.requests)


@pytest.mark.parametrize("etag", ['"abc-5"', 'W/"00ff"', "00ff", '"a.b_c"'])
def test_etags_that_servers_do_send(hub: Hub, checkpoint: Path, where: dict[str, Any], etag: str) -> None:
    hub.add(NAME, checkpoint)
    hub.lies["ETag"] = etag
    NystromformerConfig.from_pretrained(NAME, **where)


@pytest.mark.parametrize("revision", ["../../x", "/x", "a/../b", "..", ".", "", "a//b", "a/", "a\\b", "C:x", "a\0b"])
def test_a_revision_is_a_name(hub: Hub, checkpoint: Path, where: dict[str, Any], revision: str) -> None:
    hub.add(NAME, checkpoint)
    with pytest.raises(ValueError, match="revision must be the name of a branch or tag, or a commit; found"):
        NystromformerConfig.from_pretrained(NAME, revision=revision, **where)
    assert hub.requests == []


FAULTS = [
    {"HEAD": "close", "GET": "close"},
    {"HEAD": 500, "GET": 500},
    *({kind: fault} for kind in ("HEAD", "resolve", "revision", "tree") for fault in ("close", 500, 429)),
]


@pytest.mark.parametrize("faults", FAULTS, ids=str)
def test_a_server_that_fails_is_given_up_soon(
    checkpoint: Path, where: dict[str, Any], faults: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the command line, one line says so. The clock is one on which the library's waiting takes no time."""
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(hub_guard, "monotonic", lambda: sum(slept))
    with serving() as server:
        ask_at(server.endpoint, monkeypatch)
        server.add(NAME, checkpoint)
        server.faults = faults
        fails(NystromformerConfig.from_pretrained, OSError, "config.json of repository .*", **where)
    assert sum(slept) < 9


@pytest.mark.parametrize("kind", ["HEAD", "resolve", "revision", "tree"])
def test_a_server_that_is_silent_is_given_up_soon(
    hub: Hub, checkpoint: Path, where: dict[str, Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_guard, "LONGEST_WAIT", 0.1)
    monkeypatch.setattr(hub_guard, "PATIENCE", 0.05)
    hub.add(NAME, checkpoint)
    hub.faults[kind] = "silent"
    began = time.monotonic()
    fails(NystromformerConfig.from_pretrained, OSError, "config.json of repository .*", **where)
    assert time.monotonic() - began < 5  # without the limit it is 10 and more


def test_one_line_on_the_command_line(checkpoint: Path, tmp_path: Path) -> None:
    with serving() as server:
        server.add(NAME, checkpoint)
        server.faults = {"HEAD": 503, "GET": 503}
        environment = {**os.environ, "HF_ENDPOINT": server.endpoint, "HF_HOME": str(tmp_path / "home")}
        run = [sys.executable, "-m", "nystrom_np", "fill-mask", "--model", NAME, "A [MASK]."]
        ended = subprocess.run(run, capture_output=True, text=True, timeout=60, env=environment)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)


def test_requests_of_others_are_left_alone(hub: Hub, checkpoint: Path, where: dict[str, Any]) -> None:
    """A user's own session is the one that is watched, and only while something is fetched."""
    hub.add(NAME, checkpoint)
    NystromformerConfig.from_pretrained(NAME, **where)
    hub.lies["X-Linked-Etag"] = "a/b"
    told = get_hf_file_metadata(f"{hub.endpoint}/{NAME}/resolve/main/config.json")
    assert told.etag == "a/b"


def test_the_environment_says_where_the_hub_is(checkpoint: Path, tmp_path: Path) -> None:
    with serving() as server:
        server.add(NAME, checkpoint)
        code = f"import nystrom_np; print(nystrom_np.NystromformerModel.from_pretrained({NAME!r}).num_parameters())"
        environment = {**os.environ, "HF_ENDPOINT": server.endpoint, "HF_HOME": str(tmp_path / "home")}
        run = [sys.executable, "-c", code]
        ended = subprocess.run(run, capture_output=True, text=True, timeout=60, env=environment, check=True)
    expected = NystromformerModel.from_pretrained(checkpoint).num_parameters()
    assert int(ended.stdout) == expected
    assert any((tmp_path / "home" / "hub").glob("models--uw-madison--*/snapshots/*/model.safetensors"))
