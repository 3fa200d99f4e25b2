"""Another implementation of a whole model, compared with this one over drawn inputs."""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from nystrom_np.array_module import to_numpy
from nystrom_np.config import NystromformerConfig
from nystrom_np.definition import is_exact
from nystrom_np.model import NystromformerForQuestionAnswering, NystromformerModel
from nystrom_np.testing.cases import ARGUMENTS, Sizes, checked_arguments, model_inputs, possible_lengths
from nystrom_np.testing.mismatch import Mismatch, compare_arrays
from nystrom_np.testing.parameters import refuse_trivial
from nystrom_np.testing.search import Exercised, NotExercised, search
from nystrom_np.testing.steps import compare_steps, located, step_name
from nystrom_np.trace import trace

__all__ = ["compare_model"]

BRANCHES = {"exact": "exact attention", "nystrom": "Nyström attention"}
MASKED, UNMASKED, ONES = "a mask with padding", "no mask", "a mask of ones"
EMPTY = "a sequence without a real token"


def compare_model(
    function: Callable[..., Any],
    model: Any,
    *,
    masking: str | None = None,
    branches: Iterable[str] = ("exact", "nystrom"),
    without: Iterable[str] = (),
    lengths: Sizes | None = None,
    batch: Sizes = (1, 2, 3),
    empty_rows: bool = False,
    layouts: tuple[str, ...] = ("contiguous",),
    tolerance: float | None = None,
    allow_trivial: bool = False,
    max_examples: int = 50,
) -> Exercised:
    """Compare another implementation of a whole model with this package's, over drawn inputs.

    Parameters
    ----------
    function : callable
        Takes keyword arguments ``input_ids`` or ``inputs_embeds`` and, in some cases, ``attention_mask``,
        ``token_type_ids``, ``position_ids``, ``head_mask`` and the head's labels: NumPy arrays. Returns the model's
        last hidden state, or its logits, or a mapping with any of the names of this package's outputs:
        ``{"hidden_states": [...], "attentions": [...], "logits": ..., "loss": ...}``, as arrays or tensors. The first
        that differs, in the order of computation, is reported, so a port that returns its hidden states is told the
        layer where it goes wrong; and one that returns steps by their names in :func:`nystrom_np.trace.trace`, as
        forward hooks find them, is told the step.
    model : model of this package
        On the CPU, with the same parameters as the other: :func:`random_model` makes one. It computes in float64
        here, whatever its dtype.
    masking : {"transformers", "original", "invariant"}, optional
        What padding does: by default as the model's configuration says.
    branches : iterable of {"exact", "nystrom"}
        Which attention must have been tried: that of as many landmarks as tokens or more, and that of fewer. Name one
        where the other is not wanted.
    without : iterable of str
        Arguments that the port does not take: see :func:`model_inputs`.
    lengths : int or iterable of int, optional
        How many tokens there may be; by default some on both branches, if there are at most 32 landmarks.
    batch, empty_rows, layouts
        Which inputs to draw: see :func:`model_inputs`.
    tolerance : float, optional
        The largest difference allowed. By default what rounding can do in each case: ten times the distance of this
        package's own float32 results from those in float64, in units of the dtype's precision; and at least 1e-10 for
        a model in float64, else 1e-5.
    allow_trivial : bool
        Compare with a model of which whole parameters are 0 or 1, too, and which a port could ignore.
    max_examples : int
        How many cases.

    Returns
    -------
    Exercised
        How many cases of which kind agree.

    Raises
    ------
    Mismatch
        If a case differs; the message shows the smallest one found, the first wrong step among what the port returned,
        and the cause where a known one explains the numbers.
    NotExercised
        If no case of a kind was tried: a branch of attention, a mask, an argument.
    ValueError
        If parameters of the model are trivial, or an option is wrong.
    TypeError
        If the function returns something that is none of the model's outputs and steps.

    Examples
    --------
    >>> from nystrom_np.testing import random_model
    >>> config = NystromformerConfig(
    ...     vocab_size=9,
    ...     hidden_size=4,
    ...     num_hidden_layers=1,
    ...     num_attention_heads=2,
    ...     intermediate_size=4,
    ...     num_landmarks=2,
    ... )
    >>> model = random_model(config)
    >>> tried = compare_model(lambda **inputs: model(**inputs).last_hidden_state, model, max_examples=10)
    >>> tried.kinds["Nyström attention"] > 0
    True

    A port that lost the token types:

    >>> def lost(token_type_ids=None, **inputs):
    ...     return {"hidden_states": model(**inputs, output_hidden_states=True).hidden_states}
    >>> compare_model(lost, model)
    Traceback (most recent call last):
    nystrom_np.testing.mismatch.Mismatch: hidden_states[0]: largest difference ...
    """
    if not allow_trivial:
        refuse_trivial(model)
    own = _Own(model, masking)
    left_out = checked_arguments(without) | ({"labels"} if isinstance(model, NystromformerModel) else frozenset())
    allowed_lengths = possible_lengths(own.config, default_lengths(own.config) if lengths is None else lengths)
    wanted = [BRANCHES[branch] for branch in checked_branches(own.config, branches, allowed_lengths)]
    wanted += [UNMASKED] + [MASKED] * ("attention_mask" not in left_out and max(allowed_lengths) > 1)
    wanted += [name for name in ARGUMENTS if name != "attention_mask" and name not in left_out]
    wanted += [EMPTY] * (empty_rows and "attention_mask" not in left_out)

    def check(inputs: dict[str, np.ndarray]) -> None:
        expected = own.outputs(inputs)
        outputs = _answered(function(**inputs), expected, model)
        floor = own.floor if tolerance is None else tolerance
        if outputs.keys() - expected.keys():
            own.check_steps(inputs, outputs, floor)
        rounding = None if tolerance is not None else lambda: own.rounding(inputs)
        for name, value in expected.items():
            if name in outputs:
                compare_arrays(name, outputs[name], value, floor, inputs, rounding)

    given: dict[str, Any] = {"lengths": allowed_lengths, "batch": batch, "empty_rows": empty_rows, "layouts": layouts}
    cases = model_inputs(own.config, type(model), without=left_out, dtype=model.dtype, **given)
    try:
        return search(check, cases, max_examples, lambda inputs: _kinds(own.config, inputs), wanted)
    except Mismatch as error:
        outputs = _answered(function(**error.case), own.outputs(error.case), model)
        raise located(error, own.exact, outputs, own.dtype) from None


