"""Every tensor of the model, traced when the site is built, so that no name, shape, line or tolerance can be stale."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from docs.builder import pictures, sources
from nystrom_np import (
    NystromformerConfig,
    NystromformerForMaskedLM,
    NystromformerForMultipleChoice,
    NystromformerForQuestionAnswering,
    NystromformerForSequenceClassification,
    NystromformerForTokenClassification,
    NystromformerModel,
)
from nystrom_np.compare import EPS, FACTOR, FLOOR, rounding_errors
from nystrom_np.rewrite import PAGES
from nystrom_np.testing import random_model
from nystrom_np.trace import Step, Trace, trace

__all__ = ["GROUPS", "Row", "given", "parameters", "rows", "table"]

SIZES = {5: "B", 10: "N", 11: "L", 28: "D", 4: "H", 7: "d", 3: "m", 24: "I", 53: "V", 9: "C", 55: "B·L", 22: "P",
         17: "k"}  # fmt: skip
"""What each size of the traced models is called: no two letters share one."""
HEADS = {
    NystromformerModel: (),
    NystromformerForMaskedLM: (5, 11),
    NystromformerForSequenceClassification: (5,),
    NystromformerForMultipleChoice: (5,),
    NystromformerForTokenClassification: (5, 11),
    NystromformerForQuestionAnswering: (),
}
"""The models, and the shapes of their labels."""
BRANCHES = {"exact": {}, "Nyström": {"segment_means_seq_len": 8}}
"""With as many landmarks as ``segment_means_seq_len`` says, the model attends exactly."""
MASKINGS = ("transformers", "original", "invariant")
REAL = 8
"""Tokens that are not padding, where padding is watched."""
GROUPS = {
    "embeddings": r"embeddings\.",
    "attention": r"encoder\.layer\.n\.attention\.self",
    "layer": r"encoder\.layer\.n\.(?!attention\.self)",
    "heads": r"(cls|classifier|pre_classifier|qa_outputs)\b|\w*logits$",
    "losses": r"loss",
}
"""The tables of the page, and the names of the tensors that belong into each."""


@dataclass
class Row:
    """What the page says of one tensor."""

    function: str
    line: int
    formula: str
    dtype: str
    shapes: list[str] = field(default_factory=list)
    padding: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def shape(self) -> str:
        """The shapes that it has, in letters."""
        return " or ".join(self.shapes)


def config(**fields: Any) -> NystromformerConfig:
    """A small model's configuration, all of whose sizes differ."""
    return NystromformerConfig(**{
        "vocab_size": 53, "hidden_size": 28, "num_attention_heads": 4, "num_hidden_layers": 1, "intermediate_size": 24,
        "num_landmarks": 3, "num_labels": 9, "max_position_embeddings": 20, "conv_kernel_size": 17,
        "segment_means_seq_len": 3, **fields,
    })  # fmt: skip


def inputs_for(model: type, labels: tuple[int, ...]) -> dict[str, Any]:
    """What a model is called with."""
    shape = (5, 2, 11) if model is NystromformerForMultipleChoice else (5, 11)
    ids = np.random.default_rng(0).integers(5, 53, shape)
    inputs = {
        "input_ids": ids,
        "attention_mask": np.arange(11) < np.full(shape, 9),
        "head_mask": np.array([1, 1, 1, 0]),
    }
    if labels:
        inputs["labels"] = np.zeros(labels, int)
    if model is NystromformerForQuestionAnswering:
        inputs |= {name: np.zeros(5, int) for name in ("start_positions", "end_positions")}
    return inputs


def traced() -> Iterator[Trace]:
    """Trace each model on each branch, with each masking, and with the exact inverse."""
    others = ({"masking": "original"}, {"pinv_method": "svd"})
    for (model, labels), fields in product(HEADS.items(), (*BRANCHES.values(), *others)):
        made = random_model(config(**(BRANCHES["Nyström"] if fields else {}) | fields), head=model)
        yield trace(made, **inputs_for(model, labels))


def short(name: str) -> str:
    """A step's name without what differs between layers, iterates, heads and sequences."""
    return re.sub(r"(pinv|layer)\.\d+", r"\1.n", _alone(name).removeprefix("nystromformer."))


def _alone(name: str) -> str:
    """A step's name whether its sequence is a pass of its own or not."""
    return re.sub(r"^sequence\.\d+\.", "", name)


def in_letters(shape: tuple[int, ...]) -> str:
    """A shape of the traced models."""
    return f"({', '.join(SIZES.get(size, str(size)) for size in shape)}{',' * (len(shape) == 1)})"


@cache
def rows() -> dict[str, Row]:
    """Each tensor's row, in the order of execution."""
    found: dict[str, Row] = {}
    for one in traced():
        for step in one.steps.values():
            new = Row(step.function, step.line, step.formula, str(step.value.dtype))
            row = found.setdefault(short(step.name), new)
            shape = in_letters(step.value.shape)
            if shape not in row.shapes and shape.replace("N", "B") not in row.shapes:
                row.shapes.append(shape)
    for name, masking, branch, said in padded():
        if name in found:
            found[name].padding.setdefault(masking, {}).setdefault(branch, said)
    return found


@cache
def tolerances() -> dict[str, dict[str, float]]:
    """What :func:`nystrom_np.compare.compare` allows, as a share of the largest value, by tensor and dtype.

    In the shipped masked language model; what that has not is taken from the small models.
    """
    model, inputs = pictures.model_and_inputs()
    found: dict[str, dict[str, float]] = {}
    for one in (trace(model, **inputs), *traced()):
        known = {*found}
        for dtype, eps in EPS.items():
            errors = rounding_errors(one, dtype)
            for name, step in one.steps.items():
                if short(name) not in known:
                    share = FACTOR * errors[name] / float(np.abs(step.value).max()) + FLOOR * eps
                    row = found.setdefault(short(name), {})
                    row[dtype] = max(row.get(dtype, 0.0), share)  # of all layers and iterates
    return found


