"""For people who port the model: random small inputs, and comparisons of their implementation with this one.

The strategies are Hypothesis's, which draws cases and shrinks a failing one to the smallest it can find.
Hypothesis is imported when first used (``pip install hypothesis``).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from nystrom_np.activations import ACTIVATIONS
from nystrom_np.array_module import Array, to_numpy
from nystrom_np.config import NystromformerConfig
from nystrom_np.functional import (
    iterative_pinv,
    nystrom_attention,
    nystrom_kernels,
    softmax,
)

__all__ = [
    "AttentionCase",
    "Mismatch",
    "arrays",
    "attention_cases",
    "compare_model",
    "compare_nystrom_attention",
    "configs",
    "masks",
    "model_inputs",
    "row_stochastic",
]

LAYOUTS = ("contiguous", "read-only", "fortran", "strided", "reversed", "heads")
"""The memory layouts of drawn arrays."""


class Mismatch(ValueError):
    """Two implementations differ; the message names the output, the place, the numbers and the smallest case.

    Attributes
    ----------
    name : str
        The output that differs.
    index : tuple of int, or None
        Where the difference is largest; None if the shapes differ.
    difference : float
        The largest absolute difference; infinite if the shapes differ.

    Examples
    --------
    >>> Mismatch("logits: largest difference 0.5 at [0]", "logits", (0,), 0.5).index
    (0,)
    """

    def __init__(self, message: str, name: str, index: tuple[int, ...] | None, difference: float) -> None:
        super().__init__(message)
        self.name = name
        self.index = index
        self.difference = difference


@dataclass(frozen=True)
class AttentionCase:
    """The arguments of one call of Nyström attention.

    Attributes
    ----------
    query, key : arrays of floats, (..., length, dim)
        Scaled already: scores are ``query @ key.T``, nothing is divided by √dim any more.
    value : array of floats, (..., length, values)
    num_landmarks : int
        From 1 to length.
    mask : array of 0 and 1, (..., 1, length), or None
        1 for real keys, 0 for padding.

    Examples
    --------
    >>> import numpy as np
    >>> case = AttentionCase(np.ones((3, 1)), np.ones((3, 1)), np.eye(3), num_landmarks=2, mask=None)
    >>> nystrom_attention(*case.arguments()).shape
    (3, 3)
    """

    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    num_landmarks: int
    mask: np.ndarray | None

    def arguments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, np.ndarray | None]:
        """Return the fields in the order of :func:`nystrom_np.functional.nystrom_attention`'s parameters."""
        return self.query, self.key, self.value, self.num_landmarks, self.mask


def _strategies() -> Any:
    try:
        import hypothesis.strategies as strategies
    except ImportError as error:
        raise ImportError("nystrom_np.testing needs Hypothesis to draw cases: pip install hypothesis") from error
    return strategies


def arrays(shape: tuple, dtype: Any = "float64", scale: float = 4.0, layouts: tuple = LAYOUTS) -> Any:
    """Strategy for arrays of floats of a shape, in any memory layout.

    Values come from a drawn seed, so that a case has few choices and shrinks fast. It shrinks to small shapes (if
    these are drawn too) and to coarse values, not to zeros.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
        Of float16, float32 or float64: the values are the same in each.
    scale : float
        Values are multiples of scale / 128 from -scale to scale; in some cases multiples of scale / 2.
    layouts : tuple of str
        Of :data:`LAYOUTS`: C-contiguous; the same but read-only; column-major; every other element of a
        buffer that holds NaN in between; negative strides; and (..., H, L, d) as a view of (..., L, H, d), as
        models split heads.

    Returns
    -------
    hypothesis.strategies.SearchStrategy

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5)
    ... @given(arrays((2, 3), "float32"))
    ... def test(x):
    ...     assert x.shape == (2, 3) and x.dtype == "float32" and abs(x).max() <= 4
    >>> test()
    """
    return _array_choices(layouts).map(lambda choices: _array(choices, shape, dtype, scale))


@cache
def _array_choices(layouts: tuple = LAYOUTS) -> Any:
    """Seed, step and layout of an array; cached, since making a strategy takes longer than a draw."""
    st = _strategies()
    return st.tuples(st.integers(0, 2**16), st.sampled_from([64, 1]), st.sampled_from(layouts))


