"""Loading and saving parameters as safetensors files.

The names in a file are first made canonical, by these rules:

- what a wrapper put before all of them is left out;
- the authors' own names are translated to those of transformers;
- a LayerNorm's old ``gamma`` and ``beta`` become its weight and bias;
- the body's names get the prefix ``nystromformer.``, which the file of a bare model lacks;
- old buffers are left out;
- ``cls.predictions.decoder.bias`` becomes ``cls.predictions.bias``;
- a tied decoder stands for word embeddings that are not there: of two names for one tensor a file may keep either.

The tensors that then begin with ``nystromformer.`` are the body, and have to fit the model exactly. The others belong
to a head, not always that of the model.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from nystrom_np.array_module import to_numpy
from nystrom_np.files import check_link, parse_json_object, read_weight_map, replacing, stand_in, with_variant

__all__ = [
    "CheckpointError",
    "LoadedCheckpoint",
    "StoredTensor",
    "load_checkpoint",
    "read_shards",
    "save_checkpoint",
    "stored_tensors",
    "unwrapped",
    "widen_bfloat16",
]

FILE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"

_BODY = "nystromformer."
_WORDS = "nystromformer.embeddings.word_embeddings.weight"
_DECODER = "cls.predictions.decoder.weight"
_BIAS = "cls.predictions.bias"
_DECODER_BIAS = "cls.predictions.decoder.bias"
_BUFFERS = ("nystromformer.embeddings.position_ids", "nystromformer.embeddings.token_type_ids")
_DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2"}  # bfloat16, which NumPy lacks, is read as its bits


Tensor = TypeVar("Tensor")


class CheckpointError(ValueError):
    """A checkpoint is damaged or does not fit the model. The message names the file and the tensors."""


class StoredTensor(NamedTuple):
    """Where a tensor lies in its file, and what it is there."""

    path: Path
    name: str
    dtype: str  # as safetensors calls it: "F32"
    shape: tuple[int, ...]
    start: int
    stop: int
    data: np.ndarray | None = None  # its bytes, where it lies in memory and not in a file


class LoadedCheckpoint(NamedTuple):
    """The result of `load_checkpoint`.

    Attributes
    ----------
    parameters : dict of str to numpy.ndarray
        The parameters in the order of `expected`. They are read-only, and views of the memory-mapped file where
        that is possible.
    initialised : tuple of str
        Parameters of the head that the file does not have.
    ignored : tuple of str
        Names of the file's tensors that belong to another head.
    mismatched : dict of str to tuple
        Parameters that have another shape in the file, which were to be left out: their name there, that shape, and
        the expected one.
    """

    parameters: dict[str, np.ndarray]
    initialised: tuple[str, ...]
    ignored: tuple[str, ...]
    mismatched: dict[str, tuple[str, tuple[int, ...], tuple[int, ...]]]


def load_checkpoint(
    folder: str | os.PathLike[str] | Mapping[str, Any],
    expected: Mapping[str, tuple[int, ...]],
    *,
    tied: bool = True,
    variant: str | None = None,
    ignore_mismatched_sizes: bool = False,
) -> LoadedCheckpoint:
    """Load a model's parameters from the files of a folder, memory-mapped where possible.

    Parameters
    ----------
    folder : str or path, or mapping of str to array
        Has ``model.safetensors``, or shards with ``model.safetensors.index.json``; or is a state dict in memory.
    expected : mapping of str to tuple of int
        The state-dict names of the model's parameters and their shapes. Those of a bare model have no prefix
        ``nystromformer.``; a tied decoder is not among them; the masked language model's bias is named
        ``cls.predictions.bias``.
    tied : bool
        Whether the configuration says that the decoder is the word embeddings: then either will do for both.
    variant : str, optional
        Which of several sets of weights: "fp16" for ``model.fp16.safetensors``.
    ignore_mismatched_sizes : bool
        Whether to leave out tensors of another shape than expected.

    Returns
    -------
    LoadedCheckpoint
        The parameters in the data type of the file, bfloat16 widened to float32.

    Raises
    ------
    FileNotFoundError
        If the folder, its file or a shard is not there.
    CheckpointError
        If a file is damaged; if a parameter of the body is missing, unknown or of another shape; if the head
        is incomplete or of another shape; if a tied decoder differs from the word embeddings.

    Warns
    -----
    UserWarning
        If the file lacks the head's parameters, has those of another head, or has some of another shape that are left
        out: the message names them.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(folder, {"encoder.scale": np.ones(2, np.float32)})
    ...     loaded = load_checkpoint(folder, {"encoder.scale": (2,)})
    >>> loaded.parameters, loaded.initialised, loaded.ignored
    ({'encoder.scale': array([1., 1.], dtype=float32)}, (), ())
    """
    bare = not any(name.startswith(_BODY) for name in expected)
    wanted = {_BODY + name if bare else name: tuple(shape) for name, shape in expected.items()}
    if isinstance(folder, Mapping):
        source, stored = "the state dict", _tensors_of(folder)
    else:
        source, stored = f"the checkpoint in {folder}", stored_tensors(folder, variant)
    found = _canonical(stored)
    if tied and _WORDS not in found and _DECODER in found and _DECODER not in wanted:
        found[_WORDS] = found.pop(_DECODER)
    found, foreign = _split_foreign(found, wanted)
    absent = [name for name in wanted if name not in found]
    _check_names(source, found, wanted, absent)
    mismatched = _mismatched(found, wanted) if ignore_mismatched_sizes else {}
    found = {name: tensor for name, tensor in found.items() if name not in mismatched}
    _check_tensors(found, wanted)
    _check_tie(found, wanted)
    maps = {path: np.memmap(path, np.uint8, "r") for path in {t.path for t in found.values() if t.data is None}}
    parameters = {name: _view(found[name], maps.get(found[name].path)) for name in wanted if name in found}
    if mismatched or ((absent or foreign) and not bare):
        _warn(source, absent, [] if bare else foreign, mismatched)
    if bare:
        parameters = {name.removeprefix(_BODY): array for name, array in parameters.items()}
        mismatched = {name.removeprefix(_BODY): shapes for name, shapes in mismatched.items()}
    return LoadedCheckpoint(parameters, tuple(absent), tuple(foreign), mismatched)


def save_checkpoint(folder: str | os.PathLike[str], parameters: Mapping[str, Any], variant: str | None = None) -> None:
    """Write a model's parameters to ``model.safetensors``, which this package and transformers read.

    Parameters
    ----------
    folder : str or path
        Made if it does not exist. It may hold the file that the parameters are mapped from: that is replaced only
        once the new one is complete.
    parameters : mapping of str to numpy.ndarray
        float16, float32 or float64 arrays under the names of `load_checkpoint`. The bias of a decoder that is not
        tied is also saved as ``cls.predictions.decoder.bias``, where newer versions of transformers look for it.
    variant : str, optional
        Makes the file's name ``model.VARIANT.safetensors``.

    Raises
    ------
    TypeError
        If a parameter is not an array of one of these types.
    OSError
        If the file cannot be written; an older file of that name then stays as it was.

    Examples
    --------
    >>> import tempfile
    >>> weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(folder, {"embeddings.word_embeddings.weight": weight})
    ...     loaded = load_checkpoint(folder, {"embeddings.word_embeddings.weight": (2, 3)})
    >>> loaded.parameters["embeddings.word_embeddings.weight"]
    array([[0., 1., 2.],
           [3., 4., 5.]], dtype=float32)
    """
    tensors = {name: _storable(name, array) for name, array in parameters.items()}
    if _DECODER in tensors and _BIAS in tensors:
        tensors[_DECODER_BIAS] = tensors[_BIAS]
    path = Path(folder) / with_variant(FILE_NAME, variant)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"format": "pt"})
        except SafetensorError as error:
            raise OSError(f"{path} could not be written: {error}") from None


def stored_tensors(folder: str | os.PathLike[str], variant: str | None = None) -> dict[str, StoredTensor]:
    """List the tensors of a checkpoint; only the headers of its files are read.

    Parameters
    ----------
    folder : str or path
        Has ``model.safetensors``, or shards with ``model.safetensors.index.json``.
    variant : str, optional
        As for `load_checkpoint`.

    Returns
    -------
    dict of str to StoredTensor
        The tensors under the names that the files give them.

    Raises
    ------
    FileNotFoundError
        If the folder, its file or a shard is not there.
    CheckpointError
        If a file is damaged, or two shards have a tensor of one name.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(folder, {"encoder.scale": np.ones(2, np.float32)})
    ...     stored = stored_tensors(folder)["encoder.scale"]
    >>> stored.dtype, stored.shape
    ('F32', (2,))
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: a local checkpoint folder is expected")
    file, index = with_variant(FILE_NAME, variant), with_variant(INDEX_NAME, variant)
    if (folder / file).is_file():
        return _read_header(folder / file)
    if (folder / index).is_file():
        return read_shards(folder / index, _read_header)
    raise FileNotFoundError(f"neither {file} nor {index} in {folder}{_advice(folder)}")


