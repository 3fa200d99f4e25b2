"""Every intermediate of a model by name, as the definition computes it: what the steps of a port are compared with.

:func:`trace` runs the page of definitions with its lines marked (:mod:`nystrom_np.rewrite`). A step has the name of its
module in the state dict, so that the name of a PyTorch forward hook fits; below a module it has the paper's.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field, fields
from functools import wraps
from types import SimpleNamespace
from typing import Any

import numpy as np

from nystrom_np.array_module import Array, to_numpy
from nystrom_np.fast import in_room
from nystrom_np.model.packing import Packed
from nystrom_np.rewrite import PAGES, Change, Site, compiled

__all__ = ["NAMES", "Step", "Trace", "trace"]

NAMES: dict[tuple[str, str], str] = {
    ("embeddings", "words"): "word_embeddings",
    ("embeddings", "types[token_type_ids]"): "token_type_embeddings",
    ("embeddings", "positions[position_ids]"): "position_embeddings",
    ("layer_norm", "x"): "input",
    ("layer_norm", "mean"): "mean",
    ("layer_norm", "variance"): "variance",
    ("layer_norm", "(x - mean) / xp.sqrt(variance + eps)"): "normalised",
    ("layer_norm", "return"): "",
    ("linear", "x"): "input",
    ("linear", "return"): "",
    ("project", "return 0"): "q",
    ("project", "return 1"): "k",
    ("project", "return 2"): "v",
    ("self_attention", "query"): "q_without_padding",
    ("self_attention", "key"): "k_without_padding",
    ("self_attention", "convolved"): "v_without_padding",
    ("nystrom_kernels", "query_landmarks"): "q_landmarks",
    ("nystrom_kernels", "key_landmarks"): "k_landmarks",
    ("softmax_attention_matrix", "query @ transposed(key)"): "{of}.scores",
    ("nystrom_kernels", "f"): "F",
    ("nystrom_kernels", "a"): "A",
    ("nystrom_kernels", "b"): "B",
    ("initial_inverse", "xp.max(columns, axis=axes, keepdims=True)"): "pinv.largest",
    ("iterative_pinv", "z"): "pinv.{n}",
    ("svd_pinv", "return"): "pinv",
    ("self_attention", "weights"): "attention_probs",
    ("self_attention", "b @ value"): "B_v",
    ("self_attention", "context"): "context_before_conv",
    ("depthwise_conv", "return"): "",
    ("self_attention", "context + depthwise_conv(convolved, p['conv']['weight'])"): "context",
    ("self_attention", "context * head_mask[:, None, None]"): "context_of_heads",
    ("self_attention", "return 0"): "",
    ("encoder_layer", "hidden"): "intermediate.intermediate_act_fn",
    ("masked_lm", "y"): "cls.predictions.transform.transform_act_fn",
    ("masked_lm", "return"): "cls.predictions.decoder",
    ("cross_entropy", "log_probabilities"): "log_softmax",
    ("cross_entropy", "picked"): "picked",
    ("cross_entropy", "total"): "total",
    ("cross_entropy", "return"): "",
    ("mean_squared_error", "return"): "",
    ("binary_cross_entropy_with_logits", "return"): "",
}
"""What a step is called below its module, by the function and the name or the expression that it has on the page.

