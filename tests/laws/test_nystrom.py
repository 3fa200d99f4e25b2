"""Nyström attention: landmarks, inverses, the three factors and their product."""

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nystrom_np.fast.on_numpy import attention
from nystrom_np.functional import (
    initial_inverse,
    iterative_pinv,
    nystrom_attention,
    nystrom_attention_matrix,
    nystrom_kernels,
    segment_means,
    softmax_attention,
    softmax_attention_matrix,
    svd_pinv,
)
from nystrom_np.testing import AttentionCase, arrays, attention_cases, row_stochastic
from tests.backends import Backend
from tests.laws.test_attention import blocks, optional, tiny_blocks
from tests.laws.tools import assert_close, cases, eps

EPS = eps("float64")


# Landmarks


@st.composite
def segmented(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    landmarks = draw(st.integers(1, 6))
    length = draw(st.integers(landmarks, 4 * landmarks + 3))
    return draw(arrays((2, length, 3))), landmarks


def segments(length: int, landmarks: int) -> list[slice]:
    """⌊L/m⌋ or one more tokens each, the shorter segments first."""
    sizes = [(length + i) // landmarks for i in range(landmarks)]
    stops = np.cumsum(sizes)
    return [slice(stop - size, stop) for size, stop in zip(sizes, stops, strict=True)]


def test_segment_means(backend: Backend) -> None:
    """A landmark is the mean of its segment: ⌊L/m⌋ tokens, or one more in the last ones (the authors' image
    code).
    """

    @cases(25)
    @given(segmented())
    def law(drawn: tuple[np.ndarray, int]) -> None:
        x, landmarks = drawn
        found = backend.numpy(segment_means(backend.array(x), landmarks))
        expected = np.stack([x[:, s].sum(axis=1) / (s.stop - s.start) for s in segments(x.shape[1], landmarks)], axis=1)
        assert_close(found, expected, 64 * EPS)

    law()


def test_equal_segments(backend: Backend) -> None:
    """Where m divides L these are the reference's means, ``x.reshape(…, m, L / m, d).mean(-2)`` (equation
    10).
    """

    @cases(20)
    @given(st.integers(1, 5), st.integers(1, 5), st.data())
    def law(landmarks: int, size: int, data: st.DataObject) -> None:
        x = data.draw(arrays((2, landmarks * size, 3)))
        found = backend.numpy(segment_means(backend.array(x), landmarks))
        assert_close(found, x.reshape(2, landmarks, size, 3).mean(axis=-2), 64 * EPS)

    law()


def test_landmarks_of_constants_and_of_single_tokens(backend: Backend) -> None:
    """Means of equal tokens are that token, and with as many landmarks as tokens each is its own; to the
    bit (section 3.2: a landmark is a mean, here of equal numbers or of one).
    """

    @cases(20)
    @given(segmented())
    def law(drawn: tuple[np.ndarray, int]) -> None:
        x, landmarks = drawn
        constant = np.broadcast_to(x[:, :1], x.shape)
        found = backend.numpy(segment_means(backend.array(constant), landmarks))
        np.testing.assert_array_equal(found, constant[:, :landmarks])
        np.testing.assert_array_equal(backend.numpy(segment_means(backend.array(x), x.shape[1])), x)

    law()


def test_order_within_a_segment(backend: Backend) -> None:
    """Permuting the tokens of a segment leaves all landmarks; moving one elsewhere moves only those two (a sum
    has no order; equation 10).
    """

    @cases(20)
    @given(segmented(), st.data())
    def law(drawn: tuple[np.ndarray, int], data: st.DataObject) -> None:
        x, landmarks = drawn
        order = np.concatenate(
            [data.draw(st.permutations(range(s.start, s.stop))) for s in segments(x.shape[1], landmarks)]
        )
        before, after = (backend.numpy(segment_means(backend.array(y), landmarks)) for y in (x, x[:, order]))
        assert_close(after, before, 64 * EPS)

    law()


@pytest.mark.parametrize("landmarks", [0, -1, 5])
def test_impossible_landmarks(landmarks: int, backend: Backend) -> None:
    """There are between 1 and L segments; anything else is an error with both numbers."""
    x = backend.array(np.ones((4, 2)))
    for call in (
        lambda: segment_means(x, landmarks),
        lambda: nystrom_attention(x, x, x, landmarks),
        lambda: nystrom_kernels(x, x, landmarks),
    ):
        with pytest.raises(ValueError, match=f"between 1 and the sequence length 4; found {landmarks}"):
            call()


# The inverse


def test_initial_inverse(backend: Backend) -> None:
    """Z₀ = Aᵀ / the largest column sum, of all matrices or of each alone (section 3.3; spec: transformers'
    default).
    """

    @cases(25)
    @given(row_stochastic())
    def law(a: np.ndarray) -> None:
        batch = backend.numpy(initial_inverse(backend.array(a)))
        assert_close(batch, a.transpose(0, 2, 1) / a.sum(axis=1).max(), 8 * EPS)
        np.testing.assert_array_equal(backend.numpy(initial_inverse(backend.array(a), "batch")), batch)
        alone = backend.numpy(initial_inverse(backend.array(a), "matrix"))
        for matrix, z in zip(a, alone, strict=True):
            assert_close(z, matrix.T / np.linalg.norm(matrix, 1), 8 * EPS)
        several = np.stack([a, a[::-1] / 2.0])  # two sequences, and what each gets alone
        found = backend.numpy(initial_inverse(backend.array(several), "sequence"))
        for sequence, z in zip(several, found, strict=True):
            assert_close(z, backend.numpy(initial_inverse(backend.array(sequence))), 8 * EPS)

    law()


def residual(a: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.eye(a.shape[-1]) - a @ z


@pytest.mark.parametrize("initial", ["batch", "matrix"])
def test_one_step_is_of_third_order(initial: Any, backend: Backend) -> None:
    """E = I − A Z becomes ¾ E³ + ¼ E⁴ in a step (Razavi et al.; expand equation 11), so that ‖E‖ falls as
    its cube.
    """

    @cases(25)
    @given(row_stochastic())
    def law(a: np.ndarray) -> None:
        z = [backend.numpy(iterative_pinv(backend.array(a), steps, initial)) for steps in range(8)]
        np.testing.assert_array_equal(z[0], backend.numpy(initial_inverse(backend.array(a), initial)))
        for before, after in pairwise(z):
            e = residual(a, before)
            expected = 0.75 * e @ e @ e + 0.25 * e @ e @ e @ e
            rounding = 64 * EPS * a.shape[-1] ** 2 * max(1.0, np.abs(after).max())
            assert_close(residual(a, after), expected, rounding)
            norm, cubed = (np.linalg.norm(residual(a, y), 2, axis=(-2, -1)) for y in (before, after))
            assert np.all(cubed <= norm**3 + 8 * rounding)

    law()


def assert_penrose(a: np.ndarray, z: np.ndarray, allowed: float) -> None:
    """The four conditions, each relative to the norm of what it speaks of."""
    condition = np.linalg.norm(a, 2) * np.linalg.norm(z, 2)
    assert_close(a @ z @ a / np.linalg.norm(a, 2), a / np.linalg.norm(a, 2), allowed * condition)
    assert_close(z @ a @ z / np.linalg.norm(z, 2), z / np.linalg.norm(z, 2), allowed * condition)
    assert_close((a @ z).T, a @ z, allowed * condition)
    assert_close((z @ a).T, z @ a, allowed * condition)


@pytest.mark.parametrize("initial", ["batch", "matrix"])
def test_penrose_conditions(initial: Any, backend: Backend) -> None:
    """25 steps on a matrix of condition ≤ 1e4 satisfy A Z A = A, Z A Z = Z, (A Z)ᵀ = A Z and (Z A)ᵀ = Z A
    (Penrose).
    """

    @cases(25)
    @given(row_stochastic(max_condition=1e4))
    def law(a: np.ndarray) -> None:
        z = backend.numpy(iterative_pinv(backend.array(a), 25, initial))
        exact = backend.numpy(svd_pinv(backend.array(a)))
        for matrix, inverse, by_svd in zip(a, z, exact, strict=True):
            assert_penrose(matrix, inverse, 256 * EPS)
            assert_penrose(matrix, by_svd, 256 * EPS)
            condition = np.linalg.cond(matrix)
            assert_close(inverse, by_svd, 256 * EPS * condition * np.linalg.norm(by_svd, 2))

    law()


def test_permutation_matrices(backend: Backend) -> None:
    """A permutation matrix is inverted by its transpose at once, with any number of steps, to the bit (equation 11
    with A Z₀ = I).
    """

    @cases(20)
    @given(st.integers(1, 6).flatmap(lambda m: st.permutations(range(m))), st.integers(0, 8))
    def law(order: list[int], steps: int) -> None:
        a = np.eye(len(order))[order]
        np.testing.assert_array_equal(backend.numpy(iterative_pinv(backend.array(a), steps)), a.T)
        assert_close(backend.numpy(svd_pinv(backend.array(a))), a.T, 16 * EPS)

    law()


def test_six_steps_by_default(backend: Backend) -> None:
    """Six steps from the batch's initial value are the default (section 3.3: enough in practice; the
    reference too).
    """
    a = np.array([[[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.5, 0.3, 0.2]], [[0.8, 0.1, 0.1]] * 3])
    z = a.transpose(0, 2, 1) / a.sum(axis=1).max()
    for _ in range(6):
        az = a @ z
        z = z @ (13 * np.eye(3) - az @ (15 * np.eye(3) - az @ (7 * np.eye(3) - az))) / 4
    assert_close(backend.numpy(iterative_pinv(backend.array(a))), z, 1e-11)
    assert np.abs(a[0] @ z[0] - np.eye(3)).max() > 1e-3  # not yet the inverse: a seventh step would differ


@st.composite
def low_rank(draw: st.DrawFn) -> np.ndarray:
    """Products of small matrices of integers: of exact rank, with no singular value near the threshold."""
    m, n, rank = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(0, 3))
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    return generator.integers(-3, 4, (2, m, rank)) @ generator.integers(-3, 4, (2, rank, n)) * 1.0


def test_svd_pinv(backend: Backend) -> None:
    """The inverse by singular values satisfies Penrose's conditions for any shape and rank (Golub and Van Loan,
    Matrix Computations, section 5.5).
    """

    @cases(25)
    @given(low_rank())
    def law(a: np.ndarray) -> None:
        z = backend.numpy(svd_pinv(backend.array(a)))
        assert z.shape == (2, a.shape[2], a.shape[1])
        for matrix, inverse in zip(a, z, strict=True):
            if not matrix.any():
                np.testing.assert_array_equal(inverse, np.zeros(inverse.shape))
                continue
            sigma = np.linalg.svd(matrix, compute_uv=False)
            assume(np.all((sigma > 1e-3) | (sigma < 1e-13)))
            assert_penrose(matrix, inverse, 256 * EPS)

    law()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(2, 2), (2, 5), (5, 2)])