def _advice(folder: Path) -> str:
    """Say what to do where a folder has weights, but not those that were asked for."""
    for path in sorted(folder.glob("model.*")):
        if found := re.fullmatch(
            r"model(?:\.(.+))?\.safetensors|model\.safetensors\.index(?:\.(.+))?\.json", path.name
        ):
            return f", but {path.name}: load it with variant={found[1] or found[2]!r}"
    if any(folder.glob("pytorch_model*.bin*")):
        return (
            f"; pytorch_model.bin is a pickle, which can run code and is not loaded: nystrom-np convert {folder} TARGET"
        )
    return ""


def _tensors_of(state_dict: Mapping[str, Any]) -> dict[str, StoredTensor]:
    """List the tensors of a state dict in memory as those of a file."""
    place = Path("state_dict")
    tensors = {}
    for name, value in state_dict.items():
        array = to_numpy(value) if hasattr(value, "dtype") else np.asarray(value)
        if array.dtype.kind != "f" or array.dtype.itemsize not in (2, 4, 8):
            tensors[name] = StoredTensor(place, name, str(array.dtype), array.shape, 0, 0)
            continue
        bits = _storable(name, array.copy()).reshape(-1).view(np.uint8)
        kind = f"F{8 * array.dtype.itemsize}"
        tensors[name] = StoredTensor(place, name, kind, array.shape, 0, bits.size, bits)
    return tensors


