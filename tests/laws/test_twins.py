"""Each faster form computes what its definition says: one law for all of them, found by their names.

A twin is a function in the room of an array module that has the name of a definition. Its definition is run beside it
on the same drawn arguments. Where a twin works in blocks, they are drawn too, so small that short arrays are cut.
"""

import inspect
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nystrom_np import NystromformerForMaskedLM, definition, losses
from nystrom_np.activations import ACTIVATIONS
from nystrom_np.array_module import get_array_module
from nystrom_np.fast import TWINS, definitions
from nystrom_np.fast.on_numpy import attention, convolution, encoder, few_rows, rows
from nystrom_np.fast.on_numpy.threads import using_threads
from nystrom_np.model.parameters import tree
from nystrom_np.testing import arrays, masks
from tests.backends import Backend, make_backend
from tests.laws.tools import cases, eps
from tests.models import peaked, small_config

Arguments = tuple[Any, ...]
ROOMS = {module: import_module(room) for module, room in TWINS.items()}


def definition_of(name: str) -> Callable[..., Any]:
    return getattr(definition, name, None) or getattr(losses, name)


def twins() -> set[str]:
    """The names that any room has, beside the maker of elementwise forms."""
    return {name for room in ROOMS.values() for name in room.__all__} - {"elementwise"}


# Arguments that each definition takes


def floats(*shapes: tuple[int, ...], scale: float = 2.0) -> st.SearchStrategy[Arguments]:
    return st.tuples(*(arrays(shape, scale=scale) for shape in shapes))


def optional_mask(keys: int, queries: int = 1) -> st.SearchStrategy[Any]:
    """Booleans, empty rows among them; one for all queries, or for each its own."""
    drawn = masks((2, 1, queries, keys)) | masks((2, 1, 1, keys)) | masks((keys,))
    return st.none() | drawn.map(lambda mask: mask != 0)


def linear_arguments() -> st.SearchStrategy[Arguments]:
    return (
        floats((2, 3, 4), (5, 4), (5,)) | floats((3, 4), (2, 4), (2,)) | floats((4,), (3, 4)).map(lambda a: (*a, 0.0))
    )


@st.composite
def attention_arguments(draw: st.DrawFn, same: bool = False) -> Arguments:
    queries, keys = draw(st.integers(1, 7)), draw(st.integers(1, 9))
    queries = keys if same else queries
    query, key, value = draw(floats((2, 3, queries, 2), (2, 3, keys, 2), (2, 3, keys, 3)))
    offset = draw(st.sampled_from([0.0, 4.0, -30.0]))  # all scores of a query, or all that are masked, far from zero
    sharper = draw(st.sampled_from([1.0, 30.0]))  # scores whose exponentials overflow, if nothing is subtracted
    return sharper * query, key + offset, value, draw(optional_mask(keys, queries))


@st.composite
def nystrom_arguments(draw: st.DrawFn) -> Arguments:
    query, key, value, mask = draw(attention_arguments(same=True))
    landmarks = draw(st.integers(1, query.shape[-2]))
    if mask is not None and mask.ndim == 4:
        mask = mask[:, :, :1]
    pinv = draw(st.sampled_from([definition.iterative_pinv, definition.initial_inverse]))
    return query / 4, key / 4, value, landmarks, mask, pinv


def row_stochastic() -> st.SearchStrategy[np.ndarray]:
    def build(scores: np.ndarray) -> np.ndarray:
        weights = np.exp(scores)
        return weights / weights.sum(axis=-1, keepdims=True) / 2 + np.eye(scores.shape[-1]) / 2

    return arrays((2, 3, 4, 4), scale=2.0).map(build)


@st.composite
def convolution_arguments(draw: st.DrawFn) -> Arguments:
    length, size = draw(st.integers(1, 150)), draw(st.sampled_from([1, 3, 5, 65]))
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    return generator.standard_normal((2, 3, length, 2)), generator.standard_normal((3, 1, size, 1))


def looks_at_whole_rows(x: Any) -> Any:
    """A function of the user's need not be elementwise."""
    return x / (1.0 + (x * x).sum(axis=-1, keepdims=True))