def test_svd_threshold(dtype: str, shape: tuple[int, int], backend: Backend) -> None:
    """Singular values count if they exceed max(m, n) · ε · σ₁ of their own matrix (the rule of
    numpy.linalg.matrix_rank).
    """
    cutoff = max(shape) * eps(dtype)
    a = np.zeros((3, *shape), dtype)
    a[:, 0, 0] = 4.0, 4.0, 1e-20  # a tiny matrix beside large ones keeps its values
    a[:, 1, 1] = 4.0 * cutoff * 1.01, 4.0 * cutoff * 0.99, 1e-21
    z = backend.numpy(svd_pinv(backend.array(a)))
    np.testing.assert_allclose(z[0, 1, 1], 1 / a[0, 1, 1], rtol=1e-5)
    assert z[1, 1, 1] == 0
    np.testing.assert_allclose(z[2, 1, 1], 1 / a[2, 1, 1], rtol=1e-5)
    np.testing.assert_allclose(z[:, 0, 0], 1 / a[:, 0, 0], rtol=1e-5)
    assert z.dtype == dtype


# The three factors and their product


def means(x: np.ndarray, landmarks: int) -> np.ndarray:
    return np.stack([x[..., s, :].mean(axis=-2) for s in segments(x.shape[-2], landmarks)], axis=-2)


