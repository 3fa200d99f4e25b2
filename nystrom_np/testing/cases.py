"""Strategies for what is compared: calls of Nyström attention, configurations, and inputs of a model."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nystrom_np.activations import ACTIVATIONS
from nystrom_np.config import NystromformerConfig
from nystrom_np.model import (
    NystromformerForMaskedLM,
    NystromformerForMultipleChoice,
    NystromformerForQuestionAnswering,
    NystromformerForTokenClassification,
    NystromformerModel,
)
from nystrom_np.testing.drawing import LAYOUTS, array_choices, array_of, lay_out, mask_choices, mask_of, strategies

__all__ = ["AttentionCase", "attention_cases", "configs", "model_inputs"]

Sizes = int | Iterable[Any]
"""One size, or those to choose from."""


def sizes_of(name: str, sizes: Sizes) -> tuple:
    """Return the sizes to choose from, in increasing order.

    Raises
    ------
    ValueError
        If there are none, or one is not an integer from 1.

    Examples
    --------
    >>> sizes_of("lengths", 16), sizes_of("batch", range(1, 4))
    ((16,), (1, 2, 3))
    """
    given = [sizes] if isinstance(sizes, (int, np.integer)) else sizes
    found = sorted(set(given)) if isinstance(given, Iterable) and not isinstance(given, str) else []
    if not found or not all(isinstance(size, (int, np.integer)) and size >= 1 for size in found):
        raise ValueError(f"{name} must be an integer from 1, or several; found {sizes!r}")
    return tuple(int(size) for size in found)


@dataclass(frozen=True)
class AttentionCase:
    """The arguments of one call of Nyström attention.

    Attributes
    ----------
    query, key : arrays of floats, (..., length, dim)
        Scaled already: scores are ``query @ key.T``, nothing is divided by √dim any more.
    value : array of floats, (..., length, values)
    num_landmarks : int
        From 1 to length, or above it in the cases for implementations that are exact there.
    mask : array of 0 and 1, (..., 1, length), or None
        1 for real keys, 0 for padding.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_np.functional import nystrom_attention
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


def attention_cases(
    dtype: Any = "float64",
    with_masks: bool = True,
    equal_segments: bool = False,
    *,
    lengths: Sizes = range(1, 13),
    batch: Sizes = (1, 2),
    empty_rows: bool = True,
    layouts: tuple = LAYOUTS,
    fewer_tokens: bool = False,
) -> Any:
    """Strategy for the arguments of Nyström attention.

    Parameters
    ----------
    dtype : dtype
        Of query, key and value.
    with_masks : bool
        Whether some cases have a mask.
    equal_segments : bool
        Whether the length is always a multiple of the number of landmarks, as some implementations require.
    lengths, batch : int or iterable of int
        How many tokens and sequences there may be.
    empty_rows : bool
        Whether a mask may leave a sequence without a real token.
    layouts : tuple of str
        How arrays may lie in memory: see :func:`arrays`.
    fewer_tokens : bool
        Whether there may be fewer tokens than landmarks, for implementations that are exact there.

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        Of :class:`AttentionCase`.

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5)
    ... @given(attention_cases(lengths=8, with_masks=False))
    ... def test(case):
    ...     assert case.query.shape[-2] == 8 and case.mask is None
    >>> test()
    """
    st = strategies()
    longest = max(sizes_of("lengths", lengths))

    @st.composite
    def cases(draw: Any) -> AttentionCase:
        length, (sequences, heads, dim, values) = draw(tokens), draw(sizes)
        landmarks = draw(fitting[length])
        query, key, value = draw(contents)
        return AttentionCase(
            array_of(query, (sequences, heads, length, dim), dtype, scale=2.0),
            array_of(key, (sequences, heads, length, dim), dtype, scale=2.0),
            array_of(value, (sequences, heads, length, values), dtype),
            landmarks,
            mask_of(draw(mask_choices()), (sequences, 1, 1, length), empty_rows) if draw(masked) else None,
        )

    def landmarks_for(length: int) -> Any:
        numbers = range(1, (longest if fewer_tokens else length) + 1)
        return st.sampled_from([m for m in numbers if not equal_segments or m >= length or length % m == 0])

    tokens = st.sampled_from(sizes_of("lengths", lengths))
    fitting = {length: landmarks_for(length) for length in sizes_of("lengths", lengths)}
    sizes = st.tuples(st.sampled_from(sizes_of("batch", batch)), *(st.integers(1, most) for most in (2, 3, 3)))
    contents = st.tuples(*[array_choices(layouts)] * 3)
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
    st = strategies()

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


