"""The switch between array modules, and the stand-in that takes CuPy's place in these tests."""

import numpy as np
import pytest
from hypothesis import given

from nystrom_np import array_module
from nystrom_np.array_module import (
    device_of,
    get_array_module,
    move_like,
    special,
    to_device,
    to_numpy,
)
from nystrom_np.functional import softmax_attention
from nystrom_np.testing import arrays
from tests.backends import Backend, StrictArray, host_reads, make_backend, strict
from tests.laws.tools import cases


def test_module_of_arrays(backend: Backend) -> None:
    """Arrays are computed on by their own module; None and Python's numbers go with any; NumPy is the
    default.
    """
    x = backend.array(np.ones(3))
    for mixed in ((x,), (None, x), (x, 2, None, 1.5, True), (x, x)):
        assert get_array_module(*mixed) is backend.xp
    assert get_array_module() is np
    assert get_array_module(None, 2) is np
    assert get_array_module(np.float32(2)) is np


def test_mixed_modules_are_refused() -> None:
    """Arrays of two modules are an error that names both: nothing is moved silently."""
    x, y = np.ones((2, 2)), strict.asarray(np.ones((2, 2)))
    for mixed, names in (((x, y), "numpy and strict"), ((y, None, x), "strict and numpy")):
        with pytest.raises(TypeError, match=f"arrays of one module were expected, found {names}"):
            get_array_module(*mixed)
    with pytest.raises(TypeError, match=r"found (numpy and strict|strict and numpy)"):
        softmax_attention(x, y, x)
    with pytest.raises(TypeError, match="an array was expected, found list"):
        get_array_module([1.0])


def test_to_numpy_and_back(backend: Backend) -> None:
    """Values survive the way to a device and back; where they are already, they are not copied."""

    @cases(20)
    @given(arrays((2, 3)))
    def law(values: np.ndarray) -> None:
        there = move_like(values, backend.array(np.zeros(1)))
        assert get_array_module(there) is backend.xp
        back = to_numpy(there)
        assert type(back) is np.ndarray
        np.testing.assert_array_equal(back, values)
        assert move_like(there, there) is there
        assert type(move_like(there, values)) is np.ndarray
        assert to_numpy(values) is values
        assert to_device(values, "cpu") is values

    law()


def test_special(backend: Backend) -> None:
    """The error function of the module: odd, 0 at 0, and ∂erf = 2/√π there."""
    x = backend.array(np.array([-1e-9, 0.0, 1e-9, 0.5]))
    found = backend.numpy(special(backend.xp).erf(x))
    np.testing.assert_allclose(
        found, [-1.1283791670955126e-9, 0, 1.1283791670955126e-9, 0.5204998778130465], rtol=1e-14
    )


def test_devices(backend: Backend) -> None:
    """Arrays of NumPy and of the stand-in are on the CPU; an unknown name is an error with the known."""
    assert device_of(backend.array(np.ones(2))).startswith(backend.device)
    for name in ("gpu", "cuda:", "cuda:x", "cpu:0", "", "cuda0"):
        with pytest.raises(array_module.DeviceError, match=f'must be "cpu", "cuda" or "cuda:N", found {name!r}'):
            to_device(np.ones(2), name)


# The stand-in itself: a test that it lets through what CuPy refuses would prove nothing.


@pytest.mark.parametrize(
    "misuse",
    [
        lambda x: np.asarray(x),
        lambda x: np.exp(x),
        lambda x: np.concatenate([x, x]),
        lambda x: x + np.ones(3),
        lambda x: np.ones(3) * x,
        lambda x: strict.exp(np.ones(3)),
        lambda x: strict.where(np.ones(3, bool), x, 0.0),
        lambda x: strict.where(x > 0),
        lambda x: x[np.array([0])],
        lambda x: x[x > 0],
        lambda x: bool(x.any()),
        lambda x: float(x.sum()),
        lambda x: int(x.sum()),
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: range(3)[x.sum()],
        lambda x: x.max(initial=0.0),
        lambda x: strict.sum(x, where=x > 0),
        lambda x: strict.nonzero(x),
        lambda x: x.__setitem__(slice(None), np.ones(3)),
    ],
)
def test_stand_in_refuses(misuse: object) -> None:
    """What CuPy cannot do, and what would make the host wait for the device, is a TypeError."""
    with pytest.raises(TypeError):
        misuse(make_backend("strict").array(np.ones(3)))


def test_stand_in_counts_reads() -> None:
    """Where they are allowed, reads are counted, explicit ones too."""
    x = make_backend("strict").array(np.arange(3.0))
    with host_reads() as reads:
        assert float(x.sum()) == 3.0
        assert x[x > 0].shape == (2,)
        assert x.get().sum() == 3.0
    assert reads.count == 3
    assert isinstance(x.sum(), StrictArray)
    assert (np.float64(2.0) * x[1]).get() == 2.0
