"""Commands that take a checkpoint take a folder or a name on the Hub; question answering takes records of SQuAD."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from nystrom_np.cli import main
from tests.hub_server import Hub, ask_at, serving

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
NAME = "owner/name"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    with serving() as server:
        ask_at(server.endpoint, monkeypatch)
        yield server


def commands(place: str, folder: Path) -> dict[str, list[str]]:
    (folder / "lines.txt").write_text("A line.\nAnother line.\n")
    return {
        "fill-mask": ["--model", place, "Paris is the [MASK] of France."],
        "feature-extraction": ["--model", place, "A line."],
        "inspect": [place],
        "verify": [place, "--dtype", "float32"],
        "embed": ["--model", place, str(folder / "lines.txt"), "--output", str(folder / "made.npy")],
        "plot": ["--model", place, "A line of text.", "--output", str(folder / "made.png")],
        "explore": ["--model", place, "--text", "A line of text.", "--output", str(folder / "made.html")],
        "trace": [place, "--text", "A line.", "--output", str(folder / "made.safetensors")],
    }


NAMES = ["fill-mask", "feature-extraction", "inspect", "verify", "embed", "plot", "explore", "trace"]
HEADS = ["text-classification", "token-classification", "question-answering", "multiple-choice", "convert"]


@pytest.mark.parametrize("command", ["fill-mask", "feature-extraction", "inspect", "verify", "trace"])
def test_a_name_does_what_the_folder_does(
    command: str, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add(NAME, WEIGHTS / "masked-lm")
    printed = []
    for place in (str(WEIGHTS / "masked-lm"), NAME):
        assert main([command, *commands(place, tmp_path)[command]]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] != ""


@pytest.mark.parametrize("command", [*NAMES, *HEADS])
def test_without_network_a_name_is_one_line(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    ask_at("http://127.0.0.1:9", monkeypatch)  # where nobody listens
    given = {"convert": [NAME, str(tmp_path / "made")], "question-answering": ["--model", NAME, "Who?", "Ada did."]}
    given |= {key: ["--model", NAME, "A line."] for key in ("text-classification", "token-classification")}
    given |= {"multiple-choice": ["--model", NAME, "A", "b", "c"]}
    assert main([command, *(commands(NAME, tmp_path) | given)[command]]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("nystrom-np: ")
    assert "of repository owner/name on http://127.0.0.1:9 is not in the cache, and it cannot be fetched" in told.err
    assert told.err.count("\n") == 1
    assert not list(tmp_path.glob("made*"))


RECORDS = [
    {"id": "1", "title": "t", "answers": {"text": ["garden"], "answer_start": [17]}},
    {"id": 2, "is_impossible": False, "answers": []},
    {},
]


@pytest.mark.parametrize("more", RECORDS)
@pytest.mark.parametrize("as_json", [True, False])
def test_records_of_squad(
    more: dict[str, object], as_json: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = {"question": "Where is Mary?", "context": "Mary went to the garden."}
    (tmp_path / "squad.jsonl").write_text(json.dumps(more | pair) + "\n" + json.dumps(pair | more) + "\n")
    arguments = ["question-answering", "--file", str(tmp_path / "squad.jsonl")]
    assert main([*arguments, *(["--json"] if as_json else [])]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    if as_json:
        assert [json.loads(line)["answer"].strip() for line in lines] == ["garden"] * 2
    else:
        assert [line for line in lines if "|" in line] == ["Where is Mary? | Mary went to the garden."] * 2
        assert sum("garden  (" in line for line in lines) == 2


@pytest.mark.parametrize("missing", ["question", "context"])
def test_a_record_that_lacks_something_is_named(
    missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {"id": "1", "question": "Where?", "context": "Here."}
    del record[missing]
    (tmp_path / "squad.jsonl").write_text(json.dumps(record) + "\n")
    assert main(["question-answering", "--file", str(tmp_path / "squad.jsonl")]) == 2
    assert "an input must have question and context; found" in capsys.readouterr().err