def test_kernels(backend: Backend) -> None:
    """F = softmax(q k̃ᵀ), A = softmax(q̃ k̃ᵀ), B = softmax(q̃ kᵀ + mask): the mask reaches B alone
    (equation 9).
    """

    @cases(25)
    @given(attention_cases())
    def law(case: AttentionCase) -> None:
        q, k, m = case.query, case.key, case.num_landmarks
        f, a, b = nystrom_kernels(backend.array(q), backend.array(k), m, optional(backend, case.mask))
        assert_close(backend.numpy(f), softmax_attention_matrix(q, means(k, m)), 256 * EPS)
        assert_close(backend.numpy(a), softmax_attention_matrix(means(q, m), means(k, m)), 256 * EPS)
        assert_close(backend.numpy(b), softmax_attention_matrix(means(q, m), k, case.mask), 256 * EPS)

    law()


def magnification(a: np.ndarray, pinv: Any) -> float:
    """How much an inverse magnifies rounding errors of its argument: (1 + ‖A⁺‖)²."""
    return float((1.0 + np.linalg.norm(pinv(a), np.inf, axis=(-2, -1)).max()) ** 2)


@pytest.mark.parametrize("pinv", [iterative_pinv, partial(iterative_pinv, initial="matrix")])
def test_linear_time_form_is_the_definition(pinv: Any, backend: Backend) -> None:
    """Nyström attention is (F A⁺ B) v (algorithm 1), however blocks cut it."""

    @cases(25)
    @given(attention_cases(), blocks)
    def law(case: AttentionCase, sizes: tuple[int, int, int]) -> None:
        q, k, v = (backend.array(x) for x in (case.query, case.key, case.value))
        mask = optional(backend, case.mask)
        f, a, b = (backend.numpy(x) for x in nystrom_kernels(q, k, case.num_landmarks, mask))
        matrix = backend.numpy(nystrom_attention_matrix(q, k, case.num_landmarks, mask, pinv))
        with tiny_blocks(*sizes):
            context = backend.numpy(nystrom_attention(q, k, v, case.num_landmarks, mask, pinv))
        allowed = 64 * EPS * magnification(a, pinv)
        assert_close(matrix, f @ pinv(a) @ b, allowed)
        assert_close(context, matrix @ case.value, 4 * allowed)

    law()


