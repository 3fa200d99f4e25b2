"""False alarms: drawn models and inputs, and ports of them that are right: ``python -m tests.compare --cases 1000``.

A port is the model with its faster forms, or the definition with its lines in another order of operations, in each of
the three dtypes. None of its steps may be out.
"""

import argparse
import sys
import time
from collections import Counter
from typing import Any

import numpy as np

from nystrom_np.compare import Report, compare
from nystrom_np.rewrite import Change
from nystrom_np.testing import random_model
from nystrom_np.trace import run, trace
from tests.models import MODELS, inputs_for, small_config

DTYPES = ("float64", "float32", "float16")
REORDERED = (
    Change("linear", "x @ weight.T + bias", "transposed(weight @ transposed(x)) + bias"),
    Change("layer_norm", "(x - mean) / xp.sqrt(variance + eps)", "(x - mean) * (1.0 / xp.sqrt(variance + eps))"),
    Change("softmax", "e / xp.sum(e, axis=axis, keepdims=True)", "e * (1.0 / xp.sum(e, axis=axis, keepdims=True))"),
    Change("segment_means", "xp.mean(x[..., start:stop, :], axis=-2)",
           "sum(x[..., at, :] * (1.0 / (stop - start)) for at in reversed(range(start, stop)))"),
    Change("self_attention", "weights @ (b @ value)", "weights @ b @ value"),
    Change("depthwise_conv", "for s in range(taps)", "for s in reversed(range(taps))"),
    Change("encoder_layer", 'linear(hidden, **p["output"]["dense"]) + x', 'x + linear(hidden, **p["output"]["dense"])'),
    Change("embeddings", "words + types[token_type_ids] + positions[position_ids]",
           "positions[position_ids] + types[token_type_ids] + words"),
)  # fmt: skip


def compared(seed: int) -> tuple[str, Report]:
    """Draw a case by its number: what it is, and the comparison of a port that is right."""
    draw = np.random.default_rng(seed)
    head, dtype = MODELS[draw.integers(len(MODELS))], DTYPES[seed % 3]
    branch, reordered = ("dense", "nystrom")[draw.integers(2)], bool(draw.integers(2))
    length, landmarks = int(draw.integers(4, 25)), int(draw.integers(2, 7))
    fields: dict[str, Any] = {
        "masking": ("transformers", "original", "invariant")[draw.integers(3)],
        "hidden_act": ("gelu", "gelu_new", "relu")[draw.integers(3)],
        "num_hidden_layers": int(draw.integers(1, 4)),
        "inv_coeff_init_option": bool(draw.integers(2)),
        "conv_kernel_size": (None, 3, 5)[draw.integers(3)],
        "layer_norm_eps": 10.0 ** -draw.integers(3, 6),
    }
    fields |= {"num_landmarks": landmarks} if branch == "nystrom" else {}
    model = random_model(small_config(branch, **fields), seed=seed, head=head)
    inputs = inputs_for(head, batch=int(draw.integers(1, 4)), length=length, seed=seed)
    if draw.integers(2):
        del inputs["attention_mask"]
    port = head(model.config, parameters=model.state_dict(), dtype=dtype)
    with np.errstate(all="ignore"):
        found = dict(run(port, inputs, REORDERED)) if reordered else returned(port, inputs)
    told = f"{seed}: {head.__name__}, {branch}, {'reordered' if reordered else 'fast'}, {dtype}, L={length}, {fields}"
    return told, compare(trace(model, **inputs), found, dtype=dtype, causes=())


def returned(port: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a model returns, its states too under the names of their steps where each has one."""
    out = port(**inputs, output_hidden_states=True)
    steps = {name: out[name] for name in out.keys() - {"hidden_states"}}
    if port.config.masking == "invariant":
        return steps
    body = "" if type(port) is MODELS[0] else "nystromformer."
    layers = {f"{body}encoder.layer.{at}": state for at, state in enumerate(out.hidden_states[1:])}
    return steps | layers | {f"{body}embeddings": out.hidden_states[0]}


def main(arguments: list[str] | None = None) -> int:
    """Run the cases, within a time; print the false alarms, and how many ran."""
    parser = argparse.ArgumentParser(prog="python -m tests.compare", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=600.0, help="stop after so many")
    options = parser.parse_args(arguments)
    start, alarms, ran = time.monotonic(), 0, Counter[str]()
    for seed in range(options.cases):
        if time.monotonic() - start > options.seconds:
            break
        told, report = compared(seed)
        ran[report.dtype] += 1
        if not report.agrees:
            alarms += 1
            print(told, *report.verdict(), report.first, sep="\n  ")
    print(f"{alarms} false alarms in {ran.total()} cases: {dict(ran)}")
    return int(alarms > 0)


if __name__ == "__main__":
    sys.exit(main())