def _read_header(path: Path) -> dict[str, StoredTensor]:
    """Read a file's header, after safetensors has checked it against the file's size."""
    try:
        with safe_open(path, framework="np"):
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = parse_json_object(file.read(length), "its header")
    except (SafetensorError, ValueError) as error:
        with path.open("rb") as file:
            if instead := stand_in(file.read(1024)):
                raise CheckpointError(f"{path} is {instead}") from None
        reason = " ".join(str(error).split())  # a name that the message quotes may hold a line break
        raise CheckpointError(f"{path} is not a sound safetensors file: {reason}") from None
    header.pop("__metadata__", None)
    data = 8 + length
    return {
        name: StoredTensor(
            path, name, entry["dtype"], tuple(entry["shape"]), *(data + i for i in entry["data_offsets"])
        )
        for name, entry in header.items()
    }


def read_shards(index: Path, read: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Read a checkpoint in several files, each with `read`: the tensors of all files that its index names.

    What counts is what the files hold. The index may omit some of it, and list what none has: a decoder that is tied,
    say. A missing file raises a FileNotFoundError; a damaged index, or a tensor in two files, a CheckpointError.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     index = Path(folder) / "index.json"
    ...     _ = index.write_text('{"weight_map": {"a": "one.bin", "b": "two.bin"}}')
    ...     read_shards(index, read=lambda path: {})
    Traceback (most recent call last):
    FileNotFoundError: no file 'one.bin' in ..., though index.json names it
    """
    try:
        weight_map = read_weight_map(index)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(weight_map.values())):
        path = index.with_name(shard)
        if not path.is_file():
            raise FileNotFoundError(f"no file {shard!r} in {index.parent}, though {index.name} names it")
        try:
            check_link(path)
        except ValueError as error:
            raise CheckpointError(str(error)) from None
        part = read(path)
        if twice := tensors.keys() & part.keys():
            raise CheckpointError(f"{path} and a file before it both have {_listed(twice)}")
        tensors |= part
    return tensors


def _canonical(stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Apply the rules for names at the top of this file."""
    found: dict[str, StoredTensor] = {}
    stored = unwrapped(stored, next(iter(stored.values())).path if stored else "")
    authors = any(re.match(_AUTHORS, name) for name in stored)
    for name, tensor in stored.items():
        if authors and re.search(r"pooler|sen_class|conv\.bias", name):
            continue
        name = _from_authors(name) if authors else name
        name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
        name = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)
        if name.startswith(("embeddings.", "encoder.")):
            name = _BODY + name
        if name in _BUFFERS:
            continue
        if name in found:
            raise CheckpointError(f"{tensor.path}: {found[name].name!r} and {tensor.name!r} are one parameter")
        found[name] = tensor
    # If a file has both, every version of transformers computes with the decoder's bias.
    if _DECODER_BIAS in found:
        found[_BIAS] = found.pop(_DECODER_BIAS)
    return found


