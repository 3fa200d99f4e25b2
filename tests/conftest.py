"""What every test has: deterministic settings for Hypothesis and the folders of checkpoints.

The shapes and types declared in ``nystrom_np`` are enforced by jaxtyping's pytest plug-in, which
``pyproject.toml`` switches on, so that the doctests are checked too.
"""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The tokenizers library warns when a process that has used its threads forks; the tests start subprocesses.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

settings.register_profile("local", deadline=None, derandomize=True, database=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def checkpoints() -> Path:
    """The folder that holds a small random checkpoint for each head and attention branch."""
    return Path(__file__).resolve().parent / "checkpoints"


@pytest.fixture(scope="session")
def weights() -> Path:
    """The folder that holds the checkpoint shipped for each head."""
    return Path(__file__).resolve().parent.parent / "weights"
