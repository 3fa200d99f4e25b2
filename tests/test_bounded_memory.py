"""Attention over long sequences: as it is defined, in memory that does not grow with the square of the length."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from nystrom_np.fast import definitions
from nystrom_np.functional import (
    iterative_pinv,
    nystrom_attention,
    nystrom_kernels,
    segment_means,
    softmax_attention,
    softmax_attention_matrix,
)

MEGABYTE = 2**20
LIMIT = 64 * MEGABYTE


def inputs(heads: int, length: int, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((1, heads, length, 64), np.float32) / 4 for _ in range(count)]


def extra_memory(function: Callable[[], np.ndarray]) -> tuple[np.ndarray, int]:
    """The result, and the most bytes that were held beyond it."""
    tracemalloc.start()
    try:
        result = function()
        return result, tracemalloc.get_traced_memory()[1] - result.nbytes
    finally:
        tracemalloc.stop()


def check_dense(heads: int, length: int, limit: int) -> None:
    query, key, value = inputs(heads, length, 3)
    context, extra = extra_memory(lambda: softmax_attention(query, key, value))
    rows = [0, length // 3, length - 1]
    with definitions():
        expected = softmax_attention(query[..., rows, :], key, value)
    np.testing.assert_allclose(context[..., rows, :], expected, atol=2e-6)
    assert extra <= limit < heads * length * length * 4  # what the matrix alone would take


def check_nystrom(heads: int, length: int, limit: int) -> None:
    query, key = inputs(heads, length, 2)
    context, extra = extra_memory(lambda: nystrom_attention(query, key, key, 64))
    assert extra <= limit
    rows = [0, length // 3, length - 1]
    with definitions():
        _, kernel_2, kernel_3 = nystrom_kernels(query, key, 64)
        kernel_1 = softmax_attention_matrix(query[..., rows, :], segment_means(key, 64))
        expected = kernel_1 @ iterative_pinv(kernel_2) @ (kernel_3 @ key)
    np.testing.assert_allclose(context[..., rows, :], expected, atol=1e-4 * abs(expected).max())


def test_dense_attention_in_row_blocks() -> None:
    """2,048 tokens and 12 heads: the matrix would take 192 MB."""
    check_dense(heads=12, length=2048, limit=LIMIT // 2)


def test_nystrom_attention_with_a_running_softmax() -> None:
    """65,536 tokens: each head's third kernel alone would take 16 MB."""
    check_nystrom(heads=2, length=65_536, limit=LIMIT // 2)


@pytest.mark.slow
def test_dense_attention_over_8192_tokens() -> None:
    check_dense(heads=12, length=8192, limit=LIMIT)


@pytest.mark.slow
def test_nystrom_attention_over_a_million_tokens() -> None:
    check_nystrom(heads=4, length=2**20, limit=LIMIT)
