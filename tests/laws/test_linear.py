"""Affine maps, and what the encoder on NumPy makes of them."""

import itertools
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nystrom_np.fast import definitions
from nystrom_np.fast.on_numpy import encoder, few_rows
from nystrom_np.fast.on_numpy.encoder import activated, affine, by_feature, map_rows
from nystrom_np.fast.on_numpy.threads import using_threads
from nystrom_np.functional import depthwise_conv, linear
from nystrom_np.testing import arrays
from tests.backends import Backend
from tests.laws.tools import assert_close, cases, eps, shapes

EPS = eps("float64")


def test_linear(backend: Backend) -> None:
    """Each output is the sum of the inputs times a row of W, plus the bias
    (``torch.nn.functional.linear``).
    """

    @cases(40)
    @given(st.data(), shapes, st.integers(1, 4), st.booleans())
    def law(data: st.DataObject, shape: tuple[int, ...], outputs: int, biased: bool) -> None:
        x, weight = data.draw(arrays(shape)), data.draw(arrays((outputs, shape[-1])))
        bias = data.draw(arrays((outputs,))) if biased else None
        found = linear(backend.array(x), backend.array(weight), None if bias is None else backend.array(bias))
        expected = (x[..., None, :] * weight).sum(axis=-1) + (0 if bias is None else bias)
        assert_close(backend.numpy(found), expected, 64 * shape[-1] * EPS)

    law()