class _Own:
    """The model of this package in float64, and how far rounding can take an implementation from it."""

    def __init__(self, model: Any, masking: str | None) -> None:
        self.config = copy.copy(model.config)
        self.config.masking = model.config.masking if masking is None else masking
        self.config.validate()
        self.head = type(model)
        self.parameters = {name: to_numpy(value).astype("float64") for name, value in model.state_dict().items()}
        self.exact = self.head(self.config, parameters=self.parameters)
        self.dtype = str(model.dtype)
        self.floor = 1e-10 if model.dtype == "float64" else 1e-5
        self.precision = float(np.finfo(model.dtype).eps / np.finfo("float32").eps)

    def outputs(self, inputs: dict[str, np.ndarray], model: Any = None) -> dict[str, np.ndarray]:
        """Return every output by name, in the order of computation."""
        wanted = {"output_hidden_states": True, "output_attentions": True, "return_dict": True}
        return dict(_named((model or self.exact)(**inputs, **wanted)))

    def check_steps(self, inputs: dict[str, np.ndarray], outputs: dict[str, Any], floor: float) -> None:
        """Raise a :class:`Mismatch` of the first step that is out; a TypeError for what is neither output nor step."""
        steps = trace(self.exact, **inputs)
        _refuse_unknown(outputs, [*self.outputs(inputs), *steps, *steps.aliases])
        report = compare_steps(steps, outputs, self.dtype, causes=())
        for name, step in report.steps.items() if report else ():
            if step.error > max(step.allowed, floor):
                found = next(value for given, value in outputs.items() if _is_step(given, name, steps.aliases))
                compare_arrays(name, found, steps[name], max(step.allowed, floor), inputs)

    def rounding(self, inputs: dict[str, np.ndarray], runs: int = 3) -> float:
        """Return ten times the largest distance of float32 results, of a few neighbours lest one is near by luck."""
        expected, distance = self.outputs(inputs), 0.0
        for run in range(runs):
            near = self.head(self.config, parameters=self._neighbour(run))
            found = self.outputs(inputs, near)
            distance = max(distance, *(_distance(found[name], expected[name]) for name in expected))
        return 10.0 * distance * self.precision

    def _neighbour(self, seed: int) -> dict[str, np.ndarray]:
        """Parameters in float32, each within a rounding error of its own."""
        generator, eps = np.random.default_rng(seed), np.finfo("float32").eps
        return {
            name: (value * (1.0 + eps / 2 * generator.uniform(-1, 1, value.shape))).astype("float32")
            for name, value in self.parameters.items()
        }


