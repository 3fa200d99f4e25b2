"""The laws run on every array backend."""

import pytest

from tests.backends import BACKENDS, Backend, make_backend


@pytest.fixture(params=BACKENDS, scope="session")
def backend(request: pytest.FixtureRequest) -> Backend:
    """NumPy, the strict stand-in for CuPy, and CuPy where there is a GPU."""
    return make_backend(request.param)
