"""``trace`` and ``compare``: every step of a model by name, and the first in which a port's steps differ."""

import argparse
import json
import math
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from nystrom_np.array_module import move_like
from nystrom_np.cli.common import (
    AGREES,
    CHECKPOINT,
    DIFFERS,
    Commands,
    add_options,
    add_overrides,
    overrides,
    print_json,
)
from nystrom_np.compare import EPS, Compared, Report, compare
from nystrom_np.config import NystromformerConfig
from nystrom_np.demo import CLASSES
from nystrom_np.files import read_json_object
from nystrom_np.hub import local_folder
from nystrom_np.pipelines import load_whole
from nystrom_np.trace import trace
from nystrom_np.trace_file import load_steps, load_trace, save_trace


def add_trace(commands: Commands) -> None:
    """Register ``trace``."""
    parser = commands.add_parser("trace", help="every step of a forward pass by name, in one safetensors file")
    parser.add_argument("folder", help=CHECKPOINT)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--text", action="append", metavar="TEXT", help="a text; again for a batch, or a further choice")
    given.add_argument(
        "--inputs", type=Path, metavar="FILE", help="a .safetensors, .npz or .json file with input_ids and so on"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the file to write: .safetensors")
    add_overrides(parser)
    add_options(parser, _trace, ("float64", "float32"))


def add_compare(commands: Commands) -> None:
    """Register ``compare``."""
    parser = commands.add_parser("compare", help="the first step of a port that differs from a trace, and why")
    parser.add_argument("trace", type=Path, help="a file that nystrom-np trace has written")
    parser.add_argument(
        "theirs", type=Path, help="a .safetensors or .npz file, a folder of .npy files, or of transformers' debugger"
    )
    parser.add_argument(
        "--names", type=Path, metavar="FILE", help="JSON: an object from the port's names to the trace's"
    )
    parser.add_argument("--model", metavar="FOLDER", help=f"{CHECKPOINT}, if it lies elsewhere by now")
    add_options(parser, _compare)
    parser.add_argument("--dtype", choices=list(EPS), help="what the port computes in; by default what its arrays say")


def _trace(options: argparse.Namespace) -> int:
    if options.output.suffix != ".safetensors":
        raise ValueError(f"{options.output} must end in .safetensors")
    folder = local_folder(options.folder, "weights")
    model = _model(folder, options.dtype or "float64", options.device, **overrides(options))
    inputs = _tokens(options.folder, model, options.text) if options.text else _inputs(options.inputs, model)
    like = next(iter(model.state_dict().values()))
    steps = trace(model, **{name: move_like(value, like) for name, value in inputs.items()})
    save_trace(steps, options.output, folder)
    if options.json:
        print_json({"file": str(options.output), "steps": {name: list(value.shape) for name, value in steps.items()}})
    else:
        print(f"{len(steps)} steps in {model.dtype}: {options.output}")
    return AGREES


def _model(folder: Path, dtype: str, device: str = "cpu", **fields: Any) -> Any:
    named = getattr(NystromformerConfig.from_pretrained(folder), "architectures", None)
    name = str(named[0]) if isinstance(named, list) and named else "NystromformerModel"
    if name not in CLASSES:
        raise ValueError(f"{folder} is a {name}, which is none of {', '.join(CLASSES)}")
    return load_whole(CLASSES[name], folder, dtype, device, **fields)


def _tokens(folder: str, model: Any, texts: list[str]) -> dict[str, np.ndarray]:
    from nystrom_np.tokenization import NystromformerTokenizer

    tokens = NystromformerTokenizer.from_pretrained(folder)(texts, padding=True, truncation=True, return_tensors="np")
    choices = type(model).__name__ == "NystromformerForMultipleChoice"
    return {name: value[None] if choices else value for name, value in tokens.items()}


def _inputs(path: Path, model: Any) -> dict[str, np.ndarray]:
    """Read what the model is to be called with."""
    values = read_json_object(path) if path.suffix == ".json" else load_steps(path).steps
    taken = signature(type(model).__call__).parameters
    if unknown := [
        name for name in values if name not in taken or name == "self" or name.startswith(("output_", "return_"))
    ]:
        raise ValueError(f"{path}: {type(model).__name__} takes no {unknown[0]}")
    try:
        return {name: np.asarray(value) for name, value in values.items()}
    except ValueError as error:
        raise ValueError(f"{path} holds no arrays of numbers: {error}") from None


def _compare(options: argparse.Namespace) -> int:
    expected = load_trace(options.trace)
    found = load_steps(options.theirs)
    names = _names(options.names) if options.names else {}
    report = compare(expected, found.steps, names=names, dtype=options.dtype or found.dtype)
    given = options.model and local_folder(options.model, "weights")
    folder = given or Path(expected.metadata.get("folder", ""))
    if not report.agrees and (options.model or (folder / "config.json").is_file()):
        known = load_trace(options.trace, _model(folder, expected.metadata["dtype"]))
        report = compare(known, found.steps, names=names, dtype=report.dtype)
    if options.json:
        print_json(_facts(report))
    else:
        print(report)
    return AGREES if report.agrees else DIFFERS


def _names(path: Path) -> dict[str, str]:
    names = read_json_object(path)
    if wrong := [name for name, step in names.items() if not isinstance(step, str)]:
        raise ValueError(f"{path}: {wrong[0]!r} must be the name of a step, not {json.dumps(names[wrong[0]])}")
    return names


def _facts(report: Report) -> dict[str, Any]:
    return {
        "agrees": report.agrees,
        "dtype": report.dtype,
        "first": report.first and report.first.name,
        "causes": list(report.causes) if report.searched else None,
        "steps": [_row(step) for step in report.steps.values()],
    }


def _row(step: Compared) -> dict[str, Any]:
    """A step's facts; JSON has no infinity."""
    row = {name: value if not isinstance(value, float) or math.isfinite(value) else None
           for name, value in vars(step).items()}  # fmt: skip
    return row | {"inputs": list(step.inputs), "agrees": step.agrees}