def test_default_inverse(backend: Backend) -> None:
    """The inverse is by default six steps from the batch's initial value, as in the reference."""

    @cases(20)
    @given(attention_cases())
    def law(case: AttentionCase) -> None:
        q, k, v = (backend.array(x) for x in (case.query, case.key, case.value))
        named = partial(iterative_pinv, iterations=6, initial="batch")
        for found, expected in (
            (
                nystrom_attention(q, k, v, case.num_landmarks),
                nystrom_attention(q, k, v, case.num_landmarks, None, named),
            ),
            (
                nystrom_attention_matrix(q, k, case.num_landmarks),
                nystrom_attention_matrix(q, k, case.num_landmarks, None, named),
            ),
        ):
            np.testing.assert_array_equal(backend.numpy(found), backend.numpy(expected))

    law()


def test_rank(backend: Backend) -> None:
    """F A⁺ B has rank at most m: m query landmarks see everything (section 3.2)."""

    @cases(20)
    @given(attention_cases())
    def law(case: AttentionCase) -> None:
        q, k = backend.array(case.query), backend.array(case.key)
        matrix = backend.numpy(nystrom_attention_matrix(q, k, case.num_landmarks, optional(backend, case.mask)))
        sigma = np.linalg.svd(matrix, compute_uv=False)
        a = backend.numpy(nystrom_kernels(q, k, case.num_landmarks)[1])
        allowed = 64 * EPS * magnification(a, iterative_pinv)
        assert np.all(sigma[..., case.num_landmarks :] <= allowed)

    law()


