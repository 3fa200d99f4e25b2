"""The switch between array modules, and the stand-in that takes CuPy's place in these tests."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nystrom_np import array_module
from nystrom_np.array_module import (
    device_of,
    exponential,
    fuse,
    get_array_module,
    move_like,
    overwrite,
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


@pytest.mark.parametrize("vector_exp2", [True, False])
def test_exponential(backend: Backend, vector_exp2: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """eˣ = exp(unit · x), by NumPy's 2ʸ where that is fast."""
    monkeypatch.setattr(array_module, "_has_vector_exp2", lambda: vector_exp2)
    exp, unit = exponential(backend.xp)
    assert (unit == 1.0) == (backend.name != "numpy" or not vector_exp2)
    x = np.linspace(-20.0, 20.0, 81)
    np.testing.assert_allclose(backend.numpy(exp(backend.array(unit * x))), np.exp(x), rtol=1e-14)


def test_where_exp2_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Linux with AVX-512, by either of NumPy's names for it."""
    for platform, found, fast in (
        ("linux", ["AVX2", "AVX512F", "AVX512_SKX"], True),
        ("linux", ["X86_V3", "X86_V4"], True),
        ("linux", ["X86_V3"], False),
        ("linux", [], False),
        ("darwin", ["X86_V4"], False),
        ("win32", ["AVX512_SKX"], False),
    ):
        monkeypatch.setattr(array_module.sys, "platform", platform)
        monkeypatch.setattr(np, "show_config", lambda mode, found=found: {"SIMD Extensions": {"found": found}})
        assert array_module._has_vector_exp2.__wrapped__() is fast
    for nothing in ({}, {"SIMD Extensions": {"not found": ["X86_V4"]}}):
        monkeypatch.setattr(array_module.sys, "platform", "linux")
        monkeypatch.setattr(np, "show_config", lambda mode, nothing=nothing: nothing)
        assert array_module._has_vector_exp2.__wrapped__() is False


@pytest.mark.parametrize("layout", ["contiguous", "fortran", "strided", "reversed"])
def test_fuse(layout: str) -> None:
    """A fused formula gives the formula's values in the argument's shape, for any size about a block's."""

    @cases(30)
    @given(st.integers(0, 12), st.data())
    def law(length: int, data: st.DataObject) -> None:
        x = data.draw(arrays((2, length), layouts=(layout,)))
        sizes: list[int] = []

        def formula(block: np.ndarray) -> np.ndarray:
            sizes.append(block.size)
            return block * block + 1.0

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(array_module, "ELEMENTS_PER_BLOCK", 5)
            found = fuse(formula)(x)
        np.testing.assert_array_equal(found, np.asarray(x) ** 2 + 1.0)
        assert max(sizes) <= 5
        assert sum(sizes) == x.size
        assert len(sizes) == max(1, -(-x.size // 5))

    law()
    assert fuse(test_fuse).__name__ == "test_fuse"


def test_overwrite(backend: Backend) -> None:
    """A row-wise function written over its argument, in blocks of rows, gives the function's values."""

    @cases(20)
    @given(arrays((7, 3), layouts=("contiguous", "strided")), st.sampled_from([1, 6, 10, 1000]))
    def law(x: np.ndarray, elements: int) -> None:
        expected = x - x.max(axis=-1, keepdims=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(array_module, "ELEMENTS_PER_BLOCK", elements)
            found = overwrite(backend.array(x), lambda rows: rows - rows.max(axis=-1, keepdims=True))
        np.testing.assert_array_equal(backend.numpy(found), expected)
        assert (found is x) == (backend.name == "numpy")
        beside = np.arange(21.0).reshape(7, 3)
        product = expected * beside
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(array_module, "ELEMENTS_PER_BLOCK", elements)
            found = overwrite(backend.array(expected), lambda rows, others: rows * others, backend.array(beside))
        np.testing.assert_array_equal(backend.numpy(found), product)

    law()


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