``{of}`` is what the caller makes of it, ``{n}`` counts; a function's parameter is its input, if nothing has a name for
it yet.
"""

LOSSES = ("cross_entropy", "mean_squared_error", "binary_cross_entropy_with_logits")


@dataclass(frozen=True)
class Step:
    """One value of a forward pass.

    Attributes
    ----------
    name : str
        The module's path in the state dict, and below it the paper's name: ``"encoder.layer.0.attention.self.F"``.
    value : array
        In the array module and dtype of the model.
    function, line, formula : str, int, str
        Where the definition computes it, and how; a line of 0 stands for what the model does after the definition.
    inputs : dict of str to array
        What it is computed from, under the names of that line; for a module's result, what the module is given.
    sources : dict of str to str
        Those of the inputs that are steps themselves, and their names.
    """

    name: str
    value: Array
    function: str = ""
    line: int = 0
    formula: str = ""
    inputs: dict[str, Array] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)


class Trace(Mapping[str, Array]):
    """The steps of one forward pass in the order in which they are computed: a mapping from names to arrays.

    A module that only holds others, and what a record calls an output, are understood as names too: those of
    ``aliases``.

    Attributes
    ----------
    steps : dict of str to Step
    aliases : dict of str to str
        Further names, and the steps they stand for.
    inputs : dict of str to array
        What the model was called with.
    model : object
        Of which it is a trace; None if it was read from a file and the model is not known.
    errors : dict of str to dict of str to float
        For each dtype for which it was measured, what rounding does to each step.
    metadata : dict of str to str
        Of the file that it was read from.
    """

    def __init__(
        self, steps: dict[str, Step], aliases: dict[str, str], inputs: dict[str, Any], model: Any = None
    ) -> None:
        self.steps, self.aliases, self.inputs, self.model = steps, aliases, inputs, model
        self.errors: dict[str, dict[str, float]] = {}
        self.metadata: dict[str, str] = {}

    def __getitem__(self, name: str) -> Array:
        return self.steps[self.aliases.get(name, name)].value

    def __iter__(self) -> Iterator[str]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __contains__(self, name: object) -> bool:
        return name in self.steps or name in self.aliases

    @property
    def numpy(self) -> dict[str, np.ndarray]:
        """The steps as NumPy arrays."""
        return {name: to_numpy(value) for name, value in self.items()}


def trace(model: Any, **inputs: Any) -> Trace:
    """Run a model by its definition, and keep every step.

    Parameters
    ----------
    model : model
        Any of the package's, in any dtype, on any device, in any mask mode.
    **inputs
        What the model is called with: ``input_ids``, ``attention_mask``, ``labels`` …

    Returns
    -------
    Trace

    Raises
    ------
    ValueError, IndexError
        If an input is wrong.

    Examples
    --------
    >>> from nystrom_np import NystromformerConfig, NystromformerModel
    >>> config = NystromformerConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2, num_landmarks=2)
    >>> steps = trace(NystromformerModel(config), input_ids=[[7, 3, 9, 4]])
    >>> steps["encoder.layer.0.attention.self.F"].shape
    (1, 2, 4, 2)
    >>> steps.steps["encoder.layer.0.attention.self.B_v"].formula
    'context = weights @ (b @ value)'
    """
    return run(model, inputs)


def run(
    model: Any,
    inputs: Mapping[str, Any],
    changes: Iterable[Change] = (),
    disturb: Callable[[Array], Array] | None = None,
) -> Trace:
    """Trace a model by a definition with changes, or one in which each value is disturbed before it goes on.

    Examples
    --------
    >>> from nystrom_np import NystromformerConfig, NystromformerModel
    >>> config = NystromformerConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2)
    >>> model = NystromformerModel(config)
    >>> doubled = run(model, {"input_ids": [[7]]}, [Change("linear", "x @ weight.T", "2.0 * x @ weight.T")])
    >>> name = "encoder.layer.0.attention.self.query"
    >>> bool((doubled[name] == 2.0 * trace(model, input_ids=[[7]])[name]).all())
    True
    """
    recorder = _Recorder(model, inputs, tuple(changes), disturb)
    traced = copy(model)
    if hasattr(model, "head"):
        traced.head = recorder.pages["definition"][model.head.__name__]
    with in_room(recorder.room):
        record = traced(**inputs, return_dict=True)
    return recorder.finished(record)


class _Recorder:
    """What happens at the marks: steps get their names and are kept."""

    def __init__(
        self,
        model: Any,
        inputs: Mapping[str, Any],
        changes: tuple[Change, ...],
        disturb: Callable[[Array], Array] | None,
    ) -> None:
        self.model, self.inputs, self.disturb = model, dict(inputs), disturb
        self.parameters = {id(value): name for name, value in model.state_dict().items()}
        self.modules = dict(_modules(model._tree))
        self.steps: dict[str, Step] = {}
        self.known: dict[int, str | None] = {}  # of arrays: the step that each is
        self.kept: list[Any] = []  # so that no array's id is given to another
        self.frames: list[_Frame] = []
        self.losses = iter(("loss.start", "loss.end") if "start_positions" in inputs else ("loss",))
        code, self.sites = compiled(NAMES, changes)
        self.pages = {name: self._executed(name, text) for name, text in code.items()}
        functions = {**self.pages["losses"], **self.pages["definition"]}
        self.room = SimpleNamespace(**{**functions, "elementwise": _as_it_is})

    def _executed(self, name: str, code: Any) -> dict[str, Any]:
        names: dict[str, Any] = {"__name__": f"{name}, marked", "__framed__": self.framed, "__mark__": self.mark,
                 "__begin__": self.begin}  # fmt: skip
        exec(code, names)
        own = {key for key, value in vars(PAGES[name]).items() if inspect.isfunction(value)}
        functions = {key: value for key, value in names.items() if key in own}
        if "svd_pinv" in functions:  # LAPACK has no half precision
            names["svd_pinv"] = functions["svd_pinv"] = _in_single(functions["svd_pinv"])
        return functions

    def framed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Let a function's calls be frames: they know the module that they compute."""
        signature = inspect.signature(function)

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            frame = self.entered(function.__name__, bound.arguments)
            self.frames.append(frame)
            for name in bound.arguments:
                if (function.__name__, name) in NAMES:
                    bound.arguments[name] = self.taken(name, bound.arguments[name])
            try:
                return function(*bound.args, **bound.kwargs)
            finally:
                self.frames.pop()

        return call

    def taken(self, name: str, value: Any) -> Any:
        """Keep what a function is given, which is computed where it is called."""
        caller, frame = self.frames[-2:] if len(self.frames) > 1 else (None, self.frames[-1])
        if caller is None:
            return self.noted(Site(frame.function, (name,), 0, "", ()), name, value, {}, frame.path)
        at = self.sites[caller.at]
        return self.noted(
            Site(frame.function, (name,), at.line, at.formula, at.reads), name, value, caller.here, frame.path
        )

    def entered(self, function: str, arguments: dict[str, Any]) -> "_Frame":
        """Return the frame of a call: its module is told by its parameters, or is that of the caller."""
        caller = self.frames[-1] if self.frames else None
        prefix, path, of = (caller.prefix, caller.path, caller.of) if caller else ("", "", "")
        given = {name: value for name, value in arguments.items() if self._is_input(value)}
        if caller is None and function in LOSSES:
            path = next(self.losses)
        elif function == "encode" and caller is not None and caller.function == "encode_each":
            prefix = f"sequence.{self.rows[caller.count('encode')]}."
        if id(arguments.get("p")) in self.modules:
            path = self.modules[id(arguments["p"])]
        elif id(arguments.get("weight")) in self.parameters:
            name = self.parameters[id(arguments["weight"])].removesuffix(".weight")
            # a decoder that is the table of words itself is no module of its own
            path = name if not name.endswith("word_embeddings") else None
        return _Frame(function, prefix, path, of, given)

    @property
    def rows(self) -> list[int]:
        """Which sequence of the batch each one of the packed ones is."""
        ids = self.inputs.get("input_ids")
        shape = np.shape(self.inputs["inputs_embeds"])[:-1] if ids is None else np.shape(ids)
        mask = self.inputs.get("attention_mask")
        mask = (
            np.ones(shape, bool) if mask is None else to_numpy(mask if hasattr(mask, "shape") else np.array(mask)) != 0
        )
        mask = np.broadcast_to(mask, shape).reshape(-1, shape[-1])
        return Packed(mask, np.zeros(1)).order or [0]

    def begin(self, number: int, here: dict[str, Any]) -> int:
        """Remember what the statement that now begins will be called."""
        site, frame = self.sites[number], self.frames[-1]
        names = [NAMES.get((site.function, key)) for key in site.keys]
        frame.begun.append((frame.at, frame.of, frame.here))
        frame.at, frame.here, frame.of = number, here, next((name for name in names if name), frame.of)
        return number

    def mark(self, number: int, value: Any, here: dict[str, Any]) -> Any:
        """Keep what a statement or an expression of the page has computed, and hand it on."""
        site, frame = self.sites[number], self.frames[-1]
        frame.at, frame.of, frame.here = frame.begun.pop()
        if len(site.keys) == 1:
            return self.noted(site, site.keys[0], value, here, frame.path)
        return tuple(self.noted(site, key, one, here, frame.path) for key, one in zip(site.keys, value, strict=True))

    def noted(self, site: Site, key: str, value: Any, here: dict[str, Any], path: str | None) -> Any:
        """Give a value its name, if it is an array of floats that has none yet."""
        if not _is_floats(value) or id(value) in self.parameters or self.known.get(id(value)):
            return value
        if id(value) not in self.known:
            value = value if self.disturb is None else self.disturb(value)
            self.kept.append(value)
            self.known[id(value)] = None
        template, frame = NAMES.get((site.function, key)), self.frames[-1]
        if template is None or path is None:
            return value
        short = template.format(of=self.frames[-2].of if "{of}" in template else "", n=frame.count(key))
        name = frame.prefix + ".".join(part for part in (path, short) if part)
        if name not in self.steps:
            given = frame.given if template == "" else {local: here.get(local) for local in site.reads}
            inputs = {local: array for local, array in given.items() if self._is_input(array)} or frame.given
            sources = {local: step for local, array in inputs.items() if (step := self.known.get(id(array)))}
            self.steps[name] = Step(name, value, site.function, site.line, site.formula, inputs, sources)
            self.known[id(value)] = name
        return value

    def _is_input(self, value: Any) -> bool:
        return isinstance(getattr(value, "shape", None), tuple) and id(value) not in self.parameters

    def finished(self, record: Any) -> Trace:
        """Return the trace, with what the model made of the last steps, and the names of modules that hold others."""
        aliases = _containers(self.steps)
        for output in fields(record):
            value = getattr(record, output.name)
            if value is None or isinstance(value, tuple):
                continue
            if self.known.get(id(value)):
                aliases[output.name] = str(self.known[id(value)])
            else:
                self.steps[output.name] = Step(output.name, value, formula=f"{output.name}, as the model returns it")
        aliases = {name: step for name, step in aliases.items() if name not in self.steps}
        return Trace(self.steps, aliases, self.inputs, self.model)


