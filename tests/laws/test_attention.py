"""Softmax attention: its definition, and that the form in bounded memory is the same function."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nystrom_np.fast import definitions, on_device
from nystrom_np.fast.on_numpy import attention
from nystrom_np.fast.on_numpy.threads import using_threads
from nystrom_np.functional import softmax, softmax_attention, softmax_attention_matrix
from nystrom_np.testing import AttentionCase, arrays, attention_cases, masks
from tests.backends import Backend, make_backend
from tests.laws.tools import FLOATS, assert_close, cases, eps, exponential_is

EPS = eps("float64")
# scores reach 2 · 2 · 3 = 12, so that weights are off by 12 ε and a few roundings more; values reach 4
ROUNDING = 4 * 64 * EPS
magnitudes = st.sampled_from([0.0, 1.0, -1.0, 3.0, -5.0, 6.0, 30.0, -30.0, 100.0, -1000.0])


def optional(backend: Backend, mask: np.ndarray | None) -> object:
    return None if mask is None else backend.array(mask)


def test_matrix(backend: Backend) -> None:
    """Attention weights are softmax over the real keys alone, and 0 for the others (Vaswani et al.,
    equation 1).
    """

    @cases(25)
    @given(attention_cases())
    def law(case: AttentionCase) -> None:
        q, k = backend.array(case.query), backend.array(case.key)
        weights = backend.numpy(softmax_attention_matrix(q, k, optional(backend, case.mask)))
        scores = np.einsum("bhqd,bhkd->bhqk", case.query, case.key)
        real = (
            np.ones(scores.shape, bool) if case.mask is None else np.broadcast_to(case.mask, scores.shape).astype(bool)
        )
        real = real | ~real.any(axis=-1, keepdims=True)
        shifted = scores - scores.max(axis=-1, keepdims=True)
        exponentials = np.where(real, np.exp(shifted), 0.0)
        expected = exponentials / exponentials.sum(axis=-1, keepdims=True)
        if case.mask is not None:  # a row without a real key attends to all keys equally
            nothing = ~np.broadcast_to(case.mask, scores.shape).astype(bool).any(axis=-1, keepdims=True)
            expected = np.where(nothing, 1 / scores.shape[-1], expected)
        assert_close(weights, expected, 64 * EPS)

    law()


@contextmanager
def tiny_blocks(queries: int, scores: int, worth: int) -> Iterator[None]:
    """Blocks so small that short sequences are cut in every way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "QUERIES_PER_BLOCK", queries)
        patch.setattr(attention, "SCORES_PER_BLOCK", scores)
        patch.setattr(on_device, "SCORES_PER_BLOCK", scores)
        patch.setattr(attention, "SCORES_WORTH_A_THREAD", worth)
        yield


blocks = st.sampled_from([(256, 1 << 20, 1 << 16), (3, 6, 0), (1, 2, 0), (4, 1 << 20, 0), (5, 5, 10**9), (2, 1, 20)])


def test_bounded_memory_is_the_definition(backend: Backend) -> None:
    """Attention in blocks of queries and pieces of keys is the matrix times the values (Rabe and Staats)."""

    @cases(35)
    @given(attention_cases(), blocks)
    def law(case: AttentionCase, sizes: tuple[int, int, int]) -> None:
        q, k, v = (backend.array(x) for x in (case.query, case.key, case.value))
        mask = optional(backend, case.mask)
        expected = softmax_attention_matrix(q, k, mask) @ v
        with tiny_blocks(*sizes):
            found = softmax_attention(q, k, v, mask)
        assert_close(backend.numpy(found), backend.numpy(expected), ROUNDING)

    law()


