"""The first wrong step of a port, as far as what it returned tells: outputs are steps, and it may return others."""

import re
from collections.abc import Mapping
from typing import Any

from nystrom_np.compare import Report, compare
from nystrom_np.testing.mismatch import Mismatch, host_numbers
from nystrom_np.trace import Trace, trace

__all__ = ["compare_steps", "located", "step_name"]


def step_name(name: str) -> str:
    """Return what the trace calls an output.

    Examples
    --------
    >>> step_name("hidden_states[0]"), step_name("hidden_states[2]"), step_name("logits")
    ('embeddings', 'encoder.layer.1', 'logits')
    >>> step_name("attentions[1]")
    'encoder.layer.1.attention.self.attention_probs'
    """
    found = re.fullmatch(r"(hidden_states|attentions)\[(\d+)\]", name)
    if found is None:
        return name
    number = int(found[2])
    if found[1] == "attentions":
        return f"encoder.layer.{number}.attention.self.attention_probs"
    return f"encoder.layer.{number - 1}" if number else "embeddings"


def compare_steps(expected: Trace, outputs: Mapping[str, Any], dtype: str, **options: Any) -> Report | None:
    """Compare those of a port's outputs that are steps of a trace; None if none is.

    Examples
    --------
    >>> from nystrom_np import NystromformerConfig, NystromformerModel
    >>> model = NystromformerModel(NystromformerConfig(num_hidden_layers=1, hidden_size=12), dtype="float64")
    >>> steps = trace(model, input_ids=[[7, 3]])
    >>> compare_steps(steps, {"hidden_states[0]": steps["embeddings"]}, "float64").agrees
    True
    """
    named = {step_name(name): host_numbers(name, value) for name, value in outputs.items()}
    steps = {name: value for name, value in named.items() if {name, f"nystromformer.{name}"} & _names(expected)}
    return compare(expected, steps, dtype=dtype, **options) if steps else None


def _names(expected: Trace) -> set[str]:
    return {*expected, *expected.aliases}


def located(error: Mismatch, model: Any, outputs: Mapping[str, Any], dtype: str) -> Mismatch:
    """Return the same mismatch with its first wrong step, the formula, and the cause if a known one explains it.

    Examples
    --------
    >>> from nystrom_np import NystromformerConfig, NystromformerModel
    >>> model = NystromformerModel(NystromformerConfig(num_hidden_layers=1, hidden_size=12), dtype="float64")
    >>> inputs = {"input_ids": [[7, 3]]}
    >>> states = model(**inputs, output_hidden_states=True).hidden_states
    >>> error = Mismatch("hidden_states[0]: …", "hidden_states[0]", (0,), 1.0, case=inputs)
    >>> located(error, model, {"hidden_states[0]": states[0] + 1.0}, "float64").step
    'embeddings.LayerNorm'
    """
    report = compare_steps(trace(model, **error.case), outputs, dtype)
    if report is None or report.first is None:
        return error
    told = {**vars(error), "step": report.first.name}
    return Mismatch("\n".join([str(error), *report.verdict()]), **told)