_AUTHORS = r"(model\.)?transformer_\d+\."
_OWN = re.compile(rf"(nystromformer|embeddings|encoder|cls|classifier|pre_classifier|qa_outputs)\.|{_AUTHORS}")


def unwrapped(tensors: Mapping[str, Any], source: object) -> dict[str, Any]:
    """Leave out what a wrapper put before all names: ``module.`` of DataParallel, ``model.`` of Lightning.

    Parameters
    ----------
    tensors : mapping of str to object
        Tensors under their names.
    source : object
        Where they come from, for the warning.

    Returns
    -------
    dict of str to object
        The same under the names that are left, if some of them are a Nyströmformer's; otherwise as they were.

    Warns
    -----
    UserWarning
        If something was left out: names it.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     unwrapped({"module.encoder.a": 1, "module.classifier.b": 2}, "the file")
    {'encoder.a': 1, 'classifier.b': 2}
    >>> print(caught[0].message)
    all names in the file begin with 'module.', which is left out
    """
    if any(map(_OWN.match, tensors)):
        return dict(tensors)
    first = next(iter(tensors), "")
    for dot in re.finditer(r"\.", first):
        prefix = first[: dot.end()]
        if not all(name.startswith(prefix) for name in tensors):
            break
        rest = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        if any(map(_OWN.match, rest)):
            message = f"all names in {source} begin with {prefix!r}, which is left out"
            warnings.warn(message, UserWarning, stacklevel=3)
            return rest
    return dict(tensors)


_AUTHORS_NAMES = (  # in this order: a name before the parts of it
    (r"^model\.", ""),
    (r"^transformer_(\d+)\.", r"encoder.layer.\1."),
    (r"\bnorm1\b", "attention.output.LayerNorm"),
    (r"\bnorm2\b", "output.LayerNorm"),
    (r"\bnorm\b", "LayerNorm"),
    (r"\bmha\.attn\b", "attention.self"),
    (r"\bmha\.W_q\b", "attention.self.query"),
    (r"\bmha\.W_k\b", "attention.self.key"),
    (r"\bmha\.W_v\b", "attention.self.value"),
    (r"\bmha\.ff\b", "attention.output.dense"),
    (r"\bff1\b", "intermediate.dense"),
    (r"\bff2\b", "output.dense"),
    (r"^mlm\.mlm_class\b", "cls.predictions.decoder"),
    (r"^mlm\b", "cls.predictions.transform"),
)


def _from_authors(name: str) -> str:
    """Translate a parameter's name in the authors' own checkpoints (mlpen/Nystromformer)."""
    for pattern, replacement in _AUTHORS_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _split_foreign(
    found: dict[str, StoredTensor], wanted: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, StoredTensor], list[str]]:
    """Return the tensors of the wanted model, and the names of those that belong to another head."""
    # Token classification and multiple choice both have a "classifier.weight"; only the latter a "pre_classifier".
    another = _has_pre_classifier(found) != _has_pre_classifier(wanted)
    known = {name for name in wanted if not (another and name.startswith("classifier."))}
    if _BIAS in wanted:
        known.add(_DECODER)  # of a tied model, to be compared with the word embeddings
    own = {name: tensor for name, tensor in found.items() if name.startswith(_BODY) or name in known}
    return own, [tensor.name for name, tensor in found.items() if name not in own]


def _has_pre_classifier(names: Iterable[str]) -> bool:
    return any(name.startswith("pre_classifier.") for name in names)


def _check_names(
    source: str,
    found: Mapping[str, StoredTensor],
    wanted: Mapping[str, tuple[int, ...]],
    absent: list[str],
) -> None:
    missing = [name for name in absent if name.startswith(_BODY)]
    if missing:
        raise CheckpointError(f"{source} lacks {_listed(missing)}")
    unknown = [tensor.name for name, tensor in found.items() if name.startswith(_BODY) and name not in wanted]
    if unknown:
        raise CheckpointError(f"{source} has parameters unknown to the model: {_listed(unknown)}")
    present = [name for name in found if not name.startswith(_BODY)]
    if absent and present:
        raise CheckpointError(
            f"{source} has only a part of the head: it has {_listed(present)}, and lacks {_listed(absent)}"
        )