def test_queries_and_keys_of_different_lengths(backend: Backend) -> None:
    """Each query attends by itself (Vaswani et al., equation 1, row by row): any number of queries, keys, leading
    axes and value columns; a mask per query.
    """

    @cases(25)
    @given(st.data(), st.sampled_from([(), (2,), (2, 3)]), blocks)
    def law(data: st.DataObject, batch: tuple[int, ...], sizes: tuple[int, int, int]) -> None:
        queries, keys, values = (data.draw(st.integers(1, 5)) for _ in range(3))
        query = data.draw(arrays((*batch, queries, 2), scale=2.0))
        key = data.draw(arrays((*batch, keys, 2), scale=2.0))
        value = data.draw(arrays((*batch, keys, values)))
        mask = data.draw(masks((queries, keys)) | masks((keys,)) | masks((*batch, queries, keys)))
        with tiny_blocks(*sizes):
            found = backend.numpy(softmax_attention(*map(backend.array, (query, key, value, mask))))
        every = np.broadcast_to(mask, (*batch, queries, keys))
        for index in np.ndindex(*batch, queries):
            head = index[:-1]
            scores = np.where(every[index].astype(bool), key[head] @ query[index], np.finfo("float64").min)
            assert_close(found[index], softmax(scores) @ value[head], ROUNDING)

    law()


def test_masked_rows(backend: Backend) -> None:
    """A query without a real key gets the mean of all values (the reference adds finfo.min, not −∞)."""

    @cases(20)
    @given(attention_cases(with_masks=False), blocks)
    def law(case: AttentionCase, sizes: tuple[int, int, int]) -> None:
        mask = backend.array(np.zeros((1, case.key.shape[-2])))
        with tiny_blocks(*sizes):
            found = softmax_attention(*(backend.array(x) for x in (case.query, case.key, case.value)), mask)
        expected = np.broadcast_to(case.value.mean(axis=-2, keepdims=True), case.value.shape)
        assert_close(backend.numpy(found), expected, ROUNDING)

    law()


def test_masked_keys_do_not_matter(backend: Backend) -> None:
    """Where a row has a real key, what masked keys and their values hold changes nothing, to the bit (their weight
    is exp of the most negative number, 0).
    """

    @cases(20)
    @given(attention_cases(with_masks=False), st.data(), blocks)
    def law(case: AttentionCase, data: st.DataObject, sizes: tuple[int, int, int]) -> None:
        length = case.key.shape[-2]
        mask = data.draw(masks((length,), empty_rows=False))
        real = mask.astype(bool)[:, None]
        # as many changes as elements, of the same magnitude
        key, value = (
            np.where(real, case.key, -case.key[..., ::-1, :]),
            np.where(real, case.value, 3.0 - case.value),
        )
        with tiny_blocks(*sizes):
            before, after = (
                backend.numpy(softmax_attention(*map(backend.array, (case.query, k, v, mask))))
                for k, v in ((np.array(case.key), np.array(case.value)), (key, value))
            )
        # the running maximum may pass through other values, which cancel up to rounding
        assert_close(after, before, ROUNDING)

    law()


def test_order_of_the_keys(backend: Backend) -> None:
    """Attention is a sum over a set (Lee et al., arXiv 1810.00825): permuting keys with their values changes
    nothing but rounding.
    """

    @cases(20)
    @given(attention_cases(), st.data())
    def law(case: AttentionCase, data: st.DataObject) -> None:
        order = list(data.draw(st.permutations(range(case.key.shape[-2]))))
        mask = None if case.mask is None else case.mask[..., order]
        before = softmax_attention(
            *(backend.array(x) for x in (case.query, case.key, case.value)), optional(backend, case.mask)
        )
        key, value = case.key[..., order, :], case.value[..., order, :]
        after = softmax_attention(*(backend.array(x) for x in (case.query, key, value)), optional(backend, mask))
        assert_close(backend.numpy(after), backend.numpy(before), ROUNDING)

    law()