def default_lengths(config: NystromformerConfig) -> range:
    """Return lengths on both sides of the number of landmarks, unless that makes cases large.

    Examples
    --------
    >>> default_lengths(NystromformerConfig(num_landmarks=5))
    range(1, 13)
    """
    few = config.num_landmarks if config.num_landmarks <= 32 else 1
    return range(1, min(max(8, 2 * few + 2), config.max_position_embeddings) + 1)


def checked_branches(config: NystromformerConfig, branches: Iterable[str], lengths: tuple[int, ...]) -> tuple[str, ...]:
    """Return the branches of attention to try.

    Raises
    ------
    ValueError
        If a name is unknown.
    NotExercised
        If none of the lengths takes a branch.

    Examples
    --------
    >>> checked_branches(NystromformerConfig(num_landmarks=4), ["nystrom"], (8,))
    ('nystrom',)
    """
    names = tuple([branches] if isinstance(branches, str) else branches)
    if not names or not set(names) <= BRANCHES.keys():
        raise ValueError(f'branches must be of "exact" and "nystrom"; found {branches!r}')
    tried = {"exact" if is_exact(config, length) else "nystrom" for length in lengths}
    for name in names:
        if name not in tried:
            m, other = config.num_landmarks, next(iter(BRANCHES.keys() - {name}))
            if m == config.segment_means_seq_len:
                why = f"num_landmarks equals segment_means_seq_len ({m}), so that attention is always exact"
            else:
                why = f"there are {m} landmarks and from {min(lengths)} to {max(lengths)} tokens"
            raise NotExercised(
                f"no case would try {BRANCHES[name]}: {why}; give other lengths or another model, "
                f'or say branches=["{other}"]'
            )
    return names


def _kinds(config: NystromformerConfig, inputs: dict[str, np.ndarray]) -> Iterator[str]:
    """The branches that a case takes, and what it is given."""
    length = (inputs["input_ids"] if "input_ids" in inputs else inputs["inputs_embeds"][..., 0]).shape[-1]
    mask, taken = inputs.get("attention_mask"), {length}
    if mask is None:
        yield UNMASKED
    else:
        real = mask.astype(bool)
        yield ONES if real.all() else MASKED
        if not real.any(axis=-1).all():
            yield EMPTY
        if config.masking == "invariant":
            taken = {int(n) for n in real.sum(axis=-1).ravel() if n}
    yield from {BRANCHES["exact" if is_exact(config, n) else "nystrom"] for n in taken}
    yield from (name for name in ARGUMENTS[1:] if name in inputs)
    if "start_positions" in inputs:
        yield "labels"
    yield f"masking={config.masking}"


def _answered(found: Any, expected: dict[str, np.ndarray], model: Any) -> dict[str, Any]:
    """Return what the port answered by name; what has no name is the last hidden state, or the logits."""
    if not hasattr(found, "keys"):
        if isinstance(model, NystromformerForQuestionAnswering):
            raise TypeError("a mapping with start_logits and end_logits was expected; found " + type(found).__name__)
        return {"last_hidden_state" if "last_hidden_state" in expected else "logits": found}
    outputs = dict(_named(found))
    if not outputs:
        raise TypeError(f"outputs among {', '.join(expected)} were expected; found none")
    return outputs


def _refuse_unknown(outputs: dict[str, Any], known: Iterable[str]) -> None:
    names = {*known}
    unknown = [name for name in outputs if not {name, f"nystromformer.{name}"} & names]
    if unknown:
        raise TypeError(f"outputs of the model or steps of its trace were expected; found {', '.join(unknown)}")


def _is_step(given: str, step: str, aliases: dict[str, str]) -> bool:
    names = (step_name(given), f"nystromformer.{step_name(given)}")
    return any(aliases.get(name, name) == step for name in names)


def _named(record: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Name every array in the order of computation: hidden_states[0], attentions[0], …, logits, loss."""
    found = {name: record[name] for name in record.keys() if record[name] is not None}  # noqa: SIM118  (of a record)
    states, attentions = found.pop("hidden_states", ()), found.pop("attentions", ())
    for layer in range(max(len(states), len(attentions) + 1)):
        if layer < len(states):
            yield f"hidden_states[{layer}]", states[layer]
        if layer < len(attentions):
            yield f"attentions[{layer}]", attentions[layer]
    yield from sorted(found.items(), key=lambda item: item[0] == "loss")


def _distance(one: Any, other: Any) -> float:
    difference = np.asarray(np.abs(np.asarray(one, "float64") - other))
    return float(difference[~np.isnan(difference)].max(initial=0.0))
