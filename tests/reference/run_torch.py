"""Runs inside the reference's environment: ``torch.save`` and ``torch.load``.

``run_torch.py save FOLDER`` writes what a state dict can hold; ``run_torch.py load FOLDER`` reads every ``*.bin`` with
``weights_only=True`` and writes its tensors beside it as safetensors, bfloat16 widened, and ``answers.json``: the names
of the files that it refuses, and what is not a tensor.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file


def examples() -> dict[str, object]:
    """Values by the name of the file that holds them."""
    torch.manual_seed(0)
    matrix = torch.randn(5, 7)
    layer = torch.nn.Linear(3, 4)
    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    integers = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    return {
        "types": {
            **{str(kind): (100 * matrix).to(kind) for kind in kinds},
            **{str(kind): (100 * matrix).abs().to(kind) for kind in integers},
            "bool": matrix > 0,
        },
        "views": {
            "whole": matrix,
            "transposed": matrix.T,
            "column": matrix[:, 3],
            "steps": matrix[1::2, ::3],
            "one": matrix[2, 2],
            "empty": matrix[:0],
            "axes": torch.randn(2, 3, 4).permute(2, 0, 1),
            "half": matrix.to(torch.bfloat16).T[1:],
        },
        "module": layer.state_dict(),
        "parameters": {"weight": layer.weight, "frozen": torch.nn.Parameter(matrix, requires_grad=False)},
        "training": {
            "model_state_dict": torch.nn.Sequential(layer, torch.nn.LayerNorm(4)).state_dict(),
            "epoch": 3,
            "rate": 0.1,
            "names": ["é", ("a", None, True)],
            "shape": matrix.shape,
        },
    }


def flat(value: object, name: str = "") -> dict[str, object]:
    """The leaves of a nested value by their paths."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in flat(item, f"{name}/{key}").items()}
    if isinstance(value, list) or type(value) is tuple or isinstance(value, torch.Size):
        return {k: v for key, item in enumerate(value) for k, v in flat(item, f"{name}/{key}").items()}
    return {name: value}


def load(folder: Path) -> None:
    answers: dict[str, dict] = {"refused": {}, "plain": {}}
    for path in sorted(folder.glob("*.bin")):
        try:
            leaves = flat(torch.load(path, weights_only=True))
        except Exception as error:
            answers["refused"][path.name] = type(error).__name__
            continue
        tensors = {name: leaf for name, leaf in leaves.items() if isinstance(leaf, torch.Tensor)}
        answers["plain"][path.name] = {name: leaf for name, leaf in leaves.items() if name not in tensors}
        wide = {name: t.detach().float() if t.dtype == torch.bfloat16 else t.detach() for name, t in tensors.items()}
        save_file({name: t.contiguous().clone() for name, t in wide.items()}, path.with_suffix(".safetensors"))
    (folder / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    task, place = sys.argv[1], Path(sys.argv[2])
    if task == "save":
        for name, value in examples().items():
            torch.save(value, place / f"{name}.bin")
            torch.save(value, place / f"old-{name}.bin", _use_new_zipfile_serialization=False)  # as before torch 1.6
    else:
        load(place)