FIELDS: dict[str, list[Any]] = {
    "masking": ["transformers", "original"],
    "conv_kernel_size": [None, 3, 5],
    "inv_coeff_init_option": [False, True],
    "pinv_method": ["iterative", "svd"],
    "pinv_initial": ["batch", "sequence"],
    "hidden_act": ["gelu_new", "relu", "mish", looks_at_whole_rows],
    "chunk_size_feed_forward": [0, 1],
    "tie_word_embeddings": [True, False],
    "layer_norm_eps": [1e-5, 0.5],
    "output_attentions": [True, False],
    "output_hidden_states": [True, False],
}


fields = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in FIELDS.items()})
branches = st.sampled_from(["dense", "nystrom"])
Recipe = Callable[[], Arguments]
"""Arguments that are made when they are needed: drawing them would take most of the time."""


def optional_flags(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    return st.none() | masks(shape).map(lambda mask: mask != 0)


def model(branch: str, chosen: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A configuration, and parameters with peaked attention."""
    config = small_config(branch, **chosen)
    return config, tree(peaked(config, NystromformerForMaskedLM.parameter_shapes(config), 16))


@st.composite
def layer_arguments(draw: st.DrawFn, part: str) -> Recipe:
    """What a function takes that works on hidden states."""
    branch, chosen, seed = draw(branches), draw(fields), draw(st.integers(0, 99))
    batch, length = draw(st.integers(1, 3)), draw(st.integers(1, 12))
    mask, head_mask = draw(optional_flags((batch, 1, 1, length))), draw(optional_flags((2,)))

    def make() -> Arguments:
        config, p = model(branch, chosen)
        x = np.random.default_rng(seed).standard_normal((batch, length, config.hidden_size))
        if part == "masked_lm":
            return p, config, x
        layer = p["nystromformer"]["encoder"]["layer"]["0"]
        if part == "encoder_layer":
            return layer, config, x, mask, head_mask
        attend = layer["attention"]["self"]
        return (attend, config, x) if part == "project" else (attend, config, x, mask, head_mask)

    return make


@st.composite
def token_arguments(draw: st.DrawFn, part: str) -> Recipe:
    """What a function takes that works on tokens."""
    branch, chosen, seed = draw(branches), draw(fields), draw(st.integers(0, 99))
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 12))
    mask, head_mask = draw(optional_flags((shape[0], 1, 1, shape[1]))), draw(optional_flags((2, 2)))
    embedded, packed, whole = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    cuts = sorted(draw(st.sets(st.integers(1, 11))))

    def make() -> Arguments:
        config, p = model(branch, chosen)
        generator, p = np.random.default_rng(seed), p["nystromformer"]
        words: Any = generator.integers(0, config.vocab_size, shape)
        if embedded:
            words = generator.standard_normal((*shape, config.hidden_size))
        ids = shape if whole or packed else (1, shape[1])
        types = generator.integers(0, config.type_vocab_size, ids)
        positions = generator.integers(0, config.max_position_embeddings + 2, ids)
        if part == "embeddings":
            return p["embeddings"], config, words, types, positions
        if not packed:
            return p, config, words, types, positions, mask, head_mask
        ends = [0, *(cut for cut in cuts if cut < shape[1]), shape[1]]
        segments = [slice(start, stop) for start, stop in itertools.pairwise(ends)]
        return p, config, words[:1], types[:1], positions[:1], None, head_mask, segments

    return make


labels = st.lists(st.sampled_from([0, 1, 2, -100]), min_size=4, max_size=4).map(np.array)

ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "linear": linear_arguments(),
    "layer_norm": floats((2, 3, 4), (4,), (4,)).map(lambda a: (*a, 0.25)),
    "softmax": st.tuples(arrays((3, 4), scale=20.0), st.sampled_from([-1, 0, 1])),
    "softmax_attention_matrix": attention_arguments().map(lambda a: (a[0], a[1], a[3])),
    "softmax_attention": attention_arguments(),
    "segment_means": st.integers(1, 7).flatmap(lambda m: st.tuples(arrays((2, 7, 3)), st.just(m))),
    "nystrom_kernels": nystrom_arguments().map(lambda a: (a[0], a[1], a[3], a[4])),
    "initial_inverse": st.tuples(row_stochastic(), st.sampled_from(["batch", "sequence", "matrix"])),
    "iterative_pinv": st.tuples(row_stochastic(), st.integers(0, 6), st.sampled_from(["batch", "sequence", "matrix"])),
    "svd_pinv": st.tuples(row_stochastic()),
    "nystrom_attention": nystrom_arguments(),
    "depthwise_conv": convolution_arguments(),
    "project": layer_arguments("project"),
    "self_attention": layer_arguments("self_attention"),
    "encoder_layer": layer_arguments("encoder_layer"),
    "masked_lm": layer_arguments("masked_lm"),
    "embeddings": token_arguments("embeddings"),
    "encode": token_arguments("encode"),
    "log_softmax": st.tuples(arrays((3, 4), scale=20.0), st.sampled_from([-1, 0, 1])),
    "cross_entropy": st.tuples(arrays((4, 3)), labels) | floats((4, 3), (4, 3)),
    "mean_squared_error": floats((2, 3), (2, 3)),
    "binary_cross_entropy_with_logits": floats((2, 3), (2, 3)),
}


def test_no_twin_is_forgotten() -> None:
    """The table above has every name that a room has, and a room has no public function without a definition."""
    assert ARGUMENTS.keys() == twins()
    for name in twins():
        assert callable(definition_of(name))


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_signatures(name: str) -> None:
    """A twin takes its definition's parameters, and beside them only keywords that have defaults."""
    expected = list(inspect.signature(definition_of(name)).parameters.values())
    for room in ROOMS.values():
        if not hasattr(room, name):
            continue
        found = list(inspect.signature(getattr(room, name)).parameters.values())
        assert [(p.name, p.default) for p in found[: len(expected)]] == [(p.name, p.default) for p in expected]
        for more in found[len(expected) :]:
            assert more.kind is inspect.Parameter.KEYWORD_ONLY
            assert more.default is not inspect.Parameter.empty


# The law

Sizes = tuple[int, int, int, int, int | None]
"""Of blocks of several kinds, and threads; None leaves them as they are."""


@contextmanager
def blocks(sizes: Sizes) -> Iterator[None]:
    """Blocks as small as drawn, and as many threads."""
    per_block, scores, few, outputs, threads = sizes
    with pytest.MonkeyPatch.context() as patch, using_threads(threads):
        patch.setattr(attention, "QUERIES_PER_BLOCK", per_block)
        patch.setattr(attention, "SCORES_PER_BLOCK", scores)
        patch.setattr(attention, "SCORES_WORTH_A_THREAD", few)
        patch.setattr(attention, "VALUES_WORTH_A_THREAD", few)
        patch.setattr(convolution, "VALUES_PER_BLOCK", scores)
        patch.setattr(encoder, "ROWS_PER_BLOCK", per_block)
        patch.setattr(encoder, "ROWS_WORTH_A_THREAD", few)
        patch.setattr(encoder, "FEW_ROWS", few)
        patch.setattr(few_rows, "FEW_ROWS", few)
        patch.setattr(few_rows, "WORTH_A_THREAD", few)
        patch.setattr(few_rows, "SCORES_PER_BLOCK", scores)
        patch.setattr(few_rows, "UNPACKED", scores)
        patch.setattr(few_rows, "FEATURES_PER_BLOCK", (1, 8 * per_block))
        patch.setattr(few_rows, "FEWEST_INPUTS", max(few, 1))
        patch.setattr(convolution, "VALUES_WORTH_A_THREAD", few)
        patch.setattr(rows, "ELEMENTS_PER_BLOCK", outputs)
        patch.setattr(ROOMS["cupy"], "SCORES_PER_BLOCK", scores)
        yield


sizes = st.tuples(
    st.sampled_from([256, 1, 3]),
    st.sampled_from([1 << 18, 6, 20, 100]),
    st.sampled_from([512, 0, 2]),
    st.sampled_from([1 << 18, 7, 40]),
    st.sampled_from([1, 2, None]),
)


def moved(value: Any, backend: Backend, dtype: str) -> Any:
    """The argument on a backend, numbers in a precision."""
    if isinstance(value, dict):
        return {name: moved(part, backend, dtype) for name, part in value.items()}
    if not isinstance(value, np.ndarray):
        return value
    return backend.array(value.astype(dtype) if value.dtype.kind == "f" else value)


def nudge(value: Any) -> Any:
    """The argument with the last bit of each of its numbers changed, some up and some down."""
    if isinstance(value, dict):
        return {name: nudge(part) for name, part in value.items()}
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return value
    return value * (1.0 + eps(value.dtype) * np.resize([1.0, -1.0, 0.0], value.shape))


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from leaves(part)
    elif value is not None:
        yield value


def comparable(name: str, config: Any, result: Any) -> Any:
    """What both forms have to return: a twin leaves out states and weights that nobody asks for."""
    if name in ("self_attention", "encoder_layer"):
        return result if config.output_attentions else result[0]
    if name == "encode":
        states, attentions = result
        kept = states if config.output_hidden_states else states[-1]
        return (kept, attentions) if config.output_attentions else kept
    return result


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_twin_is_its_definition(name: str, dtype: str, backend: Backend) -> None:
    """The twin is as near to the definition in float64 as 1e-10, the tolerance of the comparison with the reference (in
    float32 as 64 ε), and 10 times what that precision, or the last bit of the arguments, changes in the definition,
    since large scores and the inverse of a matrix that is nearly singular magnify it; the same in shape and dtype.
    """
    if not hasattr(ROOMS.get(backend.name), name):
        pytest.skip(f"{name} has no twin for {backend.name}: it runs as it is defined")
    define, twin = definition_of(name), getattr(ROOMS[backend.name], name)

    @cases(40 if dtype == "float64" else 12)
    @given(ARGUMENTS[name], sizes)
    def law(drawn: Arguments | Recipe, cut: Sizes) -> None:
        arguments = drawn if isinstance(drawn, tuple) else drawn()
        config = next((x for x in arguments if hasattr(x, "hidden_act")), None)

        def run(function: Callable[..., Any], arguments: Any) -> list[Any]:
            return list(leaves(comparable(name, config, function(*arguments))))

        there = [moved(x, backend, dtype) for x in arguments]
        with definitions(), np.errstate(all="ignore"):
            exact, plain = run(define, arguments), run(define, there)
            nudged = run(define, [nudge(moved(x, make_backend("numpy"), dtype)) for x in arguments])
        with blocks(cut), np.errstate(all="ignore" if backend.name == "strict" else None):
            found = run(twin, there)
        assert len(found) == len(plain) == len(exact)
        for one, other, true, moved_true in zip(found, plain, exact, nudged, strict=True):
            assert get_array_module(one) is backend.xp or backend.name == "numpy"
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
            moved_most = (true, moved_true - true, backend.numpy(other) - true)
            largest, *moves = (float(np.abs(np.nan_to_num(x)).max(initial=0.0)) for x in moved_most)
            factor, floor = 10, 1e-10 if dtype == "float64" else 64 * eps(dtype)
            allowed = factor * max(moves) + floor * max(1.0, largest)
            np.testing.assert_allclose(backend.numpy(one), true, rtol=0, atol=allowed)

    law()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("formula", {id(f): f for f in ACTIVATIONS.values()}.values(), ids=lambda f: f.__name__)
def test_elementwise_form_is_its_formula(formula: Any, dtype: str, backend: Backend) -> None:
    """A formula in blocks or as a kernel gives the formula's numbers, in its argument's dtype."""

    @cases(15)
    @given(arrays((3, 5), scale=6.0), sizes)
    def law(x: np.ndarray, cut: Sizes) -> None:
        x = x.astype(dtype)
        with definitions(), np.errstate(all="ignore"):
            expected = formula(x.astype("float64"))
        with blocks(cut), np.errstate(all="ignore" if backend.name == "strict" else None):
            found = formula(backend.array(x))
        assert found.dtype == dtype
        np.testing.assert_allclose(backend.numpy(found), expected, rtol=0, atol=64 * eps(dtype))

    law()


def test_definitions_shut_out_every_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside the block no twin is asked for, and after it they are again, also after an error."""
    for room in ROOMS.values():
        for name in room.__all__:
            monkeypatch.setattr(room, name, None)
    x = np.ones((1, 2, 3, 4))
    with definitions():
        for call in (
            lambda: definition.softmax(x),
            lambda: definition.layer_norm(x, x[0, 0, 0], x[0, 0, 0]),
            lambda: definition.nystrom_attention(x, x, x, 2),
            lambda: ACTIVATIONS["gelu_new"](x),
        ):
            assert call().shape == x.shape
    with pytest.raises(ZeroDivisionError), definitions():
        raise ZeroDivisionError
    with pytest.raises(TypeError, match="not callable"):
        definition.softmax(x)
