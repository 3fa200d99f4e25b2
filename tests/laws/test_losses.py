"""The losses of the heads."""

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from nystrom_np.functional import binary_cross_entropy_with_logits, cross_entropy, mean_squared_error
from nystrom_np.testing import arrays
from tests.backends import Backend
from tests.laws.tools import assert_close, cases, eps, float_arrays

EPS = eps("float64")
ROUNDING = 16 * 16 * EPS


@st.composite
def labelled(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, classes), and labels (n,) of which some are −100."""
    n, classes = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    labels = draw(st.lists(st.sampled_from([*range(classes), -100]), min_size=n, max_size=n))
    return draw(arrays((n, classes))), np.array(labels)


def test_cross_entropy(backend: Backend) -> None:
    """The mean of −log softmax(logits)[label] over labels that are not ignored; NaN if all are (torch's
    too).
    """

    @cases(60)
    @given(labelled())
    def law(drawn: tuple[np.ndarray, np.ndarray]) -> None:
        logits, labels = drawn
        found = backend.numpy(cross_entropy(backend.array(logits), backend.array(labels)))
        rows = [i for i, label in enumerate(labels) if label != -100]
        terms = [-scipy.special.log_softmax(logits[i])[labels[i]] for i in rows]
        if terms:
            assert_close(found, np.mean(terms), ROUNDING)
        else:
            assert np.isnan(found)
        assert found.shape == ()

    law()


def test_ignored_index(backend: Backend) -> None:
    """Any label can be the ignored one, and ignoring it leaves the loss of the other rows (torch's
    ``cross_entropy``).
    """

    @cases(20)
    @given(arrays((5, 3)), st.integers(0, 2))
    def law(logits: np.ndarray, ignored: int) -> None:
        labels = np.array([0, 1, 2, 1, 0])
        found = cross_entropy(backend.array(logits), backend.array(labels), ignore_index=ignored)
        kept = labels != ignored
        rest = cross_entropy(backend.array(np.array(logits)[kept]), backend.array(labels[kept]))
        assert_close(backend.numpy(found), backend.numpy(rest), ROUNDING)

    law()


def test_soft_targets(backend: Backend) -> None:
    """With a distribution for a target the loss is −Σ t log softmax (``scipy.special.log_softmax``); for one-hot
    targets that of the labels.
    """

    @cases(30)
    @given(arrays((4, 3)), arrays((4, 3)))
    def law(logits: np.ndarray, scores: np.ndarray) -> None:
        targets = scipy.special.softmax(scores, axis=-1)
        found = cross_entropy(backend.array(logits), backend.array(targets))
        expected = -(targets * scipy.special.log_softmax(logits, axis=-1)).sum() / 4
        assert_close(backend.numpy(found), expected, ROUNDING)
        labels = np.array([2, 0, 1, 1])
        hard = cross_entropy(backend.array(logits), backend.array(labels))
        soft = cross_entropy(backend.array(logits), backend.array(np.eye(3)[labels]))
        assert_close(backend.numpy(soft), backend.numpy(hard), ROUNDING)

    law()


def test_mean_squared_error(backend: Backend) -> None:
    """The mean of squared differences (definition), symmetric in both arguments, 0 only if they are equal."""

    @cases(30)
    @given(float_arrays(), st.integers(0, 3))
    def law(x: np.ndarray, step: int) -> None:
        y = np.array(x[..., ::-1]) - step
        found, swapped = (backend.numpy(mean_squared_error(*map(backend.array, pair))) for pair in ((x, y), (y, x)))
        assert_close(found, sum((a - b) ** 2 for a, b in zip(x.flat, y.flat, strict=True)) / x.size, 8 * 64 * EPS)
        assert found == swapped
        assert (found == 0) == bool((x == y).all())

    law()


def test_binary_cross_entropy(backend: Backend) -> None:
    """The mean of −t log σ(x) − (1 − t) log σ(−x) (``scipy.special.log_expit``), for any target from 0 to
    1.
    """

    @cases(40)
    @given(float_arrays(scale=32.0), st.integers(0, 8))
    def law(x: np.ndarray, seed: int) -> None:
        targets = np.random.default_rng(seed).integers(0, 5, x.shape) / 4
        found = binary_cross_entropy_with_logits(backend.array(x), backend.array(targets))
        terms = -targets * scipy.special.log_expit(x) - (1 - targets) * scipy.special.log_expit(-x)
        assert_close(backend.numpy(found), terms.mean(), 64 * 16 * EPS)

    law()


def test_extremes(backend: Backend) -> None:
    """Logits of any size overflow nowhere: a sure right answer costs 0, a sure wrong one the logit."""
    x, zeros, ones = np.array([1e300, -1e300]), np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert backend.numpy(binary_cross_entropy_with_logits(backend.array(x), backend.array(zeros))) == 0
    assert backend.numpy(binary_cross_entropy_with_logits(backend.array(x), backend.array(ones))) == 1e300
    sure = backend.array(np.array([[1e300, 0.0]]))
    assert backend.numpy(cross_entropy(sure, backend.array(np.array([0])))) == 0
    assert backend.numpy(cross_entropy(sure, backend.array(np.array([1])))) == 1e300


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_long_means_in_half_precision(dtype: str, backend: Backend) -> None:
    """Half precision is summed in float32: a mean over 100,000 rows does not overflow, and is in the
    input's dtype.
    """
    n = 100_000
    x, y = backend.array(np.full((n, 2), 3.0, dtype)), backend.array(np.full((n, 2), 1.0, dtype))
    labels = backend.array(np.zeros(n, "int64"))
    for loss, expected in (
        (cross_entropy(x, labels), np.log(2)),
        (cross_entropy(x, y), 2 * np.log(2)),
        (mean_squared_error(x, y), 4.0),
        (binary_cross_entropy_with_logits(x, y), np.log1p(np.exp(-3.0))),
    ):
        found = backend.numpy(loss)
        assert found.dtype == dtype
        assert_close(found, expected, max(4 * eps(dtype), 1e-9 if dtype == "float64" else 1e-4))
