"""The reference's environment is made once, and a half-made one is not taken for a whole one."""

import subprocess

import pytest

from tests.reference import environment

VERSION = "4.37.2"


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """Commands that would have been run, with the folder chosen by the variable."""
    monkeypatch.setenv("NYSTROM_NP_REFERENCE", str(tmp_path))
    ran = []

    def run(command):
        ran.append(command)
        if "venv" in command:
            (tmp_path / VERSION).mkdir(exist_ok=True)
            (tmp_path / VERSION / "pyvenv.cfg").touch()

    monkeypatch.setattr(environment, "_run", run)
    return ran


def test_it_is_made_once(commands, tmp_path):
    interpreter = environment.python(VERSION)
    assert interpreter.is_relative_to(tmp_path / VERSION)
    venv, install = commands
    assert venv[1:] == ["-m", "venv", "--clear", str(tmp_path / VERSION)]
    assert install[0] == str(interpreter)
    assert {"torch==2.13.0", "transformers==4.37.2"} <= set(install)
    assert environment.python(VERSION) == interpreter
    assert len(commands) == 2


def test_a_failed_installation_is_told_and_not_taken_for_a_whole_one(commands, monkeypatch):
    run = environment._run

    def fail(command):
        run(command)
        if "pip" in command:
            raise subprocess.CalledProcessError(1, command, stderr="a warning\nERROR: no network\n")

    monkeypatch.setattr(environment, "_run", fail)
    with pytest.raises(environment.ReferenceUnavailable, match=r"4\.37\.2 cannot be installed: ERROR: no network$"):
        environment.python(VERSION)
    monkeypatch.setattr(environment, "_run", run)
    environment.python(VERSION)
    assert [("venv" in command, "pip" in command) for command in commands] == [
        (True, False),
        (False, True),
    ] * 2


def test_an_environment_of_other_requirements_is_made_anew(commands, tmp_path):
    environment.python(VERSION)
    (tmp_path / VERSION / environment.MARKER).write_text("torch==1.0\n")
    environment.python(VERSION)
    assert len(commands) == 4


def test_a_folder_of_something_else_is_left_alone(commands, tmp_path):
    (tmp_path / VERSION).mkdir()
    (tmp_path / VERSION / "thesis.txt").touch()
    with pytest.raises(environment.ReferenceUnavailable, match="is not a virtual environment"):
        environment.python(VERSION)
    assert commands == []


def test_an_unknown_version():
    with pytest.raises(ValueError, match=r"4\.37\.2, 5\.23\.0, found '4\.0'"):
        environment.python("4.0")
