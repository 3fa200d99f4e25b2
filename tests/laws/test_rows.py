"""Row by row and element by element on NumPy: the same numbers, in memory that is there already."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nystrom_np import functional
from nystrom_np.fast import elementwise
from nystrom_np.fast.on_numpy import rows
from nystrom_np.fast.on_numpy.rows import exponential, in_single, layer_norm, linear, overwrite
from nystrom_np.testing import arrays
from tests.laws.tools import cases


def test_exponential() -> None:
    """eˣ = exp(unit · x), by whichever power NumPy takes."""
    exp, unit = exponential()
    x = np.linspace(-20.0, 20.0, 81)
    np.testing.assert_allclose(exp(unit * x), np.exp(x), rtol=1e-14)


def test_where_exp2_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """2ʸ is taken on Linux with AVX-512, by either of NumPy's names for it; and is eˣ with its unit."""
    choose = exponential.__wrapped__
    for platform, found, fast in (
        ("linux", ["AVX2", "AVX512F", "AVX512_SKX"], True),
        ("linux", ["X86_V3", "X86_V4"], True),
        ("linux", ["X86_V3"], False),
        ("linux", [], False),
        ("darwin", ["X86_V4"], False),
        ("win32", ["AVX512_SKX"], False),
    ):
        monkeypatch.setattr(rows.sys, "platform", platform)
        monkeypatch.setattr(np, "show_config", lambda mode, found=found: {"SIMD Extensions": {"found": found}})
        exp, unit = choose()
        assert exp is (np.exp2 if fast else np.exp)
        assert abs(exp(unit) - np.e) < 1e-15
    monkeypatch.setattr(rows.sys, "platform", "linux")
    for nothing in ({}, {"SIMD Extensions": {"not found": ["X86_V4"]}}):
        monkeypatch.setattr(np, "show_config", lambda mode, nothing=nothing: nothing)
        assert choose() == (np.exp, 1.0)


@pytest.mark.parametrize("layout", ["contiguous", "fortran", "strided", "reversed"])
def test_elementwise(layout: str) -> None:
    """A formula in blocks gives the formula's values in the argument's shape, for any size about a block's."""

    @cases(30)
    @given(st.integers(0, 12), st.data())
    def law(length: int, data: st.DataObject) -> None:
        x = data.draw(arrays((2, length), layouts=(layout,)))
        sizes: list[int] = []

        def formula(block: np.ndarray) -> np.ndarray:
            sizes.append(block.size)
            return block * block + 1.0

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rows, "ELEMENTS_PER_BLOCK", 5)
            found = elementwise(formula)(x)
        np.testing.assert_array_equal(found, np.asarray(x) ** 2 + 1.0)
        assert max(sizes) <= 5
        assert sum(sizes) == x.size
        assert len(sizes) == max(1, -(-x.size // 5))

    law()
    assert elementwise(test_elementwise).__name__ == "test_elementwise"
    assert rows.elementwise(test_elementwise).__name__ == "test_elementwise"


def test_overwrite() -> None:
    """A row-wise function written over its argument, in blocks of rows, gives the function's values."""

    @cases(20)
    @given(arrays((7, 3), layouts=("contiguous", "strided")), st.sampled_from([1, 6, 10, 1000]))
    def law(x: np.ndarray, elements: int) -> None:
        expected = x - x.max(axis=-1, keepdims=True)
        beside = np.arange(21.0).reshape(7, 3)
        product = expected * beside
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rows, "ELEMENTS_PER_BLOCK", elements)
            found = overwrite(x, lambda block: block - block.max(axis=-1, keepdims=True))
            assert found is x
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(overwrite(expected, lambda block, others: block * others, beside), product)

    law()


def test_linear_written_to_memory_that_is_there() -> None:
    """With ``out`` the numbers are those of a new array; without a bias it is the product alone."""

    @cases(15)
    @given(arrays((2, 3, 4), layouts=("contiguous", "heads")), arrays((5, 4)), arrays((5,)))
    def law(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> None:
        for given_bias in (bias, 0.0):
            out = np.full((2, 3, 5), np.nan)
            assert linear(x, weight, given_bias, out=out) is out
            np.testing.assert_array_equal(out, linear(x, weight, given_bias))

    law()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layer_norm_written_to_memory_that_is_there(dtype: str) -> None:
    """With ``out`` the numbers are those of a new array, over the input too, and in another dtype up to its
    precision.
    """
    x = np.random.default_rng(0).standard_normal((7, 5)).astype(dtype)
    weight, bias = (np.linspace(start, 2, 5).astype(dtype) for start in (0.5, -1))
    expected = functional.layer_norm(x, weight, bias)
    given_up = x.copy()
    for out, of in ((np.empty_like(x), x), (given_up, given_up)):
        assert layer_norm(of, weight, bias, out=out) is out
        np.testing.assert_array_equal(out, expected)
    half = np.empty(x.shape, "float16")
    assert layer_norm(x, weight, bias, out=half) is half
    np.testing.assert_array_equal(half, expected.astype("float16"))


def test_in_single() -> None:
    """Half precision goes in as float32, exactly, and comes back rounded unless it is to stay wide; others pass."""
    seen = []

    def several(*arrays: np.ndarray, factor: float = 1.0) -> tuple[np.ndarray, ...]:
        seen.extend(x.dtype.name for x in arrays)
        return tuple(factor * x for x in arrays)

    x = np.array([1.5, -65504.0, 6e-8], "float16")
    first, second = in_single(several)(x, np.ones(2), factor=0.5)
    assert seen == ["float32", "float64"]
    assert first.dtype == second.dtype == "float16"
    np.testing.assert_array_equal(first, (0.5 * x.astype("float32")).astype("float16"))
    (wide,) = in_single(several, narrow=False)(x, factor=2.0)
    assert wide.dtype == "float32"
    np.testing.assert_array_equal(wide, 2.0 * x.astype("float64"))
    seen.clear()
    same = in_single(lambda y: y)
    for dtype in ("float32", "float64"):
        y = np.ones(3, dtype)
        assert same(y) is y
