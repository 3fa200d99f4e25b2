"""The depthwise convolution of the values."""

import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

from nystrom_np.fast import definitions, toeplitz
from nystrom_np.fast.on_numpy import convolution
from nystrom_np.functional import depthwise_conv
from nystrom_np.testing import arrays
from tests.backends import Backend
from tests.laws.tools import assert_close, cases, eps

blocks = st.sampled_from([(64, 1 << 18), (1, 1), (2, 1 << 18), (2, 12), (5, 1), (3, 30)])
sizes = st.sampled_from([1, 3, 5, 9, 13])


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Values (batch, heads, length, dim), filters, and how many positions and values make a block."""
    batch, heads, length, dim = (draw(st.integers(1, most)) for most in (2, 3, 9, 2))
    value = draw(arrays((batch, heads, length, dim)))
    return value, draw(arrays((heads, 1, draw(sizes), 1))), draw(blocks)


def convolve(
    backend: Backend, value: np.ndarray, weight: np.ndarray, block: tuple[int, int] = (64, 1 << 18)
) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toeplitz, "OUTPUTS", block[0])
        patch.setattr(convolution, "OUTPUTS", block[0])
        patch.setattr(convolution, "VALUES_PER_BLOCK", block[1])
        return backend.numpy(depthwise_conv(backend.array(value), backend.array(weight)))


def over_the_taps(value: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The definition: a sum of shifted values."""
    with definitions():
        return depthwise_conv(value, weight)


ROUNDING = 13 * 16 * eps("float64")


def test_scipy(backend: Backend) -> None:
    """Each column is ``scipy.signal.correlate(v, w, "same")``: zeros outside, the filter not flipped."""

    @cases(40)
    @given(convolutions())
    def law(drawn: tuple[np.ndarray, np.ndarray, tuple[int, int]]) -> None:
        value, weight, block = drawn
        found = convolve(backend, value, weight, block)
        half = weight.shape[2] // 2
        padded = np.pad(value, [(0, 0), (0, 0), (half, half), (0, 0)])
        for b, h, d in np.ndindex(value.shape[0], value.shape[1], value.shape[3]):
            expected = scipy.signal.correlate(padded[b, h, :, d], weight[h, 0, :, 0], mode="valid", method="direct")
            assert_close(found[b, h, :, d], expected, ROUNDING)

    law()


def test_delta(backend: Backend) -> None:
    """A filter of one 1 shifts the values by its distance from the middle, and zeros move in; to the bit."""

    @cases(20)
    @given(convolutions(), st.data())
    def law(drawn: tuple[np.ndarray, np.ndarray, tuple[int, int]], data: st.DataObject) -> None:
        value, weight, block = drawn
        size, length = weight.shape[2], value.shape[2]
        tap = data.draw(st.integers(0, size - 1))
        delta = np.zeros(weight.shape)
        delta[:, :, tap] = 1.0
        found = convolve(backend, value, delta, block)
        sources = np.arange(length) + tap - size // 2
        inside = ((sources >= 0) & (sources < length))[:, None]
        expected = np.where(inside, value[:, :, np.clip(sources, 0, length - 1)], 0.0)
        np.testing.assert_array_equal(found, expected)

    law()


def test_shift(backend: Backend) -> None:
    """Values moved along the sequence, among zeros, give the outputs moved as far; to the bit (Oppenheim and
    Schafer, Discrete-Time Signal Processing, section 2.4: a convolution is a time-invariant system).
    """

    @cases(20)
    @given(convolutions(), st.integers(0, 5), st.integers(0, 5))
    def law(drawn: tuple[np.ndarray, np.ndarray, tuple[int, int]], before: int, after: int) -> None:
        value, weight, block = drawn
        half, length = weight.shape[2] // 2, value.shape[2]
        inside = [(0, 0), (0, 0), (half, half), (0, 0)]  # so that nothing reaches over the ends
        moved = [(0, 0), (0, 0), (half + before, half + after), (0, 0)]
        found = convolve(backend, np.pad(value, moved), weight, block)
        plain = convolve(backend, np.pad(value, inside), weight, block)
        assert_close(found[:, :, before : before + length + 2 * half], plain, ROUNDING)
        assert not found[:, :, :before].any()
        assert not found[:, :, before + length + 2 * half :].any()

    law()


def test_linear_in_both(backend: Backend) -> None:
    """Convolution is linear in the values and in the filters (Oppenheim and Schafer, section 2.3: a sum of
    products), and heads do not mix.
    """

    @cases(20)
    @given(convolutions(), st.integers(-3, 3))
    def law(drawn: tuple[np.ndarray, np.ndarray, tuple[int, int]], factor: int) -> None:
        value, weight, block = drawn
        other, turned = value[..., ::-1, :], weight[::-1]
        sum_of_values = convolve(backend, factor * value + other, weight, block)
        values = [convolve(backend, v, weight, block) for v in (value, other)]
        assert_close(sum_of_values, factor * values[0] + values[1], 8 * ROUNDING)
        sum_of_filters = convolve(backend, value, factor * weight + turned, block)
        filters = [convolve(backend, value, w, block) for w in (weight, turned)]
        assert_close(sum_of_filters, factor * filters[0] + filters[1], 8 * ROUNDING)

    law()


def test_fast_form_is_the_definition(backend: Backend) -> None:
    """The Toeplitz products are the sum over taps, also where sequence and filter are longer than a block."""
    generator = np.random.default_rng(0)
    for length, size in ((150, 65), (64, 65), (65, 3), (20, 65), (129, 129)):
        value, weight = (
            generator.standard_normal((2, 2, length, 3)),
            generator.standard_normal((2, 1, size, 1)),
        )
        expected = over_the_taps(value, weight)
        assert_close(convolve(backend, value, weight), expected, 64 * size * eps("float64"))


def test_leading_axes(backend: Backend) -> None:
    """Leading axes are a batch, any number of them (NumPy's rule for stacks: ``numpy.matmul``)."""
    generator = np.random.default_rng(0)
    value, weight = generator.standard_normal((2, 3, 2, 5, 4)), generator.standard_normal((2, 1, 3, 1))
    whole = convolve(backend, value, weight)
    for index in np.ndindex(2, 3):
        assert_close(convolve(backend, value[index], weight), whole[index], ROUNDING)


def test_added_in_place() -> None:
    """With ``add_to`` the convolution is added to an array, which is returned itself; values are left alone."""

    @cases(15)
    @given(convolutions())
    def law(drawn: tuple[np.ndarray, np.ndarray, tuple[int, int]]) -> None:
        value, weight, _ = drawn
        kept, total = np.array(value), np.array(value[..., ::-1, :])
        assert convolution.depthwise_conv(value, weight, add_to=total) is total
        assert_close(total, kept[..., ::-1, :] + over_the_taps(kept, weight), ROUNDING)
        np.testing.assert_array_equal(value, kept)

    law()


def test_long_sequences() -> None:
    """With its real block sizes, a sequence of several blocks and an odd rest is the definition."""
    generator = np.random.default_rng(0)
    value, weight = generator.standard_normal((2, 9001, 31)), generator.standard_normal((2, 1, 7, 1))
    assert_close(depthwise_conv(value, weight), over_the_taps(value, weight), 1e-13)
