"""The steps of a trace as a table: traced when the site is built, so that a name, a shape or a line cannot be stale."""

import re
from collections.abc import Iterator
from itertools import product

import numpy as np

from docs.builder import sources
from nystrom_np import (
    NystromformerConfig,
    NystromformerForMaskedLM,
    NystromformerForMultipleChoice,
    NystromformerForQuestionAnswering,
    NystromformerForSequenceClassification,
    NystromformerForTokenClassification,
    NystromformerModel,
)
from nystrom_np.rewrite import PAGES
from nystrom_np.trace import Step, trace

__all__ = ["rows", "table"]

SIZES = {5: "B", 10: "N", 11: "L", 28: "D", 4: "H", 7: "d", 3: "m", 24: "I", 53: "V", 9: "C", 55: "B·L"}
HEADS = {
    NystromformerModel: (),
    NystromformerForMaskedLM: (5, 11),
    NystromformerForSequenceClassification: (5,),
    NystromformerForMultipleChoice: (5,),
    NystromformerForTokenClassification: (5, 11),
    NystromformerForQuestionAnswering: (),
}
"""The models, and the shapes of their labels."""


BRANCHES = ({"segment_means_seq_len": 3}, {"masking": "original"}, {"pinv_method": "svd"})


def traced() -> Iterator[Step]:
    """Trace each model with exact and with Nyström attention, with sizes that no two letters share."""
    for (model, labels), fields in product(HEADS.items(), BRANCHES):
        config = NystromformerConfig(
            vocab_size=53, hidden_size=28, num_attention_heads=4, num_hidden_layers=1, intermediate_size=24,
            num_landmarks=3, num_labels=9, max_position_embeddings=20, **{"segment_means_seq_len": 8} | fields,
        )  # fmt: skip
        shape = (5, 2, 11) if model is NystromformerForMultipleChoice else (5, 11)
        inputs = {"input_ids": np.ones(shape, int), "head_mask": np.array([1, 1, 1, 0])}
        inputs["attention_mask"] = np.arange(11) < np.full(shape, 9)
        if labels:
            inputs["labels"] = np.zeros(labels, int)
        if model is NystromformerForQuestionAnswering:
            inputs |= {name: np.zeros(5, int) for name in ("start_positions", "end_positions")}
        yield from trace(model(config, dtype="float64"), **inputs).steps.values()


def rows() -> dict[str, tuple[str, str, int, str]]:
    """For each step its shapes, and the function, line and text where it is computed."""
    found: dict[str, tuple[str, str, int, str]] = {}
    for step in traced():
        name = re.sub(r"(pinv|layer)\.\d+", r"\1.n", step.name.removeprefix("nystromformer."))
        shape = f"({', '.join(SIZES.get(size, str(size)) for size in step.value.shape)})"
        known = found.get(name, ("", step.function, step.line, step.formula))
        shapes = known[0].split(" or ") if known[0] else []
        if shape not in shapes and shape.replace("N", "B") not in shapes:
            shapes.append(shape)
        found[name] = (" or ".join(shapes), *known[1:])
    return found


def table() -> list[str]:
    """The rows as Markdown."""
    lines = ["| step | shape | the line that computes it |", "| --- | --- | --- |"]
    for name, (shape, function, line, formula) in rows().items():
        [page] = [page for page in PAGES if hasattr(PAGES[page], function)] if function else [""]
        link = sources.documented(f"nystrom_np.{page}.{function}")
        place = f"{{py:obj}}`{function} <{link}>`, line {line}: " if line else ""
        lines.append(f"| `{name}` | {shape} | {place}{f'`{formula}`' if formula else 'what the model is given'} |")
    return lines