def padded() -> Iterator[tuple[str, str, str, str]]:
    """Yield (tensor, masking, branch, what padding does to it), found by changing the padding and watching."""
    exact_inverse = ("Nyström", BRANCHES["Nyström"] | {"pinv_method": "svd"})
    for (branch, fields), head, masking in product([*BRANCHES.items(), exact_inverse], HEADS, MASKINGS):
        model = random_model(config(masking=masking, **fields), head=head)
        usual, other, longer = (_padded(model, length, pad) for length, pad in ((11, 3), (11, 7), (13, 3)))
        for name, step in usual.items():
            values = [_real(run[name].value) for run in (usual, other, longer)]
            said = "none" if _same(values[0], values[2]) else "amount"
            said = said if _same(values[0], values[1]) else "ids"
            yield short(name), masking, branch, f"**mask**, {said}" if _masks(step) else said


def _masks(step: Step) -> bool:
    """Whether the line that computes a step reads the mask."""
    return "mask" in step.inputs and re.search(r"\bmask\b", step.formula) is not None


def _padded(model: Any, length: int, pad: int) -> dict[str, Step]:
    """The steps of one text of REAL tokens, padded to a length with a token."""
    ids = np.full(length, pad)
    ids[:REAL] = np.random.default_rng(1).integers(5, 53, REAL)
    inputs: dict[str, Any] = {"input_ids": ids[None], "attention_mask": np.arange(length)[None] < REAL}
    inputs["head_mask"] = np.array([1, 1, 1, 0])
    if isinstance(model, NystromformerForMultipleChoice):
        inputs |= {name: inputs[name][None] for name in ("input_ids", "attention_mask")} | {"labels": np.zeros(1, int)}
    elif isinstance(model, NystromformerForQuestionAnswering):
        inputs |= {"start_positions": np.zeros(1, int), "end_positions": np.zeros(1, int)}
    elif isinstance(model, NystromformerForSequenceClassification):
        inputs["labels"] = np.zeros(1, int)
    elif type(model) is not NystromformerModel:
        inputs["labels"] = np.where(np.arange(length)[None] < REAL, 0, -100)
    return {_alone(name): step for name, step in trace(model, **inputs).steps.items()}


def _real(value: np.ndarray) -> np.ndarray:
    """The part of a tensor that speaks of real tokens: axes of other lengths are whole."""
    return value[tuple(slice(REAL) if size in (11, 13) else slice(None) for size in value.shape)]


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and np.allclose(one, other, rtol=1e-9, atol=1e-9 * np.abs(one).max(initial=0.0))


def table(group: str) -> list[str]:
    """The rows of a group as Markdown."""
    lines = ["| tensor | how it is computed | padding | tolerance |", "| --- | --- | --- | --- |"]
    for name, row in rows().items():
        if re.match(GROUPS[group], name):
            named = f"<code>{name.replace('.', '.<wbr>')}</code><br>{row.shape}"
            cells = (named, _computed(row), _by_masking(row.padding), _allowed(tolerances()[name]))
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return lines


def _computed(row: Row) -> str:
    if not row.line:
        return "what the model returns" if row.formula else "what the model is given"
    [page] = [page for page in PAGES if hasattr(PAGES[page], row.function)]
    link = sources.documented(f"nystrom_np.{page}.{row.function}")
    code = f"_modules/nystrom_np/{page}.html#line-{row.line}"
    return f'`{row.formula}`<br>{{py:obj}}`{row.function} <{link}>`, <a href="{code}">line {row.line}</a>'


def _by_masking(padding: Mapping[str, Mapping[str, str]]) -> str:
    said = {}
    for masking in filter(padding.get, MASKINGS):
        branches = padding[masking]
        words = set(branches.values())
        text = words.pop() if len(words) == 1 else ", ".join(f"{word} ({branch})" for branch, word in branches.items())
        said[masking] = text
    if len(said) == len(MASKINGS) and len({*said.values()}) == 1:
        return said.popitem()[1]
    return "<br>".join(f"{masking}: {text}" for masking, text in said.items())


def _allowed(allowed: Mapping[str, float]) -> str:
    return "<br>".join(f"{dtype} {share:.0e}" for dtype, share in allowed.items())


def given() -> list[str]:
    """What the models are given, as Markdown."""
    found = {}
    for model, labels in HEADS.items():
        for name, value in inputs_for(model, labels).items():
            found.setdefault(name, {}).setdefault(in_letters(value.shape), value.dtype)
    return [
        "| input | shape | dtype here |",
        "| --- | --- | --- |",
        *(f"| `{name}` | {' or '.join(shapes)} | {', '.join(dict.fromkeys(map(str, shapes.values())))} |"
          for name, shapes in found.items()),
    ]  # fmt: skip


def parameters() -> list[str]:
    """The parameters of all models, as Markdown."""
    found: dict[str, list[str]] = {}
    for model in HEADS:
        for name, shape in model.parameter_shapes(config()).items():
            shapes = found.setdefault(short(name), [])
            if in_letters(shape) not in shapes:
                shapes.append(in_letters(shape))
    lines = [f"| `{name}` | {' or '.join(shapes)} |" for name, shapes in found.items()]
    return ["| parameter | shape |", "| --- | --- |", *lines]
