"""Standard streams of the command that are closed, full, or a terminal that obeys control characters."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nystrom_np import cli

pytestmark = pytest.mark.host

ESCAPE = "\x1b[31m"


@pytest.mark.parametrize("name", [f"{ESCAPE}red", "a\nb", "a\x9b2Jb", "\x7f", "\ud800"])
def test_a_name_is_said_without_control_characters(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for command in (["inspect", name], ["fill-mask", "--file", name], ["fill-mask", "--top-k", name]):
        try:
            code = cli.main(command)
        except SystemExit as end:
            code = end.code
        assert code == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert said.rstrip("\n").isprintable()


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_what_a_checkpoint_says_is_printed_without_control_characters(
    options: list[str], checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (checkpoints / "token-classification-dense").iterdir():
        (tmp_path / path.name).symlink_to(path)
    config = json.loads((tmp_path / "config.json").read_text())
    labels = {number: f"{ESCAPE}{number}\x9b" for number in config["id2label"]}
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(config | {"id2label": labels, "label2id": None}))
    for command in (["inspect", str(tmp_path)], ["token-classification", "A dog.", "--model", str(tmp_path)]):
        assert cli.main([*command, *options]) == 0
        printed = capsys.readouterr().out
        assert all(line.isprintable() for line in printed.splitlines())
        assert r"\u001b[31m" in printed
        if options:  # it means the same
            assert json.dumps(ESCAPE)[1:-1] in json.dumps(json.loads(printed))


def test_streams_that_are_closed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*command: str) -> int:
        try:
            return cli.main(command)
        except SystemExit as end:
            return int(end.code or 0)

    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert run("text-classification", "Fine.") == 0
    assert run("text-classification") == 2  # nothing to read
    assert run("inspect", "no/such/folder") == run("inspect", "--nonsense") == 2
    assert run("--version") == 0
    assert sys.stdout is None


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")  # noqa: PTH110
@pytest.mark.parametrize("command", [["inspect", "weights/masked-lm"], ["--help"]])
def test_a_full_disk_is_said_once(command: list[str]) -> None:
    """Python flushes again when it ends: that must neither fail nor be said."""
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    arguments: dict[str, Any] = {"cwd": root, "env": environment, "stderr": subprocess.PIPE, "text": True}
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([sys.executable, "-m", "nystrom_np", *command], stdout=full, **arguments)
    assert (ended.returncode, ended.stderr) == (2, "nystrom-np: [Errno 28] No space left on device\n")
