"""Files of steps: a trace in one safetensors file, and what a port has written, in the forms that ports write.

A trace's file needs nothing but a reader of safetensors: the tensors have the steps' names, those of the inputs begin
with ``inputs/``, and the metadata has the order of the steps, the configuration, the dtype and the versions as JSON.
"""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
from safetensors.numpy import save_file

from nystrom_np.array_module import to_numpy
from nystrom_np.checkpoint import widen_bfloat16
from nystrom_np.compare import EPS, rounding_errors
from nystrom_np.config import NystromformerConfig
from nystrom_np.files import parse_json_object, replacing, stand_in
from nystrom_np.trace import Step, Trace

__all__ = ["StepFile", "load_steps", "load_trace", "save_trace"]

FORMAT = "nystrom-np trace 1"
INPUTS = "inputs/"
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
          "U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8", "BOOL": "?"}  # fmt: skip
DEBUGGER = "_debug_tree_FULL_TENSORS.json"
"""How the name of the tree ends that transformers' ``model_addition_debugger_context`` writes."""


MOST_UNPACKED, MOST_TIMES = 2**30, 100
"""Bytes, and times its own size, to which an ``.npz`` file may be unpacked: the greater of the two."""


METADATA: dict[str, Any] = {
    "order": [str],
    "steps": {"*": (str, int, str, {"*": str})},
    "inputs": [str],
    "aliases": {"*": str},
    "rounding": {"*": [int | float]},
}
"""What a trace tells as JSON: ``[one]`` is a list, a tuple a list of so many, ``{"*": one}`` an object."""


class StepFile(NamedTuple):
    """What a port has written.

    Attributes
    ----------
    steps : dict of str to numpy.ndarray
        bfloat16 is widened to float32.
    dtype : str or None
        "bfloat16" if some were that; otherwise what the arrays say, or None.
    """

    steps: dict[str, np.ndarray]
    dtype: str | None


class _Stored(NamedTuple):
    tensors: dict[str, np.ndarray]
    metadata: dict[str, str]
    bfloat16: bool


def save_trace(trace: Trace, path: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> None:
    """Write a trace to a safetensors file.

    Parameters
    ----------
    trace : Trace
        Of :func:`nystrom_np.trace.trace`, best in float64.
    path : str or path
        The file. It is replaced once the new one is complete.
    folder : str or path, optional
        Where the checkpoint lies: it is written down, so that causes can be looked for later.

    Raises
    ------
    OSError
        If the file cannot be written.
    ValueError
        If the trace was itself read from a file, and so knows no model.

    Examples
    --------
    >>> import tempfile
    >>> from nystrom_np import NystromformerConfig, NystromformerModel
    >>> from nystrom_np.trace import trace
    >>> config = NystromformerConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2)
    >>> steps = trace(NystromformerModel(config, dtype="float64"), input_ids=[[7, 3]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_trace(steps, Path(folder) / "trace.safetensors")
    ...     loaded = load_trace(Path(folder) / "trace.safetensors")
    >>> list(loaded) == list(steps), loaded.inputs
    (True, {'input_ids': array([[7, 3]])})
    """
    if trace.model is None:
        raise ValueError("a trace that was read from a file is not written again: it knows no model")
    inputs = {INPUTS + name: np.asarray(to_numpy(value) if hasattr(value, "dtype") else value)
              for name, value in trace.inputs.items() if value is not None}  # fmt: skip
    tensors = {name: np.ascontiguousarray(value).reshape(value.shape) for name, value in (trace.numpy | inputs).items()}
    path = Path(path)
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=_metadata(trace, folder))
        except safetensors.SafetensorError as error:
            raise OSError(f"{path} could not be written: {error}") from None


