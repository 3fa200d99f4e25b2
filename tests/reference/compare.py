"""Runs this package on what the reference was asked, and holds the two side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

import nystrom_np

from .cases import Case

FLOAT64_TOLERANCE = 1e-10  # the same algorithm; a plain NumPy model reaches 1e-13
FLOAT32_FACTOR, FLOAT32_FLOOR = 3.0, 1e-6  # times the reference's own float32 distance to float64
FLOAT16_FACTOR, FLOAT16_FLOOR = 3.0, 2e-3  # the same of float16
FLOAT16_ROUNDING = 2.0**13  # float16's rounding error over float32's, where the reference does not run in float16


def config_json(case: Case) -> dict[str, Any]:
    """Return a case's configuration as the reference saves it: labels are named, not counted."""
    told = {**case.config, "model_type": "nystromformer", "architectures": [case.head]}
    labels = told.pop("num_labels", None)
    if labels is not None:
        told["id2label"] = {str(index): f"LABEL_{index}" for index in range(labels)}
        told["label2id"] = {f"LABEL_{index}": index for index in range(labels)}
    return told


def config_of(case: Case) -> nystrom_np.NystromformerConfig:
    """Return a case's configuration as this package holds it."""
    return nystrom_np.NystromformerConfig.from_dict(config_json(case))


def write_checkpoint(folder: Path, case: Case) -> Path:
    """Write a case's configuration and weights as a checkpoint of the reference."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_json(case)))
    save_file(case.parameters(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def load(head: str, folder: Path, dtype: str) -> Any:
    """Return this package's model of a checkpoint."""
    return getattr(nystrom_np, head).from_pretrained(folder, dtype=dtype)


def run(model: Any, inputs: Mapping[str, np.ndarray], flags: Mapping[str, bool]) -> dict[str, np.ndarray]:
    """Call the model; return every array of its output by name, in order, as the reference's are named."""
    output = model(**inputs, **flags)
    pairs = enumerate(output) if isinstance(output, tuple) else output.items()
    return dict(entry for name, value in pairs for entry in _flat(str(name), value))


def _flat(name: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(value, tuple):
        yield from ((f"{name}.{index}", item) for index, item in enumerate(value))
    else:
        yield name, value


def assert_agree(
    actual: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    dtype: str,
    float32_distance: Mapping[str, float],
    float16_distance: Mapping[str, float] | None = None,
) -> None:
    """Every output is there, in order, with its shape and dtype, as near as its dtype asks."""
    assert list(actual) == list(expected)
    for name, array in expected.items():
        ours = actual[name]
        assert ours.shape == array.shape, name
        assert ours.dtype == dtype, name
        limit = allowed(name, dtype, float32_distance, float16_distance)
        np.testing.assert_allclose(ours.astype(np.float64), array, rtol=0.0, atol=limit, err_msg=name)


def allowed(
    name: str, dtype: str, float32_distance: Mapping[str, float], float16_distance: Mapping[str, float] | None = None
) -> float:
    """How far an output of a dtype may be from what the reference computed in float64."""
    if dtype == "float32":
        return max(FLOAT32_FACTOR * float32_distance[name], FLOAT32_FLOOR)
    if dtype == "float16":
        theirs = (float16_distance or {}).get(name, FLOAT16_ROUNDING * float32_distance[name])
        return max(FLOAT16_FACTOR * theirs, FLOAT16_FLOOR)
    return FLOAT64_TOLERANCE