def _mismatched(
    found: Mapping[str, StoredTensor], wanted: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Return the tensors of another shape than the model's: their names in the file, that shape, and the model's."""
    expected = {name: wanted.get(name, wanted.get(_WORDS, ())) for name in found}  # the latter for a tied decoder
    return {name: (t.name, t.shape, expected[name]) for name, t in found.items() if t.shape != expected[name]}


def _check_tensors(found: Mapping[str, StoredTensor], wanted: Mapping[str, tuple[int, ...]]) -> None:
    for name, tensor in found.items():
        shape = tuple(wanted[name] if name in wanted else wanted[_WORDS])  # the latter for a tied decoder
        where = f"{tensor.path}: {tensor.name!r}"
        if tensor.shape != shape:
            raise CheckpointError(f"{where} has shape {tensor.shape}, expected {shape}")
        if tensor.dtype not in _DTYPES:
            raise CheckpointError(f"{where} has data type {tensor.dtype}, expected one of {', '.join(_DTYPES)}")


def _check_tie(found: Mapping[str, StoredTensor], wanted: Mapping[str, tuple[int, ...]]) -> None:
    if _DECODER not in found or _DECODER in wanted:
        return
    decoder, words = found[_DECODER], found[_WORDS]
    if not _same_bytes(decoder, words):
        raise CheckpointError(
            f"{decoder.path}: {decoder.name!r} differs from {words.name!r}, though the configuration "
            "ties them; tie_word_embeddings=False keeps both"
        )


def _same_bytes(one: StoredTensor, other: StoredTensor) -> bool:
    """Compare two tensors piece by piece, so that neither is in memory as a whole."""
    return one.dtype == other.dtype and all(a == b for a, b in zip(_pieces(one), _pieces(other), strict=True))


def _pieces(tensor: StoredTensor, length: int = 2**16) -> Iterator[bytes]:
    if tensor.data is not None:
        yield from (tensor.data[i : i + length].tobytes() for i in range(0, len(tensor.data), length))
        return
    with tensor.path.open("rb") as file:
        file.seek(tensor.start)
        for i in range(tensor.start, tensor.stop, length):
            yield file.read(min(length, tensor.stop - i))


def _view(tensor: StoredTensor, file: np.ndarray | None) -> np.ndarray:
    """Return a tensor as a read-only view of its mapped file; as a copy if it is unaligned or bfloat16."""
    stored = np.asarray(file)[tensor.start : tensor.stop] if tensor.data is None else tensor.data
    array = stored.view(_DTYPES[tensor.dtype]).reshape(tensor.shape)
    if tensor.dtype == "BF16":
        array = widen_bfloat16(array)
    elif not array.flags.aligned:
        array = array.copy()
    array.flags.writeable = False
    return array


def widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Convert bfloat16 numbers, given as bits, to float32. It is exact: their bits are the upper half of a float32's.

    Examples
    --------
    >>> widen_bfloat16(np.array([0x3FC0], np.uint16))
    array([1.5], dtype=float32)
    """
    wide = bits.astype(np.uint32)
    wide <<= 16  # in place: an array without axes stays an array
    return wide.view(np.float32)


def _storable(name: str, array: Any) -> np.ndarray:
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or array.dtype.itemsize not in (2, 4, 8):
        kind = getattr(array, "dtype", type(array).__name__)
        raise TypeError(f"{name!r} must be a float16, float32 or float64 NumPy array, not {kind}")
    return np.asarray(array, dtype=f"<f{array.dtype.itemsize}", order="C")


def _warn(source: str, absent: list[str], foreign: list[str], mismatched: Mapping[str, tuple[Any, Any, Any]]) -> None:
    drawn = f"drawn at random, as the checkpoint lacks them: {', '.join(absent) or 'none'}"
    ignored = f"ignored, as they belong to another head: {', '.join(foreign) or 'none'}"
    other = ", ".join(f"{name} {found}, expected {expected}" for name, (_, found, expected) in mismatched.items())
    shapes = f"; drawn at random, as they have another shape: {other}" if other else ""
    warnings.warn(f"parameters of {source} {drawn}; {ignored}{shapes}", UserWarning, stacklevel=4)


def _listed(names: Iterable[str]) -> str:
    """Return at most six of the names in one line, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - 6} more" if len(ordered) > 6 else ""
    return ", ".join(map(repr, ordered[:6])) + more
