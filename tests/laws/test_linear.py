"""Look-ups and affine maps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nystrom_np.model.encoder import activated, affine, by_feature

from nystrom_np.functional import embedding, linear
from nystrom_np.model import encoder
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
        out = backend.array(np.empty(expected.shape))
        given_bias = None if bias is None else backend.array(bias)
        assert linear(backend.array(x), backend.array(weight), given_bias, out=out) is out
        np.testing.assert_array_equal(backend.numpy(out), backend.numpy(found))

    law()


def test_embedding(backend: Backend) -> None:
    """A look-up is the product of one-hot rows with the table, to the bit."""

    @cases(20)
    @given(st.data(), shapes, arrays((5, 3)))
    def law(data: st.DataObject, shape: tuple[int, ...], table: np.ndarray) -> None:
        count = int(np.prod(shape))
        ids = np.array(data.draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))).reshape(shape)
        found = backend.numpy(embedding(backend.array(ids), backend.array(table)))
        np.testing.assert_array_equal(found, (ids[..., None] == np.arange(5)).astype(float) @ table)

    law()


@pytest.mark.parametrize("few", [4, 5])
@pytest.mark.parametrize("outputs", [2, 4])
def test_affine(backend: Backend, monkeypatch: pytest.MonkeyPatch, outputs: int, few: int) -> None:
    """``affine(p, x, f, z)`` is f(x Wᵀ + b, z), and lies where the caller wants it (by its definition), however the
    product is computed.
    """
    monkeypatch.setattr(encoder, "FEW_ROWS", few)

    @cases(10)
    @given(arrays((5, 3)), arrays((5, outputs)), arrays((outputs, 3)), arrays((outputs,)))
    def law(x: np.ndarray, beside: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> None:
        p = {"weight": backend.array(weight), "bias": backend.array(bias)}
        expected = (x @ weight.T + bias) * beside
        for out in (None, backend.array(np.full((5, outputs), np.nan))):
            found = affine(p, backend.array(x), lambda y, z: y * z, backend.array(beside), out=out)
            assert out is None or found is out
            assert_close(backend.numpy(found), expected, 1e-12)

    law()


def test_few_rows_of_a_wide_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are computed as W xᵀ and then put in order, where that is the fewer numbers."""
    computed = []
    monkeypatch.setattr(encoder, "by_feature", lambda x, weight: computed.append(1) or by_feature(x, weight))
    monkeypatch.setattr(encoder, "FEW_ROWS", 5)
    for rows, inputs, outputs, so in (
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


def test_activated(backend: Backend) -> None:
    """``activated(p, x, f)`` is f(x Wᵀ + b) for an elementwise f (by its definition)."""

    @cases(20)
    @given(arrays((5, 3)), arrays((2, 3)), arrays((2,)))
    def law(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> None:
        p = {"weight": backend.array(weight), "bias": backend.array(bias)}
        found = activated(p, backend.array(x), lambda y: y * y)
        assert_close(backend.numpy(found), (x @ weight.T + bias) ** 2, 1e-12)

    law()


def test_by_feature_lies_feature_by_feature() -> None:
    """The product that feeds an activation lies in memory as BLAS writes it fastest, in the dtype of x."""
    for dtype in (np.float32, np.float64):
        x, weight = np.arange(6, dtype=dtype).reshape(2, 3), np.arange(12, dtype=dtype).reshape(4, 3)
        found = by_feature(x, weight)
        np.testing.assert_array_equal(found, x @ weight.T)
        assert found.dtype == dtype
        assert found.T.flags.c_contiguous
