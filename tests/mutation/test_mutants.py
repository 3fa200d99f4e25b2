"""The set-up of the mutation testing: nothing escapes it, and its rules leave out only what they say."""

import ast

import pytest

from tests.mutation.__main__ import SURVIVORS, explanations
from tests.mutation.mutants import MODULES, ROOT, RULES, mutants, without_mutants

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def every():
    return {module: mutants(module) for module in MODULES}


def test_every_module_is_there():
    folders = [ROOT / "nystrom_np" / name for name in ("functional", "model")]
    files = {f"{folder.name}/{file.stem}" for folder in folders for file in folder.glob("*.py")}
    assert files - {"functional/__init__", "model/__init__"} == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_every_function_has_a_mutant(every, module):
    assert without_mutants(module, every[module]) == []


def test_a_mutant_is_one_valid_change(every):
    for mutant in [each for of_module in every.values() for each in of_module][::40]:
        assert mutant.source() != mutant.path.read_text(encoding="utf-8")
        if not mutant.rule:  # Python itself warns of "is" with a number
            ast.parse(mutant.source())


def test_each_has_a_name_of_its_own(every):
    names = [mutant.id for of_module in every.values() for mutant in of_module]
    assert len(set(names)) == len(names)


def test_rules_leave_out_little(every):
    """Of the formulas nothing is left out: of the losses the texts of two errors."""
    assert {mutant.rule for of_module in every.values() for mutant in of_module} <= RULES.keys() | {""}
    assert {mutant.rule for mutant in every["functional/losses"]} <= {"annotation", "identity", "message", ""}


def test_every_explanation_says_why():
    assert SURVIVORS.exists()
    assert all(len(why) > 20 for why in explanations().values())
