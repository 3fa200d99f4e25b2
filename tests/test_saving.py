"""Saving that is interrupted: the old checkpoint or the new one, whole."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nystrom_np import NystromformerConfig, NystromformerModel
from nystrom_np.saving import SAVED, WORK, latest, replacing_checkpoint
from tests.permissions import permissions_hold

pytestmark = pytest.mark.host

SIZES = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 1}
SIZES |= {"vocab_size": 200, "max_position_embeddings": 16}


def model(number: int) -> NystromformerModel:
    """Parameters that are all the number, which the configuration has too: files of two do not go together."""
    config = NystromformerConfig(**SIZES, bos_token_id=number)
    shapes = NystromformerModel.parameter_shapes(config)
    return NystromformerModel(config, parameters={n: np.full(s, number, np.float32) for n, s in shapes.items()})


def number_of(folder: Path) -> int:
    """Load the checkpoint, and see that it is whole and of one saving."""
    found = NystromformerModel.from_pretrained(folder)
    numbers = {float(number) for value in found.state_dict().values() for number in np.unique(value)}
    assert numbers == {float(found.config.bos_token_id or 0)}
    return int(numbers.pop())


def test_stopped_at_each_step(tmp_path: Path) -> None:
    """Each call that changes the folder is in turn the one before which the process ends."""
    seen = set()
    for last in range(30):
        folder = tmp_path / str(last)
        model(1).save_pretrained(folder)
        finished = end_before(last, folder)
        found = number_of(folder)
        seen.add(found)
        assert found == 2 if finished else found in (1, 2)
        model(3).save_pretrained(folder)
        assert number_of(folder) == 3
        assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
        if finished:
            break
    assert finished
    assert last > 5
    assert seen == {1, 2}


def end_before(last: int, folder: Path) -> bool:
    """Save in a fork that ends before its call number `last`; return whether it ended by itself."""
    if (child := os.fork()) == 0:
        left = [last]

        def counted(function: Any) -> Any:
            def call(*arguments: Any, **options: Any) -> Any:
                if left[0] == 0:
                    os._exit(9)
                left[0] -= 1
                return function(*arguments, **options)

            return call

        try:
            for owner, names in ((Path, ("mkdir", "rename", "replace", "chmod", "unlink", "write_text", "touch")),
                                 (shutil, ("copyfile", "rmtree"))):  # fmt: skip
                for name in names:
                    setattr(owner, name, counted(getattr(owner, name)))
            model(2).save_pretrained(folder)
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 0


SAVER = """
import sys
from pathlib import Path
from tests.test_saving import model
print("ready", flush=True)
number = int(sys.argv[2])
while True:
    model(number).save_pretrained(sys.argv[1])
    number += 2
"""


def saver(folder: Path, first: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", SAVER, str(folder), str(first)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.parametrize("kills", [2, pytest.param(40, marks=pytest.mark.slow)])
def test_two_processes_killed_while_they_save(kills: int, tmp_path: Path) -> None:
    rng = random.Random(0)
    model(1).save_pretrained(tmp_path)
    for _ in range(kills):
        both = [saver(tmp_path, first) for first in (2, 3)]
        time.sleep(0.05 + 0.3 * rng.random())
        for process in both:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        number_of(tmp_path)
    model(1).save_pretrained(tmp_path)
    assert number_of(tmp_path) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("room", [0, 300, 3000, 20_000])
def test_a_disk_that_is_full(room: int, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: beyond it writing fails."""
    import resource

    model(1).save_pretrained(tmp_path)
    if (child := os.fork()) == 0:
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
            model(2).save_pretrained(tmp_path)
        except OSError:
            os._exit(3)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert number_of(tmp_path) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_that_cannot_be_written_to(there: bool, tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    if there:
        model(1).save_pretrained(folder)
    else:
        folder.mkdir()
    before = sorted(path.name for path in folder.iterdir())
    folder.chmod(0o500)
    with permissions_hold(), pytest.raises(PermissionError, match="closed"):
        model(2).save_pretrained(folder)
    assert sorted(path.name for path in folder.iterdir()) == before
    assert not there or number_of(folder) == 1


def test_files_that_cannot_be_moved_once_they_are_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model(1).save_pretrained(tmp_path)
    replace = Path.replace

    def refused(self: Path, target: Path) -> Path:
        if SAVED in str(self):
            raise OSError(errno.EIO, "Input/output error")
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", refused)
        with pytest.raises(OSError, match="Input/output error"):
            model(2).save_pretrained(tmp_path)
    assert latest(tmp_path) == tmp_path / SAVED
    assert number_of(tmp_path) == 2
    assert NystromformerConfig.from_pretrained(tmp_path).bos_token_id == 2


def test_what_is_left_over_and_not_whole_is_not_read(tmp_path: Path) -> None:
    model(1).save_pretrained(tmp_path)
    for name in (SAVED, f"{WORK}0123"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert number_of(tmp_path) == 1
    with pytest.raises(KeyboardInterrupt), replacing_checkpoint(tmp_path):
        raise KeyboardInterrupt
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def no_locks(*arguments: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    (tmp_path / f"{WORK}0123").mkdir()
    model(2).save_pretrained(tmp_path)
    assert number_of(tmp_path) == 2
    assert (tmp_path / f"{WORK}0123").is_dir()  # it may be of one that is at work
    monkeypatch.setitem(sys.modules, "fcntl", None)
    model(3).save_pretrained(tmp_path)
    assert number_of(tmp_path) == 3