ARGUMENTS = ("attention_mask", "token_type_ids", "position_ids", "head_mask", "inputs_embeds", "labels")
"""What a model may be given beside ``input_ids``; "labels" stands for the start and end of an answer too."""

RARE = ("head_mask", "inputs_embeds")


def model_inputs(
    config: NystromformerConfig,
    head: Any = NystromformerModel,
    *,
    without: Iterable[Any] = (),
    lengths: Sizes = range(1, 9),
    batch: Sizes = (1, 2, 3),
    empty_rows: bool = False,
    layouts: tuple = ("contiguous",),
    dtype: Any = "float64",
) -> Any:
    """Strategy for the keyword arguments of a model's forward call.

    Parameters
    ----------
    config : NystromformerConfig
        Of the model.
    head : class
        Of the model: what its labels are, and whether inputs have choices.
    without : iterable of str
        Arguments that are never there, of ``attention_mask``, ``token_type_ids``, ``position_ids``, ``head_mask``,
        ``inputs_embeds`` and ``labels``.
    lengths, batch : int or iterable of int
        How many tokens and sequences (for multiple choice: questions) there may be. Lengths that the configuration
        forbids are left out.
    empty_rows : bool
        Whether a mask may leave a sequence without a real token.
    layouts : tuple of str
        How arrays may lie in memory: see :func:`arrays`. By default as ``torch.from_numpy`` likes them.
    dtype : dtype
        Of ``inputs_embeds`` and of labels that are floats.

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        Of dictionaries of NumPy arrays: ``input_ids`` (B, L), for multiple choice (B, C, L), or ``inputs_embeds``, and
        some of the other arguments.

    Raises
    ------
    ValueError
        If an argument is unknown, or no length is possible.

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5)
    ... @given(model_inputs(NystromformerConfig(), without=["inputs_embeds"], lengths=8))
    ... def test(inputs):
    ...     assert inputs["input_ids"].shape[1] == 8
    >>> test()
    """
    st = strategies()
    possible = possible_lengths(config, lengths)
    left_out = checked_arguments(without)

    @st.composite
    def drawn(draw: Any) -> dict[str, np.ndarray]:
        (sequences, choices, length), (seed, layout), present = draw(shapes), draw(seeds), draw(flags)
        shape = (sequences, choices, length) if head.choices else (sequences, length)
        generator = np.random.default_rng(seed)
        inputs = {"input_ids": _ids(generator, config, shape)}
        if present["inputs_embeds"]:
            embeds = generator.integers(-64, 64, (*shape, config.hidden_size)) / 32  # the same in every dtype
            inputs = {"inputs_embeds": embeds}
        if present["attention_mask"]:
            inputs["attention_mask"] = mask_of(draw(mask_choices()), shape, empty_rows)
        if present["token_type_ids"]:
            inputs["token_type_ids"] = generator.integers(0, config.type_vocab_size, shape)
        if present["position_ids"]:
            inputs["position_ids"] = generator.integers(0, config.max_position_embeddings + 2, shape)
        if present["head_mask"]:
            inputs["head_mask"] = generator.integers(0, 2, (config.num_hidden_layers, config.num_attention_heads))
        if present["labels"]:
            inputs |= _labels(generator, config, head, shape)
        floats = {name: value.astype(dtype) for name, value in inputs.items() if value.dtype == "float64"}
        return {name: lay_out(value, layout) for name, value in (inputs | floats).items()}

    def flag(name: str) -> Any:
        return st.just(False) if name in left_out else st.sampled_from([False] * (3 if name in RARE else 1) + [True])

    shapes = st.tuples(st.sampled_from(sizes_of("batch", batch)), st.integers(1, 3), st.sampled_from(possible))
    seeds = st.tuples(st.integers(0, 2**16), st.sampled_from(layouts))
    flags = st.fixed_dictionaries({name: flag(name) for name in ARGUMENTS})
    return drawn()