@dataclass
class _Frame:
    """A call of a definition: the module it computes, and what its caller calls it."""

    function: str
    prefix: str
    path: str | None
    of: str
    given: dict[str, Any]
    at: int = 0
    here: dict[str, Any] = field(default_factory=dict)
    begun: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, key: str) -> int:
        """Return how often this was asked for before."""
        self.counts[key] = self.counts.get(key, -1) + 1
        return self.counts[key]


def _modules(node: Any, path: str = "") -> Iterator[tuple[int, str]]:
    """Yield the parts of a tree of parameters, by their identity, and the path of each."""
    if isinstance(node, dict):
        yield id(node), path
        for name, child in node.items():
            yield from _modules(child, f"{path}.{name}" if path else name)


def _containers(steps: Iterable[str]) -> dict[str, str]:
    """Name the last step inside each module: what the module returns."""
    last: dict[str, str] = {}
    for name in steps:
        parts = name.split(".")
        last |= {".".join(parts[:end]): name for end in range(1, len(parts))}
    return last


def _is_floats(value: Any) -> bool:
    return getattr(getattr(value, "dtype", None), "kind", None) == "f"


def _as_it_is(formula: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return formula


def _in_single(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    def call(a: Array) -> Array:
        return function(a.astype("float32")).astype("float16") if a.dtype == "float16" else function(a)

    return call
