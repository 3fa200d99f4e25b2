"""What every test has: deterministic settings for Hypothesis and the folders of checkpoints.

The shapes and types declared in ``nystrom_np`` are enforced by jaxtyping's pytest plug-in, which
``pyproject.toml`` switches on, so that the doctests are checked too.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.backends import BACKENDS, Backend, make_backend
from tests.models import computing_on

# The tokenizers library warns when a process that has used its threads forks; the tests start subprocesses.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

settings.register_profile("local", deadline=None, derandomize=True, database=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Keep what a test sets for the whole process from the next: Dask's number of threads, files in memory."""
    before = {name: os.environ.get(name) for name in THREADS}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if memory := sys.modules.get("fsspec.implementations.memory"):
        memory.MemoryFileSystem.store.clear()


@pytest.fixture(scope="session")
def checkpoints() -> Path:
    """The folder that holds a small random checkpoint for each head and attention branch."""
    return Path(__file__).resolve().parent / "checkpoints"


@pytest.fixture(scope="session")
def weights() -> Path:
    """The folder that holds the checkpoint shipped for each head."""
    return Path(__file__).resolve().parent.parent / "weights"


@pytest.fixture(params=BACKENDS, scope="session")
def backend(request: pytest.FixtureRequest) -> Backend:
    """NumPy, the strict stand-in for CuPy, and CuPy where there is a GPU."""
    return make_backend(request.param)


EVERYWHERE = ["numpy", pytest.param("strict", marks=pytest.mark.slow), pytest.param("cupy", marks=pytest.mark.gpu)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of models run on every backend, but for those that are about the host alone."""
    if "anywhere" in metafunc.fixturenames and not metafunc.definition.get_closest_marker("host"):
        metafunc.parametrize("anywhere", EVERYWHERE, indirect=True)


@pytest.fixture
def anywhere(request: pytest.FixtureRequest) -> Iterator[None]:
    """The models of `tests.models.build` compute on each backend in turn; NumPy alone for the marker `host`."""
    with computing_on(make_backend(getattr(request, "param", "numpy"))):
        yield