def possible_lengths(config: NystromformerConfig, lengths: Sizes) -> tuple:
    """Return those of the lengths that the configuration allows; a ValueError if it is none.

    Examples
    --------
    >>> possible_lengths(NystromformerConfig(chunk_size_feed_forward=4), range(1, 10))
    (4, 8)
    """
    longest, chunk = config.max_position_embeddings, max(1, config.chunk_size_feed_forward)
    possible = tuple(x for x in sizes_of("lengths", lengths) if x <= longest and x % chunk == 0)
    if not possible:
        raise ValueError(
            f"lengths must include one up to max_position_embeddings={longest} that is a multiple of "
            f"chunk_size_feed_forward={config.chunk_size_feed_forward}; found {lengths!r}"
        )
    return possible


def checked_arguments(without: Iterable[Any]) -> frozenset[str]:
    """Return the names of arguments to leave out; a ValueError if one is unknown.

    Examples
    --------
    >>> sorted(checked_arguments(["labels", "head_mask"]))
    ['head_mask', 'labels']
    """
    names = frozenset([without] if isinstance(without, str) else without)
    if unknown := sorted(names - set(ARGUMENTS)):
        raise ValueError(f"without must name arguments among {', '.join(ARGUMENTS)}; found {', '.join(unknown)}")
    return names


def _ids(generator: np.random.Generator, config: NystromformerConfig, shape: tuple) -> np.ndarray:
    """Ids of the whole vocabulary, now and then that of the padding token, which is a token like any other."""
    ids = generator.integers(0, config.vocab_size, shape)
    if config.pad_token_id is not None:
        ids[generator.random(shape) < 0.1] = config.pad_token_id
    return ids


def _labels(
    generator: np.random.Generator, config: NystromformerConfig, head: Any, shape: tuple
) -> dict[str, np.ndarray]:
    """Draw what a head should have answered: nothing for the bare model."""
    if issubclass(head, NystromformerModel):
        return {}
    if issubclass(head, NystromformerForQuestionAnswering):
        return {f"{end}_positions": generator.integers(0, shape[-1] + 1, shape[0]) for end in ("start", "end")}
    if issubclass(head, NystromformerForMultipleChoice):
        return {"labels": generator.integers(0, shape[1], shape[0])}
    if issubclass(head, (NystromformerForMaskedLM, NystromformerForTokenClassification)):
        classes = config.vocab_size if issubclass(head, NystromformerForMaskedLM) else config.num_labels
        labels = generator.integers(0, classes, shape)
        labels[generator.random(shape) < 0.25] = -100
        return {"labels": labels}
    return {"labels": _sequence_labels(generator, config, shape[0])}


def _sequence_labels(generator: np.random.Generator, config: NystromformerConfig, batch: int) -> np.ndarray:
    inferred = "regression" if config.num_labels == 1 else "single_label_classification"
    problem = config.problem_type or inferred
    if problem == "regression":
        return generator.integers(-64, 64, (batch, config.num_labels)) / 32
    if problem == "multi_label_classification":
        return generator.integers(0, 2, (batch, config.num_labels)).astype("float64")
    return generator.integers(0, config.num_labels, batch)