@pytest.mark.parametrize("few", [4, 5])
@pytest.mark.parametrize("outputs", [2, 4])
def test_affine(monkeypatch: pytest.MonkeyPatch, outputs: int, few: int) -> None:
    """``affine(p, x, f, z)`` is f(x Wᵀ + b, z), and lies where the caller wants it (by its definition), however the
    product is computed.
    """
    monkeypatch.setattr(encoder, "FEW_ROWS", few)

    @cases(10)
    @given(arrays((5, 3)), arrays((5, outputs)), arrays((outputs, 3)), arrays((outputs,)))
    def law(x: np.ndarray, beside: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> None:
        p = {"weight": weight, "bias": bias}
        expected = (x @ weight.T + bias) * beside
        for out in (None, np.full((5, outputs), np.nan)):
            found = affine(p, x, lambda y, z: y * z, beside, out=out)
            assert out is None or found is out
            assert_close(found, expected, 1e-12)

    law()


def test_few_rows_of_a_wide_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are computed as W xᵀ and then put in order, where that is the fewer numbers."""
    computed = []
    monkeypatch.setattr(encoder, "by_feature", lambda x, weight: computed.append(1) or by_feature(x, weight))
    monkeypatch.setattr(encoder, "FEW_ROWS", 5)
    for rows, inputs, outputs, so in (
        (2, 3, 4, False),
        (3, 3, 4, False),
        (5, 3, 2, True),
        (1, 3, 2, True),
        (6, 3, 2, False),
        (5, 3, 3, False),
        (5, 3, 4, False),
    ):
        computed.clear()
        p = {"weight": np.ones((outputs, inputs)), "bias": np.ones(outputs)}
        found = affine(p, np.ones((rows, inputs)), np.negative)
        np.testing.assert_array_equal(found, np.full((rows, outputs), -inputs - 1.0))
        assert found.flags.c_contiguous
        assert bool(computed) == so


def test_activated() -> None:
    """``activated(p, x, f)`` is f(x Wᵀ + b) for an elementwise f (by its definition)."""

    @cases(20)
    @given(arrays((5, 3)), arrays((2, 3)), arrays((2,)))
    def law(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> None:
        p = {"weight": weight, "bias": bias}
        found = activated(p, x, lambda y: y * y)
        assert_close(found, (x @ weight.T + bias) ** 2, 1e-12)

    law()


def test_by_feature_lies_feature_by_feature() -> None:
    """The product that feeds an activation lies in memory as BLAS writes it fastest, in the dtype of x."""
    for dtype in (np.float32, np.float64):
        x, weight = np.arange(6, dtype=dtype).reshape(2, 3), np.arange(12, dtype=dtype).reshape(4, 3)
        found = by_feature(x, weight)
        np.testing.assert_array_equal(found, x @ weight.T)
        assert found.dtype == dtype
        assert found.T.flags.c_contiguous


@pytest.mark.parametrize(("worth", "most", "max_rows"), [(0, 2, 0), (0, 100, 3), (100, 2, 0), (100, 2, 1)])
def test_map_rows(worth: int, most: int, max_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A position-wise function of blocks of rows fills its results as one call for all rows would, where they are
    wanted; no block has more rows than it may.
    """
    monkeypatch.setattr(encoder, "ROWS_WORTH_A_THREAD", worth)
    monkeypatch.setattr(encoder, "ROWS_PER_BLOCK", most)
    seen = []

    def both(x: np.ndarray, y: np.ndarray, total: np.ndarray, difference: np.ndarray) -> None:
        seen.append(len(x))
        total[...], difference[...] = x + y, x - y

    x, y = np.random.default_rng(0).standard_normal((2, 2, 5, 3))
    out = np.full((2, 2, 5, 3), np.nan, "float32")
    for given_out in (None, out):
        seen.clear()
        found = map_rows(both, x, y, outputs=2, width=3, max_rows=max_rows, dtype="float32", out=given_out)
        np.testing.assert_array_equal(np.stack(found), np.float32([x + y, x - y]))
        assert sum(seen) == 10
        assert max(seen) <= (max_rows or (most if worth <= 10 else 10))
    np.testing.assert_array_equal(out, np.float32([x + y, x - y]))
    assert map_rows(lambda x, out: np.copyto(out, x), x, width=3)[0].dtype == x.dtype


@pytest.mark.parametrize(
    ("block", "unpacked"), [((16, 32), 1_000_000), ((8, 8), 200), ((16, 16), 500), ((24, 32), 80), ((16, 32), 0)]
)
def test_multiply(block: tuple[int, int], unpacked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """W x, whatever the number of features and however many of them make a block (by its definition)."""
    monkeypatch.setattr(few_rows, "FEATURES_PER_BLOCK", block)
    monkeypatch.setattr(few_rows, "UNPACKED", unpacked)
    rng = np.random.default_rng(0)
    for outputs, inputs, rows in itertools.product((1, 8, 19, 64), (1, 5), (1, 4)):
        weight, x = rng.standard_normal((outputs, inputs)), rng.standard_normal((inputs, rows))
        out = np.full((outputs, rows), np.nan)
        assert few_rows.multiply(weight, x, out) is out
        assert_close(out, (weight[..., None] * x).sum(axis=1), 1e-12)


@pytest.mark.parametrize("unpacked", [1_000_000, 200, 16])
@pytest.mark.parametrize("fewest", [1, 10, 768])
def test_pieces_cover_the_features_once(fewest: int, unpacked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, and none larger than OpenBLAS takes uncopied, unless such are not worth it."""
    monkeypatch.setattr(few_rows, "UNPACKED", unpacked)
    monkeypatch.setattr(few_rows, "FEWEST_INPUTS", fewest)
    for start, stop, rows in itertools.product((0, 5), (6, 40), (1, 3)):
        parts = few_rows.pieces(slice(start, stop), rows)
        assert [i for part in parts for i in range(part.start, part.stop)] == list(range(start, stop))
        most = unpacked // (few_rows.FEATURES_PER_BLOCK[0] * rows)
        assert max(part.stop - part.start for part in parts) <= (most if most >= fewest else stop)


@pytest.mark.parametrize("length", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_band(length: int, size: int) -> None:
    """A product with the band is the convolution, by the definition of depthwise_conv."""
    rng = np.random.default_rng(length)
    filters, value = rng.standard_normal((2, size)), rng.standard_normal((2, length, 3))
    with definitions():
        expected = depthwise_conv(value[None], filters[:, None, :, None])[0]
    assert_close(value.swapaxes(-1, -2) @ few_rows.band(filters, length), expected.swapaxes(-1, -2), 1e-14)


def test_threads_share_the_weights_of_few_rows() -> None:
    """Of weights that are worth it each thread takes some, and of smaller ones the calling thread all."""
    x = np.ones((4, 8), np.float32)
    for weights, threads in ((1 << 20, 2), (1 << 16, 1)):
        taken = set()

        def share(part: slice, taken: set[int] = taken) -> np.ndarray:
            taken.add(threading.get_ident())
            time.sleep(0.02)  # for the other thread to take its share
            return np.full((3, 8), float(part.stop - part.start))

        with using_threads(2):
            total = few_rows.sum_of_shares(share, few_rows.shares(4, weights, x))
        np.testing.assert_array_equal(total, np.full((3, 8), 4))
        assert len(taken) == threads


@pytest.mark.parametrize("scores", [1 << 16, 20, 1])
def test_segments_of_one_length_are_taken_together(scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbours only, each once, and no more than have so many scores, unless it is a single one."""
    monkeypatch.setattr(few_rows, "SCORES_PER_BLOCK", scores)
    lengths = [5, 3, 3, 3, 2, 1, 1, 3]
    ends = np.cumsum(lengths)
    segments = [slice(int(end - length), int(end)) for end, length in zip(ends, lengths, strict=True)]
    found = list(few_rows.of_one_length(segments, heads=2))
    taken = [(start, length) for part, length in found for start in range(part.start, part.stop, length)]
    assert taken == [(part.start, part.stop - part.start) for part in segments]
    for part, length in found:
        count = (part.stop - part.start) // length
        assert count == 1 or count * 2 * length**2 <= scores