def test_written_over_the_queries() -> None:
    """Each block of queries is read before its result takes its place, so that the numbers are the same."""

    @cases(15)
    @given(attention_cases(), blocks)
    def law(case: AttentionCase, sizes: tuple[int, int, int]) -> None:
        key, mask = case.key, None if case.mask is None else case.mask != 0
        out = np.array(case.query)
        query = out.copy("K")  # of the same layout, by which BLAS rounds
        with tiny_blocks(*sizes):
            expected = attention.softmax_attention(query, key, key, mask)
            found = attention.softmax_attention(out, key, key, mask, out=out)
        assert found is out
        np.testing.assert_array_equal(out, expected)

    law()


def test_long_rows() -> None:
    """With its real block sizes too, attention over more scores than one block holds is the definition."""
    generator = np.random.default_rng(0)
    query, key, value = (generator.standard_normal((2, 700, 3)) for _ in range(3))
    mask = generator.random((2, 1, 700)) < 0.7
    expected = softmax_attention_matrix(query, key, mask) @ value
    assert_close(softmax_attention(query, key, value, mask), expected, ROUNDING)
    few = generator.standard_normal((2, 4100, 3))
    with tiny_blocks(512, 1 << 19, 1 << 16):
        expected = softmax_attention_matrix(query, few) @ few
        assert_close(softmax_attention(query, few, few), expected, ROUNDING)