def _array(choices: tuple, shape: tuple, dtype: Any = "float64", scale: float = 4.0) -> np.ndarray:
    seed, step, layout = choices
    steps = np.random.default_rng(seed).integers(-128 // step, 128 // step, shape, endpoint=True)
    return _lay_out((steps * (step * scale / 128)).astype(dtype), layout)


def _lay_out(x: np.ndarray, layout: str) -> np.ndarray:
    if layout == "read-only":
        x.setflags(write=False)
    elif layout == "fortran":
        return np.asfortranarray(x)
    elif layout == "strided" and x.ndim:
        buffer = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan, x.dtype)
        buffer[..., ::2] = x
        return buffer[..., ::2]
    elif layout == "reversed" and x.ndim:
        return x[..., ::-1].copy()[..., ::-1]
    elif layout == "heads" and x.ndim >= 3:
        return np.ascontiguousarray(x.swapaxes(-3, -2)).swapaxes(-3, -2)
    return x


def masks(shape: tuple, empty_rows: bool = True) -> Any:
    """Strategy for masks of 1 (real) and 0 (padding), anywhere in a row, as integers, floats or booleans.

    Parameters
    ----------
    shape : tuple of int
    empty_rows : bool
        Whether a row may be masked entirely.

    Returns
    -------
    hypothesis.strategies.SearchStrategy

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5)
    ... @given(masks((2, 3), empty_rows=False))
    ... def test(mask):
    ...     assert (mask.max(axis=-1) == 1).all()
    >>> test()
    """
    return _mask_choices().map(lambda choices: _mask(choices, shape, empty_rows))


@cache
def _mask_choices() -> Any:
    st = _strategies()
    dtypes = st.sampled_from(["int64", "bool", "float32", "uint8"])
    return st.tuples(st.integers(0, 2**16), st.sampled_from([0.5, 0.0, 0.8, 1.0]), dtypes)


def _mask(choices: tuple, shape: tuple, empty_rows: bool = True) -> np.ndarray:
    seed, padding, dtype = choices
    generator = np.random.default_rng(seed)
    mask = generator.random(shape) >= padding
    if not empty_rows:
        mask |= np.arange(shape[-1]) == generator.integers(0, shape[-1], (*shape[:-1], 1))
    return mask.astype(dtype)


def row_stochastic(max_size: int = 6, max_condition: float = 1e4) -> Any:
    """Strategy for invertible matrices such as softmax leaves between landmarks: positive, rows sum to one.

    Parameters
    ----------
    max_size : int
        The largest number of rows.
    max_condition : float
        Bound of the condition number in the 2-norm, above 1.

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        Of arrays of float64, (matrices, m, m) with 1 to 3 matrices.

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5)
    ... @given(row_stochastic())
    ... def test(a):
    ...     assert abs(a.sum(axis=-1) - 1).max() < 1e-14
    >>> test()
    """
    st = _strategies()

    def build(choices: tuple) -> np.ndarray:
        matrices, size, values = choices
        scores = _array(values, (matrices, size, size), scale=8.0)
        return np.stack([_conditioned(a, max_condition) for a in softmax(scores)])

    return st.tuples(st.integers(1, 3), st.integers(1, max_size), _array_choices(("contiguous",))).map(build)


def _conditioned(a: np.ndarray, max_condition: float) -> np.ndarray:
    """Average with the identity until the condition number is within its bound."""
    while np.linalg.cond(a) > max_condition:
        a = (a + np.eye(len(a))) / 2
    return a