@st.composite
def exact_cases(draw: st.DrawFn) -> AttentionCase:
    """As many landmarks as tokens."""
    case = draw(attention_cases(with_masks=False, lengths=range(1, 6)))
    return AttentionCase(case.query, case.key, case.value, case.query.shape[-2], None)


def test_all_tokens_landmarks(backend: Backend) -> None:
    """With m = L and the exact inverse of an invertible A, F A⁺ B = A A⁻¹ A = A is softmax attention
    (section 3.2).
    """

    @cases(25)
    @given(exact_cases())
    def law(case: AttentionCase) -> None:
        q, k, v = (backend.array(x) for x in (case.query, case.key, case.value))
        a = backend.numpy(softmax_attention_matrix(q, k))
        condition = np.linalg.cond(a).max()
        assume(condition < 1e8)
        found = backend.numpy(nystrom_attention(q, k, v, case.num_landmarks, pinv=svd_pinv))
        expected = backend.numpy(softmax_attention(q, k, v))
        assert_close(found, expected, 256 * EPS * condition)

    law()


def test_rows_sum_to_one(backend: Backend) -> None:
    """With the exact inverse of an invertible A the rows of F A⁺ B sum to one: F A⁻¹ B 1 = F A⁻¹ 1 = F 1 =
    1 (rows of a softmax sum to one, and A 1 = 1 gives A⁻¹ 1 = 1).
    """

    @cases(25)
    @given(attention_cases())
    def law(case: AttentionCase) -> None:
        q, k = backend.array(case.query), backend.array(case.key)
        a = backend.numpy(nystrom_kernels(q, k, case.num_landmarks)[1])
        condition = np.linalg.cond(a).max()
        assume(condition < 1e8)
        mask = optional(backend, case.mask)
        matrix = backend.numpy(nystrom_attention_matrix(q, k, case.num_landmarks, mask, svd_pinv))
        assert_close(matrix.sum(axis=-1), np.ones(matrix.shape[:-1]), 256 * EPS * condition)

    law()


def test_heads_and_sequences(backend: Backend) -> None:
    """Permuting sequences or heads permutes the outputs, whatever the initial value (algorithm 1 is of one head;
    a maximum has no order).
    """

    @cases(20)
    @given(attention_cases())
    def law(case: AttentionCase) -> None:
        q, k, v, m, mask = case.arguments()
        turned = None if mask is None else backend.array(mask[::-1])
        for initial in ("batch", "matrix"):
            pinv = partial(iterative_pinv, initial=initial)
            one = backend.numpy(nystrom_attention(*map(backend.array, (q, k, v)), m, optional(backend, mask), pinv))
            order = [backend.array(np.array(x[::-1, ::-1])) for x in (q, k, v)]
            other = backend.numpy(nystrom_attention(*order, m, turned, pinv))
            a = backend.numpy(nystrom_kernels(backend.array(q), backend.array(k), m)[1])
            assert_close(other[::-1, ::-1], one, 256 * EPS * magnification(a, pinv))

    law()


