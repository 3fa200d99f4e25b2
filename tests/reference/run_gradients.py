"""Runs inside the reference's environment: ``python -m tests.reference.run_gradients FOLDER`` writes all gradients."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

from .cases import Case
from .gradients import gradient_cases, identity
from .run_reference import Peaks, build


def gradients(case: Case) -> tuple[dict, dict[str, np.ndarray]]:
    """Return the loss and what is told of it, and its gradient with respect to every parameter, tied ones once."""
    model = build({"head": case.head, "config": case.config}, case.parameters(), torch.float64)
    peaks = Peaks(model)
    tensors = {name: torch.from_numpy(array) for name, array in case.inputs.items()}
    loss = model(**{name: x.double() if x.is_floating_point() else x for name, x in tensors.items()}).loss
    loss.backward()
    told = {"digest": case.digest(), "loss": loss.item(), "median_row_max": peaks.medians()}
    return told, {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}


def main(folder: Path) -> None:
    torch.set_num_threads(1)  # one order of summation
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    found = {identity(case): gradients(case) for case in gradient_cases()}
    arrays = {f"{name}/{key}": array for name, (_, named) in found.items() for key, array in named.items()}
    save_file(arrays, folder / "gradients.safetensors")
    versions = {"transformers": transformers.__version__, "torch": torch.__version__.partition("+")[0]}
    text = json.dumps({**versions, "cases": {name: told for name, (told, _) in found.items()}}, indent=1) + "\n"
    (folder / "gradients.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
