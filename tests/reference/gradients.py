"""Gradients of the heads' losses in transformers 4.37.2, to compare with: ``python -m tests.reference.gradients``.

``tests/data/gradients/gradients.safetensors`` holds what ``loss.backward()`` leaves, in float64 as
``<head>-<case>/<parameter>``; ``gradients.json`` says of each case which weights and inputs it belongs to
(``digest``), the loss, and how peaked each layer's attention between landmarks is (``median_row_max``).
``run_gradients.py`` computes them inside the reference's environment.

No bias is zero, all token types occur, and attention is peaked. Sequences end in tokens with mask 0, but the first is
real; only where a case says so are they the padding token. The biases of the keys have no influence on a softmax, and
their gradient is rounding.
"""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from .cases import ANSWER, BRANCHES, CHOICE, MASKED_LM, SEQUENCE, TOKEN, Case, padding_mask
from .client import run_inside

VERSION = "4.37.2"
FOLDER = Path(__file__).resolve().parent.parent / "data" / "gradients"
PAD = 1
CONFIG = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "hidden_act": "gelu_new",
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "conv_kernel_size": 3,
    "layer_norm_eps": 1e-5,
    "pad_token_id": PAD,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
LENGTH = 16
SHARPNESS = {"dense": (9.0, 7.0), "nystrom": None}
SINGLE, SEVERAL, REGRESSION = (
    {"problem_type": kind} for kind in ("single_label_classification", "multi_label_classification", "regression")
)


def _kinds(state: np.random.RandomState) -> list[tuple[str, str, dict, dict[str, np.ndarray]]]:
    """``(head, name, changes to the configuration, labels)`` for two examples."""
    words, tags = (state.randint(0, classes, size=(2, LENGTH)) for classes in (CONFIG["vocab_size"], 3))
    words[0, 2:5] = tags[1, 7:] = -100
    positions = {"start_positions": np.array([1, LENGTH]), "end_positions": np.array([4, 2])}  # L itself is ignored
    return [
        (MASKED_LM, "tied", {"num_hidden_layers": 2}, {"labels": words}),
        (MASKED_LM, "untied", {"tie_word_embeddings": False}, {"labels": words}),
        (SEQUENCE, "single_label", {"num_labels": 3, **SINGLE}, {"labels": np.array([2, 0])}),
        (SEQUENCE, "several_labels", {"num_labels": 3, **SEVERAL}, {"labels": np.float32([[1, 0, 1], [0, 0, 1]])}),
        (
            SEQUENCE,
            "regression",
            {"num_labels": 1, "hidden_act": "gelu", **REGRESSION},
            {"labels": np.float32([2, -1])},
        ),
        (CHOICE, "labels", {}, {"labels": np.array([2, 0])}),
        (TOKEN, "labels", {"num_labels": 3}, {"labels": tags}),
        (ANSWER, "positions", {}, positions),
    ]


def gradient_cases() -> list[Case]:
    """Every case; (head, name) identifies it."""
    found: list[Case] = []

    def add(name: str, head: str, config: dict, inputs: dict[str, np.ndarray], branch: str) -> None:
        found.append(Case(name, head, config, inputs, sharpness=SHARPNESS[branch]))

    for seed, (branch, sizes) in enumerate(BRANCHES.items()):
        state = np.random.RandomState(seed)
        for head, name, changes, labels in _kinds(state):
            shape = (2, 3, LENGTH) if head == CHOICE else (2, LENGTH)
            inputs = {
                "input_ids": state.randint(3, CONFIG["vocab_size"], size=shape),
                "token_type_ids": state.randint(0, 2, size=shape),
                "attention_mask": padding_mask(int(np.prod(shape[:-1])), LENGTH, [11, LENGTH, 5]).reshape(shape),
                **labels,
            }
            inputs = {key: x.astype(np.int64) if x.dtype.kind == "i" else x for key, x in inputs.items()}
            add(f"{name}-{branch}", head, {**CONFIG, **sizes, **changes}, inputs, branch)
            if head == MASKED_LM and branch == "dense":
                mask, config = inputs["attention_mask"], {**CONFIG, **sizes, **changes, "num_hidden_layers": 1}
                ids = np.where(mask == 1, inputs["input_ids"], PAD)
                add(f"{name}-padding_token", head, config, {**inputs, "input_ids": ids}, branch)
                if name == "untied":
                    add("nothing_real", head, config, {**inputs, "attention_mask": mask * [[1], [0]]}, branch)
    return found


def identity(case: Case) -> str:
    """Name a case among all."""
    return f"{case.head.removeprefix('Nystromformer')}-{case.name}"


def read(case: Case) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what is stored of a case: what is told, and the gradients by parameter."""
    told, arrays = _read()
    return told[identity(case)], arrays[identity(case)]


def ask() -> tuple[dict[str, dict], dict[str, dict[str, np.ndarray]]]:
    """Return what the reference answers now, by case."""
    with tempfile.TemporaryDirectory() as folder:
        run_inside(VERSION, "-m", "tests.reference.run_gradients", folder)
        return load(Path(folder))


@cache
def _read() -> tuple[dict[str, dict], dict[str, dict[str, np.ndarray]]]:
    return load(FOLDER)


def load(folder: Path) -> tuple[dict[str, dict], dict[str, dict[str, np.ndarray]]]:
    """Read the two files that ``run_gradients.py`` wrote."""
    told = json.loads((folder / "gradients.json").read_text(encoding="utf-8"))["cases"]
    arrays: dict[str, dict[str, np.ndarray]] = {}
    for name, array in load_file(folder / "gradients.safetensors").items():
        case, _, parameter = name.partition("/")
        arrays.setdefault(case, {})[parameter] = array
    return told, arrays


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    run_inside(VERSION, "-m", "tests.reference.run_gradients", FOLDER)