def attention_cases(
    dtype: Any = "float64", with_masks: bool = True, equal_segments: bool = False, max_length: int = 12
) -> Any:
    """Strategy for the arguments of Nyström attention.

    Parameters
    ----------
    dtype : dtype
        Of query, key and value.
    with_masks : bool
        Whether some cases have a mask. A row may be masked entirely.
    equal_segments : bool
        Whether the length is always a multiple of the number of landmarks, as some implementations require.
    max_length : int
        Lengths go from 1 to this one.

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        Of :class:`AttentionCase`.

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5)
    ... @given(attention_cases())
    ... def test(case):
    ...     assert nystrom_attention(*case.arguments()).shape == case.value.shape
    >>> test()
    """
    st = _strategies()

    @st.composite
    def cases(draw: Any) -> AttentionCase:
        landmarks = draw(st.integers(1, max_length))
        if equal_segments:
            length = landmarks * draw(st.integers(1, max_length // landmarks))
        else:
            length = draw(st.integers(landmarks, max_length))
        batch, heads, dim, values = draw(sizes)
        query, key, value = draw(contents)
        return AttentionCase(
            _array(query, (batch, heads, length, dim), dtype, scale=2.0),
            _array(key, (batch, heads, length, dim), dtype, scale=2.0),
            _array(value, (batch, heads, length, values), dtype),
            landmarks,
            _mask(draw(_mask_choices()), (batch, 1, 1, length)) if draw(masked) else None,
        )

    sizes = st.tuples(*(st.integers(1, largest) for largest in (2, 2, 3, 3)))
    contents = st.tuples(_array_choices(), _array_choices(), _array_choices())
    masked = st.booleans() if with_masks else st.just(False)
    return cases()


def configs(**fixed: Any) -> Any:
    """Strategy for configurations of very small models, on both attention branches.

    Parameters
    ----------
    **fixed
        Fields of :class:`nystrom_np.NystromformerConfig` that are not to be drawn.

    Returns
    -------
    hypothesis.strategies.SearchStrategy

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5)
    ... @given(configs(masking="invariant"))
    ... def test(config):
    ...     assert config.masking == "invariant" and config.hidden_size <= 12
    >>> test()
    """
    st = _strategies()

    @st.composite
    def drawn(draw: Any) -> NystromformerConfig:
        fields = draw(choices)
        fields["hidden_size"] *= fields["num_attention_heads"]
        if fields.pop("exact"):
            fields["segment_means_seq_len"] = fields["num_landmarks"]
        return NystromformerConfig(**(fields | fixed))

    choices = st.fixed_dictionaries(
        {
            "vocab_size": st.integers(4, 20),
            "num_attention_heads": st.integers(1, 3),
            "hidden_size": st.integers(2, 4),  # of a head
            "num_hidden_layers": st.integers(1, 2),
            "intermediate_size": st.integers(1, 8),
            "hidden_act": st.sampled_from(list(ACTIVATIONS)),
            "max_position_embeddings": st.integers(8, 12),
            "num_landmarks": st.integers(1, 5),
            "exact": st.booleans(),
            "conv_kernel_size": st.sampled_from([None, 1, 3, 5]),
            "inv_coeff_init_option": st.booleans(),
            "chunk_size_feed_forward": st.sampled_from([0, 1]),
            "masking": st.sampled_from(["transformers", "original", "invariant"]),
            "initializer_range": st.just(0.5),  # so wide that attention is peaked
        }
    )
    return drawn()


def model_inputs(config: NystromformerConfig, with_masks: bool = True, max_length: int = 8) -> Any:
    """Strategy for the keyword arguments of a model's forward call.

    Parameters
    ----------
    config : NystromformerConfig
        Of the model.
    with_masks : bool
        Whether some cases have an ``attention_mask``. Every sequence keeps a real token.
    max_length : int
        The longest sequence; limited by the configuration's ``max_position_embeddings``.

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        Of dictionaries with ``input_ids`` and some of ``attention_mask``, ``token_type_ids`` and
        ``position_ids``: NumPy arrays of shape (B, L).

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5)
    ... @given(model_inputs(NystromformerConfig(), max_length=8))
    ... def test(inputs):
    ...     assert inputs["input_ids"].shape[1] <= 8
    >>> test()
    """
    st = _strategies()

    @st.composite
    def drawn(draw: Any) -> dict[str, np.ndarray]:
        shape = draw(shapes)
        seed, masked, typed, placed = draw(choices)
        generator = np.random.default_rng(seed)
        inputs = {"input_ids": generator.integers(0, config.vocab_size, shape)}
        if masked:
            inputs["attention_mask"] = _mask(draw(_mask_choices()), shape, empty_rows=False)
        if typed:
            inputs["token_type_ids"] = generator.integers(0, config.type_vocab_size, shape)
        if placed:
            inputs["position_ids"] = generator.integers(0, config.max_position_embeddings + 2, shape)
        return inputs

    shapes = st.tuples(st.integers(1, 3), st.integers(1, min(max_length, config.max_position_embeddings)))
    masked = st.booleans() if with_masks else st.just(False)
    choices = st.tuples(st.integers(0, 2**16), masked, st.booleans(), st.booleans())
    return drawn()


def compare_nystrom_attention(
    function: Callable[..., Any],
    *,
    pinv: Callable[[Array], Array] = iterative_pinv,
    dtype: Any = "float64",
    tolerance: float | None = None,
    with_masks: bool = True,
    equal_segments: bool = False,
    max_examples: int = 200,
) -> None:
    """Compare another implementation of Nyström attention with this package's, over drawn cases.

    Parameters
    ----------
    function : callable
        ``function(query, key, value, num_landmarks, mask)`` with NumPy arrays as in :class:`AttentionCase`;
        returns the context (..., length, values) as anything that ``numpy.asarray`` reads.
    pinv : callable
        The inverse to compare with: by default six steps of :func:`nystrom_np.functional.iterative_pinv` from
        the initial value shared by the batch. ``functools.partial(iterative_pinv, initial="matrix")`` begins with
        one for each matrix.
    dtype : dtype
        Of the arrays given to the function, float64 or float32. The result is compared with this package's
        in float64.
    tolerance : float, optional
        The largest difference allowed. By default 100 · ε · (1 + ‖A⁺‖)² · max(1, max abs(value)): rounding errors
        as an ill-conditioned inverse magnifies them.
    with_masks, equal_segments : bool
        Which cases to draw: see :func:`attention_cases`. Change one to see whether the other cases agree.
    max_examples : int
        How many cases.

    Raises
    ------
    Mismatch
        If a case differs; the message shows the smallest one found.

    Examples
    --------
    >>> def attention(query, key, value, num_landmarks, mask):
    ...     return nystrom_attention(query, key, value, num_landmarks, mask)
    >>> compare_nystrom_attention(attention, max_examples=10)

    One that forgets the mask:

    >>> def unmasked(query, key, value, num_landmarks, mask):
    ...     return nystrom_attention(query, key, value, num_landmarks)
    >>> compare_nystrom_attention(unmasked)
    Traceback (most recent call last):
    nystrom_np.testing.Mismatch: context: largest difference ... expected ..., found ...
    """

    def check(case: AttentionCase) -> None:
        query, key, value = (x.astype("float64") for x in (case.query, case.key, case.value))
        wide = AttentionCase(query, key, value, case.num_landmarks, case.mask)
        expected = nystrom_attention(*wide.arguments(), pinv=pinv)
        allowed = _rounding(wide, pinv, dtype) if tolerance is None else tolerance
        _compare("context", function(*case.arguments()), expected, allowed, case)

    _search(check, attention_cases(dtype, with_masks, equal_segments), max_examples)


def _rounding(case: AttentionCase, pinv: Callable[[Array], Array], dtype: Any) -> float:
    inverse = pinv(nystrom_kernels(case.query, case.key, case.num_landmarks, case.mask)[1])
    magnified = (1.0 + np.abs(inverse).sum(axis=-1).max()) ** 2
    return float(100.0 * np.finfo(dtype).eps * magnified * max(1.0, np.abs(case.value).max()))


def compare_model(
    function: Callable[..., Any],
    model: Any,
    *,
    tolerance: float | None = None,
    with_masks: bool = True,
    max_examples: int = 50,
) -> None:
    """Compare another implementation of a whole model with this package's, over drawn inputs.

    Parameters
    ----------
    function : callable
        Takes keyword arguments ``input_ids`` and, in some cases, ``attention_mask``, ``token_type_ids`` and
        ``position_ids`` (NumPy arrays (B, L)). Returns the model's first output (last hidden state, or
        logits), or a mapping with any of the names of this package's outputs: ``{"hidden_states": [...],
        "attentions": [...], "logits": ...}``. The first that differs, in the order of computation, is
        reported, so a port that returns its hidden states is told the layer where it goes wrong.
    model : model of this package
        On the CPU, with the same parameters as the other. It computes in float64 here, whatever its dtype.
    tolerance : float, optional
        The largest difference allowed. By default 1e-10 for a model in float64; else ten times the distance of
        this package's own result in the model's dtype from that in float64, and at least 1e-5.
    with_masks : bool
        Whether some cases have a mask.
    max_examples : int
        How many cases.

    Raises
    ------
    Mismatch
        If a case differs; the message shows the smallest one found.
    TypeError
        If the function returns none of the model's outputs.

    Examples
    --------
    >>> from nystrom_np import NystromformerModel
    >>> config = NystromformerConfig(
    ...     vocab_size=9,
    ...     hidden_size=4,
    ...     num_hidden_layers=1,
    ...     num_attention_heads=2,
    ...     intermediate_size=4,
    ...     num_landmarks=2,
    ... )
    >>> model = NystromformerModel(config, dtype="float64")
    >>> compare_model(lambda **inputs: model(**inputs).last_hidden_state, model, max_examples=5)

    A port that lost the token types:

    >>> def lost(input_ids, attention_mask=None, token_type_ids=None, position_ids=None):
    ...     out = model(input_ids, attention_mask, position_ids=position_ids, output_hidden_states=True)
    ...     return {"hidden_states": out.hidden_states}
    >>> compare_model(lost, model)
    Traceback (most recent call last):
    nystrom_np.testing.Mismatch: hidden_states[0]: largest difference ...
    """
    parameters = {name: to_numpy(value).astype("float64") for name, value in model.state_dict().items()}
    exact = type(model)(model.config, parameters=parameters)

    def check(inputs: dict[str, np.ndarray]) -> None:
        found = function(**inputs)
        wanted = {"output_hidden_states": True, "output_attentions": True}
        expected = dict(_outputs(exact(**inputs, **wanted, return_dict=True)))
        allowed = tolerance
        if allowed is None and model.dtype == "float64":
            allowed = 1e-10
        elif allowed is None:
            own = dict(_outputs(model(**inputs, **wanted, return_dict=True)))
            allowed = max(1e-5, 10.0 * max(_distance(own[name], expected[name]) for name in expected))
        outputs = dict(_outputs(found)) if hasattr(found, "keys") else {_first(expected): found}
        if not outputs.keys() <= expected.keys():
            unknown = ", ".join(sorted(outputs.keys() - expected.keys()))
            raise TypeError(f"outputs among {', '.join(expected)} were expected; found {unknown}")
        for name, value in expected.items():
            if name in outputs:
                _compare(name, outputs[name], value, allowed, inputs)

    _search(check, model_inputs(model.config, with_masks), max_examples)


def _first(names: Iterable[str]) -> str:
    return next(name for name in names if not name.startswith(("hidden_states", "attentions")))


def _outputs(record: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Name every array in the order of computation: hidden_states[0], attentions[0], hidden_states[1] …."""
    states, attentions = record.get("hidden_states") or (), record.get("attentions") or ()
    for layer in range(max(len(states), len(attentions) + 1)):
        if layer < len(states):
            yield f"hidden_states[{layer}]", states[layer]
        if layer < len(attentions):
            yield f"attentions[{layer}]", attentions[layer]
    for name in record.keys():  # noqa: SIM118  (a record iterates over its names, other mappings may not)
        if name not in ("hidden_states", "attentions"):
            yield name, record[name]


def _distance(a: Any, b: Any) -> float:
    return float(np.abs(np.asarray(a, "float64") - np.asarray(b, "float64")).max(initial=0.0))


def _compare(name: str, found: Any, expected: np.ndarray, allowed: float, case: Any) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        what = f"{name}: expected shape {expected.shape}, found shape {found.shape}"
        raise Mismatch(f"{what}\n{_describe(case)}", name, None, math.inf)
    difference = np.abs(found.astype("float64") - expected)
    difference[np.isnan(found) != np.isnan(expected)] = math.inf
    if not np.all(difference <= allowed):
        index = tuple(int(i) for i in np.unravel_index(np.nanargmax(difference), difference.shape))
        what = (
            f"{name}: largest difference {difference[index]:.3g} at {list(index)} of shape {expected.shape}: "
            f"expected {expected[index]:.17g}, found {found[index]:.17g} (allowed {allowed:.3g})"
        )
        raise Mismatch(f"{what}\n{_describe(case)}", name, index, float(difference[index]))


def _describe(case: Any) -> str:
    fields = case if isinstance(case, dict) else vars(case)
    with np.printoptions(threshold=400, precision=17):
        lines = [f"  {name} = {value!r}".replace("\n", "\n" + " " * (len(name) + 5)) for name, value in fields.items()]
    return "\n".join(["the smallest failing case found:", *lines])


def _search(check: Callable[[Any], None], cases: Any, max_examples: int) -> None:
    """Run a check over drawn cases, the same ones every time; raise what the smallest failing one raises."""
    _strategies()
    from hypothesis import HealthCheck, Phase, given, settings

    run = settings(
        max_examples=max_examples,
        deadline=None,
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )(given(cases)(check))
    try:
        run()
    except Mismatch as error:  # without Hypothesis's notes: the message has the case
        raise Mismatch(str(error), error.name, error.index, error.difference) from None