def test_matrix_initial_value_does_not_mix(backend: Backend) -> None:
    """With the initial value of each matrix alone, a head gives what it gives by itself (spec:
    inv_coeff_init_option).
    """

    @cases(20)
    @given(attention_cases())
    def law(case: AttentionCase) -> None:
        pinv = partial(iterative_pinv, initial="matrix")
        q, k, v, m, mask = case.arguments()
        whole = backend.numpy(nystrom_attention(*map(backend.array, (q, k, v)), m, optional(backend, mask), pinv))
        a = backend.numpy(nystrom_kernels(backend.array(q), backend.array(k), m)[1])
        for b, h in np.ndindex(*q.shape[:2]):
            one = None if mask is None else mask[b, 0]
            alone = nystrom_attention(*(backend.array(x[b, h]) for x in (q, k, v)), m, optional(backend, one), pinv)
            assert_close(backend.numpy(alone), whole[b, h], 256 * EPS * magnification(a, pinv))

    law()


def test_batch_initial_value_mixes(backend: Backend) -> None:
    """With the reference's initial value a peaked sequence beside another changes it: the law above would
    fail.
    """
    flat, peaked = np.zeros((1, 6, 1)), np.array([[[-3.0], [-2], [-1], [1], [2], [9]]])
    both = backend.array(np.concatenate([peaked, flat + peaked[:, ::-1] * [[0.5]]]))
    together = backend.numpy(nystrom_attention(both, both, both, 6))
    alone = backend.numpy(nystrom_attention(both[1:], both[1:], both[1:], 6))
    assert np.abs(together[1:] - alone).max() > 1e-3


def test_values_of_padding_do_not_matter(backend: Backend) -> None:
    """What a masked token has for a value changes nothing, its column of B being 0 (but its query and key weigh in
    the landmarks; equation 9 with the reference's mask).
    """

    @cases(20)
    @given(attention_cases())
    def law(case: AttentionCase) -> None:
        assume(case.mask is not None and case.mask.any(axis=-1).all())
        q, k, v, m, mask = case.arguments()
        other = np.where(mask.swapaxes(-1, -2).astype(bool), v, 100.0)
        one, two = (nystrom_attention(*map(backend.array, (q, k, x)), m, backend.array(mask)) for x in (v, other))
        a = backend.numpy(nystrom_kernels(backend.array(q), backend.array(k), m)[1])
        assert_close(backend.numpy(one), backend.numpy(two), 256 * EPS * magnification(a, iterative_pinv))

    law()


def test_half_precision_is_computed_in_single(backend: Backend) -> None:
    """Float16 in, float16 out; in between float32, so that the inverse does not magnify half precision's
    errors.
    """
    generator = np.random.default_rng(0)
    q, k, v = ((generator.standard_normal((2, 12, 4)) * 1.5).astype("float16") for _ in range(3))
    half = nystrom_attention(*map(backend.array, (q, k, v)), 5)
    single = nystrom_attention(*(backend.array(x.astype("float32")) for x in (q, k, v)), 5)
    assert half.dtype == "float16"
    np.testing.assert_array_equal(backend.numpy(half), backend.numpy(single).astype("float16"))
    matrix = nystrom_attention_matrix(backend.array(q), backend.array(k), 5)
    assert matrix.dtype == "float16"
    inverse = iterative_pinv(backend.array(np.eye(3, dtype="float16")))
    assert inverse.dtype == "float32"
    assert svd_pinv(backend.array(np.eye(3, dtype="float16"))).dtype == "float32"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_written_over_the_queries(dtype: str) -> None:
    """The context may take the place of the queries: their means are taken first, and each row is read before it."""
    query, key, value = (np.random.default_rng(7).standard_normal((3, 2, 12, 4)) * 1.5).astype(dtype)
    expected = nystrom_attention(query, key, value, 3)
    out = query.copy()
    assert attention.nystrom_attention(out, key, value, 3, out=out) is out
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, expected)