def _metadata(trace: Trace, folder: Any) -> dict[str, str]:
    from nystrom_np import __version__

    model = trace.model
    lines = {name: [step.function, step.line, step.formula, step.sources] for name, step in trace.steps.items()}
    errors = {dtype: list(rounding_errors(trace, dtype).values()) for dtype in EPS}
    told = {
        "order": list(trace),
        "inputs": list(trace.inputs),
        "config": model.config.to_dict(),
        "versions": {"nystrom_np": __version__, "numpy": np.__version__},
        "steps": lines,
        "aliases": trace.aliases,
        "rounding": errors,
    }
    plain = {"format": FORMAT, "model": type(model).__name__, "dtype": str(model.dtype), "parameters": _digest(model)}
    if folder is not None:
        plain["folder"] = str(folder)
    return plain | {name: json.dumps(value) for name, value in told.items()}


def _digest(model: Any) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + np.ascontiguousarray(to_numpy(value)).tobytes())
    return digest.hexdigest()


def load_trace(path: str | os.PathLike[str], model: Any = None) -> Trace:
    """Read a trace that :func:`save_trace` has written.

    Parameters
    ----------
    path : str or path
        The file.
    model : model, optional
        Of which it is a trace, so that :func:`nystrom_np.compare.compare` can look for causes. Its configuration is
        that of the file, whatever its own.

    Returns
    -------
    Trace
        A step's inputs are those that are steps themselves.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is damaged or no trace, or the model has other parameters.

    Examples
    --------
    >>> load_trace("no/such/trace.safetensors")
    Traceback (most recent call last):
    FileNotFoundError: no file no/such/trace.safetensors
    """
    tensors, metadata, _ = _stored(Path(path))
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path} is no trace: its metadata's format must be {FORMAT!r}, not {metadata.get('format')!r}"
        )
    try:
        told = {name: _as(kind, json.loads(metadata[name])) for name, kind in METADATA.items()}
        steps = {name: _step(name, told["steps"], tensors) for name in told["order"]}
        inputs = {name: tensors[INPUTS + name] for name in told["inputs"] if INPUTS + name in tensors}
        errors = {dtype: dict(zip(steps, values, strict=True)) for dtype, values in told["rounding"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is a damaged trace: {error!r} in its metadata does not fit its tensors") from None
    trace = Trace(steps, told["aliases"], inputs, model and _same(model, metadata, path))
    trace.errors, trace.metadata = errors, metadata
    return trace


def _as(kind: Any, value: Any) -> Any:
    """Return a value of JSON if it is of a kind; else raise a TypeError."""
    match kind:
        case [one]:
            sound = isinstance(value, list) and all(_as(one, part) is part for part in value)
        case (*all_of,):
            sound = isinstance(value, list) and len(value) == len(all_of) and bool(list(map(_as, all_of, value)))
        case {"*": one}:
            sound = isinstance(value, dict) and all(_as(one, part) is part for part in value.values())
        case _:
            sound = isinstance(value, kind)
    if not sound:
        raise TypeError(f"a {type(value).__name__}")
    return value


def _step(name: str, told: dict[str, Any], tensors: dict[str, np.ndarray]) -> Step:
    function, line, formula, sources = told[name]
    inputs = {local: tensors[step] for local, step in sources.items()}
    return Step(name, tensors[name], function, line, formula, inputs, sources)


def _same(model: Any, metadata: dict[str, str], path: Any) -> Any:
    """The model with the trace's configuration, if its parameters are those of the trace."""
    if type(model).__name__ != metadata.get("model") or _digest(model) != metadata.get("parameters"):
        raise ValueError(f"{path} is a trace of another {metadata.get('model')} than this: its parameters differ")
    told = parse_json_object(metadata.get("config", "").encode(), f"the configuration in {path}")
    try:
        return type(model)(NystromformerConfig.from_dict(told), parameters=model.state_dict())
    except ValueError as error:
        raise ValueError(f"the configuration in {path}: {error}") from None


def load_steps(path: str | os.PathLike[str]) -> StepFile:
    """Read the steps that a port has written.

    Parameters
    ----------
    path : str or path
        A ``.safetensors`` or ``.npz`` file; a folder of ``.npy`` files; or the folder that
        ``model_addition_debugger_context`` of transformers 5 writes, with ``use_repr=False``.

    Returns
    -------
    StepFile
        Under the port's names; a file's name without ``.npy``, a module's without the model's class.

    Raises
    ------
    OSError
        If there is no such file or folder.
    ValueError
        If it is damaged, holds no arrays, or is of another kind.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "logits.npy", np.zeros((1, 2)))
    ...     load_steps(folder).steps
    {'logits': array([[0., 0.]])}
    """
    path = Path(path)
    if path.is_dir():
        trees = sorted(path.glob(f"*{DEBUGGER}"))
        found = _debugger(path, trees[0]) if trees else _folder(path)
    elif not path.exists():
        raise FileNotFoundError(f"no file or folder {path}")
    elif path.suffix == ".safetensors":
        stored = _stored(path)
        steps = {name: x for name, x in stored.tensors.items() if not name.startswith(INPUTS)}
        found = StepFile(steps, "bfloat16" if stored.bfloat16 else None)
    elif path.suffix == ".npz":
        found = StepFile(_npz(path), None)
    else:
        raise ValueError(f"{path} must be a .safetensors file, an .npz file, or a folder of .npy files")
    if not found.steps:
        raise ValueError(f"{path} holds no arrays")
    return found


def _stored(path: Path) -> _Stored:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    data = path.read_bytes()
    try:
        entries = safetensors.deserialize(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        unknown = [f"{name!r} is {entry['dtype']}" for name, entry in entries if entry["dtype"] not in DTYPES]
        if unknown:
            raise ValueError(f"{unknown[0]}, which is not read")
        tensors = {name: _array(entry) for name, entry in entries}
    except (safetensors.SafetensorError, ValueError) as error:
        reason = stand_in(data[:1024]) or f"not a sound safetensors file: {' '.join(str(error).split())}"
        raise ValueError(f"{path} is {reason}") from None
    return _Stored(tensors, header.get("__metadata__") or {}, any(entry["dtype"] == "BF16" for _, entry in entries))


def _array(entry: Any) -> np.ndarray:
    array = np.frombuffer(entry["data"], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return widen_bfloat16(array) if entry["dtype"] == "BF16" else array


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            unpacked = sum(entry.file_size for entry in arrays.zip.infolist())
            if unpacked > max(MOST_UNPACKED, MOST_TIMES * path.stat().st_size):
                raise ValueError(f"it would become {unpacked:,} bytes, more than {MOST_TIMES} times its size")
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # of zipfile, zlib, NumPy's parser, …
        raise ValueError(f"{path} is not a sound .npz file: {' '.join(str(error).split())}") from None


def _folder(path: Path) -> StepFile:
    files = sorted(path.glob("*.npy"))
    if not files:
        raise ValueError(f"{path} has neither .npy files nor a tree of transformers' debugger (*{DEBUGGER})")
    return StepFile({file.stem: _npy(file) for file in files}, None)


def _npy(path: Path) -> np.ndarray:
    try:
        if not path.is_file():  # a pipe, say, which would be waited for
            raise ValueError("it is not a file")
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # of NumPy's parsers
        raise ValueError(f"{path} is not a sound .npy file: {' '.join(str(error).split())}") from None


def _debugger(path: Path, tree: Path) -> StepFile:
    """Read what modules returned: the first of several values; of the whole model every output by its name."""
    model = tree.name.removesuffix(DEBUGGER)
    pattern = re.compile(rf"{re.escape(model)}(?:\.(.+)_outputs(?:_0)?|_outputs_(logits|loss|\w+_logits))\.safetensors")
    files = {match[1] or match[2]: file for file in path.iterdir() if (match := pattern.fullmatch(file.name))}
    if not files:
        raise ValueError(f"{path} holds no tensors: the debugger writes them with use_repr=False")
    stored = {name: _stored(file) for name, file in sorted(files.items())}
    if wrong := [name for name, one in stored.items() if set(one.tensors) != {"data"}]:
        raise ValueError(f"{files[wrong[0]]} must hold one tensor, data; found {', '.join(stored[wrong[0]].tensors)}")
    steps = {name: one.tensors["data"] for name, one in stored.items()}
    return StepFile(steps, "bfloat16" if any(one.bfloat16 for one in stored.values()) else None)