@pytest.mark.parametrize("vector_exp2", [True, False])
def test_scores_of_any_size(vector_exp2: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The definition's numbers, and no warning, whether scores are taken as they are or minus their maximum, in each
    piece of the keys and whichever exponential it is: the softmax does not change when a number is added to all
    scores of a row, and it has no overflow (Vaswani et al., equation 1).
    """
    exponential_is(monkeypatch, vector_exp2)

    @cases(60)
    @given(st.data(), st.integers(1, 4), st.integers(1, 9), blocks)
    def law(data: st.DataObject, queries: int, keys: int, sizes: tuple[int, int, int]) -> None:
        query = np.array(data.draw(st.lists(magnitudes, min_size=queries, max_size=queries)))[:, None]
        key = np.array(data.draw(st.lists(magnitudes, min_size=keys, max_size=keys)))[:, None]
        value = np.arange(keys, dtype=float)[:, None]
        with tiny_blocks(*sizes):
            found = softmax_attention(query, key, value)
        expected = softmax_attention_matrix(query, key) @ value
        assert_close(found, expected, 8 * EPS * (np.abs(query).max() * np.abs(key).max() + 8) * keys)

    law()


@dataclass(frozen=True)
class ExtremeCase:
    """Queries (n, 1), keys (l, 1) and values (l, columns): a score is a product of two numbers."""

    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    mask: np.ndarray | None


HUGE = {"float32": (1e30, 1e38), "float64": (1e290, 1e308)}
TINY = {"float32": 1e-29, "float64": 1e-290}


@st.composite
def extreme_cases(draw: st.DrawFn, dtype: str) -> ExtremeCase:
    """Scores far from 0 on either side, alike or 100 apart, of values as far from 1; and masks that leave few keys."""
    base = draw(st.sampled_from([60.0, -40.0, 43.0, -43.0, 64.0, 80.0, -80.0, 0.0]))
    below = st.sampled_from([0.0, 0.0, 0.0, -0.5, -1.0, -30.0, -100.0])
    several = draw(st.lists(below, min_size=1, max_size=9))
    key = base + np.array(several * draw(st.sampled_from([1, 1, 7])))  # or many, in several pieces
    query = np.array(draw(st.lists(st.sampled_from([1.0, 1.0, -1.0, 0.5, 0.0]), min_size=1, max_size=4)))
    sizes = st.sampled_from([1.0, 1e15, 1e-29, 1e30, *HUGE[dtype], TINY[dtype]])
    # a column of one size, in which some keys have nothing; and one of mixed sizes
    column = draw(sizes) * np.array(draw(st.lists(st.sampled_from([1.0, -0.75, 0.0]), min_size=3, max_size=3)))
    mixed = np.array(draw(st.lists(sizes, min_size=3, max_size=3)))
    value = np.stack([np.resize(column, len(key)), np.resize(mixed, len(key))], axis=-1)
    one = st.integers(0, len(key) - 1).map(lambda only: np.arange(len(key)) == only)
    mask = draw(st.none() | masks((len(key),)) | masks((len(query), len(key))) | one)
    return ExtremeCase(query[:, None].astype(dtype), key[:, None].astype(dtype), value.astype(dtype), mask)


def assert_is_definition(case: ExtremeCase, found: np.ndarray) -> None:
    """Compare with the definition in float64.

    Scores, and so relatively weights, are off by some ε times the largest score, and hence a sum over the keys by as
    much of its largest |weight · value| times their number: of each query and column its own. Besides, weights and
    products below the smallest normal number may vanish, one for each key.
    """
    dtype, keys = found.dtype, len(case.key)
    with definitions():
        query, key, value = (x.astype("float64") for x in (case.query, case.key, case.value))
        weights = softmax_attention_matrix(query, key, case.mask)
        expected = softmax_attention(query, key, value, case.mask)
    terms = np.abs(weights[:, :, None] * value)  # (queries, keys, columns)
    relative = 8 * eps(dtype) * (np.abs(query).max() * np.abs(key).max() + 8) * keys
    lost = float(np.finfo(dtype).tiny) * keys * (1.0 + np.abs(value).max(axis=0))
    assert found.shape == expected.shape
    assert (np.abs(found - expected) <= relative * terms.max(axis=1) + lost).all(), (found, expected)


def extreme(dtype: str, scores: list[float], values: list[float], mask: list[int] | None = None) -> ExtremeCase:
    key, value = (np.array(x, dtype)[:, None] for x in (scores, values))
    return ExtremeCase(np.ones((1, 1), dtype), key, value, None if mask is None else np.array(mask))


EXTREMES: list[tuple[Any, ...]] = [
    ([60.0, 60.0, 60.0], [1e15] * 3),
    ([60.0], [1e15]),
    ([60.0, 60.5, -40.0], [1e15] * 3),
    ([-40.0, -40.0], [1e-29] * 2),
    ([-40.0], [1e-29]),
    ([60.0, -40.0, -40.0, 60.0], [1e15, 1e-29, 1e-29, 1e15], [0, 1, 1, 0]),
    ([60.0, -40.0], [1e15, 1e-29], [1, 0]),
    ([60.0, -40.0], [1e15, 1e-29], [0, 0]),
    ([43.0, 43.0, -57.0], [1e30, -1e30, 1.0]),
    ([-43.0, -143.0], [1.0, 1e30]),
    ([80.0, -20.0], [1e30, 1e30]),
    ([-80.0, -180.0, -80.0], [1e30, 1.0, 0.0]),
    ([80.0, -80.0], [0.0, 1e30]),
    ([80.0, 80.0, -80.0], [1.0, 1e30, 1.0], [0, 0, 1]),
    ([0.0] * 9, [1e38] * 9),  # their sum is more than float32 holds
    ([5.0] * 8 + [-300.0], [1e38] * 8 + [1.0], [0] * 8 + [1]),
    ([5.0] * 9, [1e38] * 9, [0] * 9),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_scores_and_values(dtype: str, backend: Backend) -> None:
    """Attention is a mean of values (Vaswani et al., equation 1): however far scores are from 0 and values from 1, no
    term of it overflows on the way, and none vanishes that the definition keeps.
    """

    def hold(case: ExtremeCase, sizes: tuple[int, int, int]) -> None:
        floats = map(backend.array, (case.query, case.key, case.value))
        with tiny_blocks(*sizes):
            found = backend.numpy(softmax_attention(*floats, optional(backend, case.mask)))
        assert found.dtype == dtype
        assert_is_definition(case, found)

    @cases(150 if backend.name == "numpy" else 30)  # a device has no exponentials but below the maximum
    @given(extreme_cases(dtype), blocks)
    def law(case: ExtremeCase, sizes: tuple[int, int, int]) -> None:
        hold(case, sizes)

    for arguments in EXTREMES:
        for sizes in ((256, 1 << 20, 1 << 16), (1, 2, 0)):
            hold(extreme(dtype, *arguments), sizes)
    law()


def test_the_longer_axis_of_scores_lies_outermost() -> None:
    """BLAS writes a product that is longer than wide faster than its transpose."""
    for queries, keys in ((2, 5), (5, 2), (3, 3), (4, 5)):
        scores = attention._scores(np.ones((7, queries, 6)), np.ones((7, keys, 6)), 1.0)
        assert scores.shape == (7, queries, keys)
        assert (scores if queries >= keys else scores.swapaxes(1, 2)).flags.c_contiguous
        assert not (queries < keys and scores.flags.c_contiguous)


def test_scores_that_are_not_numbers() -> None:
    """What is not a number stays one, and does not spread to the other queries."""
    query, key = np.array([[np.nan], [1.0]]), np.array([[1.0], [2.0]])
    found = softmax_attention(query, key, key)
    assert np.isnan(found[0, 0])
    np.testing.assert_allclose(found[1], (softmax_attention_matrix(query, key) @ key)[1], rtol=1e-14)


def test_extreme_scores_are_left_to_the_steady_exponential(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the other take many times as long where they overflow or vanish, as they do behind a mask, too."""

    def refused(*_: Any, **__: Any) -> np.ndarray:
        raise AssertionError

    monkeypatch.setattr(attention, "exponential", lambda: (refused, 1.0))
    query, key = np.ones((2, 1), "float32"), np.array([[200.0], [-200.0], [1.0]], "float32")
    for mask, seen in ((None, [200.0, 200.0]), (np.array([[0, 1, 0], [1, 1, 1]]), [-200.0, 200.0])):
        np.testing.assert_allclose(softmax_attention(query, key, key, mask)[:, 0], seen, rtol=1e-6)


@pytest.mark.parametrize("hidden", [np.inf, np.nan])
def test_a_masked_value_that_is_not_finite(hidden: float) -> None:
    """0 · ∞ is NaN by definition; a masked key that is not finite changes nothing."""
    query, key, value = np.ones((3, 2)), np.ones((4, 2)), np.ones((4, 2))
    mask = np.array([True, True, True, False])
    key[3] = hidden
    np.testing.assert_allclose(softmax_attention(query, key, value, mask), 1.0)
    value[3] = hidden
    with definitions(), np.errstate(invalid="ignore"):
        assert np.isnan(softmax_attention(query, key, value, mask)).all()
    assert np.isnan(softmax_attention(query, key, value, mask)).all()


def test_moderate_scores_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is computed twice where exponentials and contexts stay finite, since a row's sum is e⁻¹⁶ or more by
    Jensen's inequality; elsewhere all is, below the maximum.
    """
    products = []
    scores = attention._scores
    monkeypatch.setattr(attention, "_scores", lambda *arrays: products.append(1) or scores(*arrays))

    def times(size: float, keys: list[float], mask: list[Any] | None = None, value: float = 1.0) -> int:
        products.clear()
        query, key = np.full((2, 1), size, "float32"), np.array(keys, "float32")[:, None]
        values = np.full_like(key, value)
        found = softmax_attention(query, key, values, None if mask is None else np.array(mask))
        np.testing.assert_allclose(found, [[value]] * 2, rtol=1e-5)
        return len(products)

    for size in (0.0, 1.0, -60.0, 1e4):
        assert times(size, [1.0, 1.0, 1.0]) == 1  # the keys are their mean
        assert times(size, [3.0], value=1e38) == 1
    for exponent, computed in ((95.5, 1), (96.5, 2), (-95.5, 1), (-96.5, 2)):
        assert times(exponent * np.log(2.0), [1.0, -1.0]) == computed, exponent
    for mean in (15.0, -15.0, 17.0, -17.0):
        assert times(mean, [1.0] * 9) == 1  # the exponentials of scores as they are, of whose mean 16 is allowed
    assert times(1.0, [2.0, -2.0], [[True, True], [False, True]]) == 1  # at once below the maximum
    assert times(1.0, [300.0, 17.0, -17.0], [False, False, True]) == 1  # keys that no query sees are not looked at
    assert times(1.0, [2.0, -2.0], [False, False]) == 1  # nor is anything tried where none sees any
    assert times(40.0, [1.0, -1.0], value=1e20) == 1
    assert times(40.0, [1.0, -1.0], value=1e30) == 2  # e⁴⁰ · 1e30 is more than float32 holds


@pytest.mark.parametrize(
    ("threads", "shape", "groups"),
    [
        (1, (12, 128, 128), [12]),
        (2, (12, 128, 128), [6, 6]),
        (1, (12, 256, 256), [4, 4, 4]),
        (1, (3, 512, 512), [1, 1, 1]),
        (1, (2, 3, 512, 512), [1, 1, 1] * 2),
        (2, (12, 64, 4096), [1] * 12),
        (2, (12, 4096, 64), [12] * 14),
        (2, (5, 2000, 1024), [1] * 5 * 8),
        (2, (2, 12, 4096, 128), [8] * 16 + [4] * 16 + [8] * 16 + [4] * 16),
        (1, (12, 64, 64), []),  # too little to share
    ],
)
def test_heads_that_go_together(threads: int, shape: tuple[int, ...], groups: list[int]) -> None:
    """As many heads as have a block's scores, so that no step is for a few numbers, and a share for each thread."""
    with using_threads(threads):
        blocks = list(attention._blocks(shape))
    assert [len(range(*heads[-1].indices(shape[-3]))) for heads, _ in blocks if heads] == groups
    seen = np.zeros(shape[:-1], int)
    for heads, rows in blocks:
        seen[heads][..., rows] += 1
    assert (seen == 1).all()


def test_blocks_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """All heads at once, and all queries that its memory has room for, one at least."""
    shapes = []
    matrix = on_device.softmax_attention_matrix

    def noted(query: Any, key: Any, mask: Any) -> Any:
        shapes.append((*query.shape[:-1], key.shape[-2]))
        return matrix(query, key, mask)

    monkeypatch.setattr(on_device, "softmax_attention_matrix", noted)
    x = make_backend("strict").array(np.ones((2, 3, 17, 4)))
    for scores, rows in (
        (10_000, [17]),
        (2 * 3 * 17 * 5, [5, 5, 5, 2]),
        (2 * 3 * 17 * 5 - 1, [4] * 4 + [1]),
        (1, [1] * 17),
    ):
        shapes.clear()
        monkeypatch.setattr(on_device, "SCORES_PER_BLOCK", scores)
        softmax_attention(x, x, x)
        assert shapes == [(2, 3, n, 17) for n in rows]


@pytest.mark.parametrize("dtype", FLOATS)
def test_masked_rows_of_any_dtype(dtype: str, backend: Backend) -> None:
    """The mask outweighs every score in each dtype: a row masked entirely is uniform, however peaked."""
    generator = np.random.default_rng(0)
    query, key, value = (4 * generator.standard_normal((2, 5, 3)).astype(dtype) for _ in range(3))
    mask = np.array([[1, 1, 0, 1, 1], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]])
    for form in (softmax_attention, lambda q, k, v, m: softmax_attention_matrix(q, k, m) @ v):
        found = backend.numpy(form(*map(backend.array, (query, key, value, mask)))).astype("float64")
        mean = value.astype("float64").mean(axis=1)
        for row, expected in ((1, mean), (3, mean), (2, value[:, 1]), (4, value[:, 0])):
            assert_close(found[:, row], expected, 64 * eps(dtype))
