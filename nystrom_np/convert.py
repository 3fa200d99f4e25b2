"""Converting checkpoints of ``torch.save`` to folders of safetensors, which load without torch."""

import os
import re
import shutil
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nystrom_np import model as models
from nystrom_np.checkpoint import FILE_NAME, CheckpointError, load_checkpoint, read_shards, unwrapped
from nystrom_np.config import NystromformerConfig
from nystrom_np.files import check_link, read_json_object, with_variant
from nystrom_np.hub import PICKLES, TOKENIZER, local_folder
from nystrom_np.tokenization import NystromformerTokenizer
from nystrom_np.torch_archive import read_state_dict

__all__ = ["Converted", "convert"]

PICKLE, INDEX = PICKLES
TOKENIZER_FILES = (*TOKENIZER, "spiece.model")
HEADS = (  # the first whose pattern fits a parameter's name; the last pattern fits the two heads before, too
    (r"^cls\.predictions\.|\bmlm\.", models.NystromformerForMaskedLM),
    (r"^qa_outputs\.", models.NystromformerForQuestionAnswering),
    (r"^pre_classifier\.", models.NystromformerForMultipleChoice),
    (r"^classifier\.out_proj\.", models.NystromformerForSequenceClassification),
    (r"^classifier\.", models.NystromformerForTokenClassification),
)


class Converted(NamedTuple):
    """The result of `convert`.

    Attributes
    ----------
    folder : Path
        Where the new checkpoint is.
    model : str
        The name of the class that loads it.
    parameters : int
        How many numbers it holds.
    dtype : str
        Their type: that of the original, or float32 if that is bfloat16.
    tokenizer : bool
        Whether there was a tokenizer to copy.
    """

    folder: Path
    model: str
    parameters: int
    dtype: str
    tokenizer: bool


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    config: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    *,
    subfolder: str = "",
    variant: str | None = None,
) -> Converted:
    """Turn a checkpoint of ``torch.save`` into a folder of safetensors, which is loaded and compared as a check.

    Parameters
    ----------
    source : str or path
        A folder with ``pytorch_model.bin`` or its shards; a file of any name, such as the authors' own checkpoints;
        or the ``owner/name`` of a repository on the Hugging Face Hub.
    target : str or path
        The folder to make. It must not exist or must be empty, and is there only if all went well.
    config : str or path, optional
        The ``config.json`` to use; by default the one beside the weights.
    revision : str, optional
        A branch, a tag or a commit of a repository.
    subfolder : str
        Where the files are in the folder or the repository.
    variant : str, optional
        Which of several sets of weights: "fp16" for ``pytorch_model.fp16.bin``. What is made has no variant.

    Returns
    -------
    Converted
        What was made. Its parameters have the names of transformers' state dict, whatever their names were before.

    Raises
    ------
    FileExistsError
        If the target exists and is not an empty folder.
    OSError
        If a file is missing or the target cannot be written.
    ValueError
        If the file is not a Nyströmformer's checkpoint, is damaged, or holds more than tensors: see
        :func:`nystrom_np.torch_archive.load_archive`.

    Warns
    -----
    UserWarning
        If the file has the parameters of a second head, which are left out.

    Examples
    --------
    >>> convert("no/such/folder", "here")
    Traceback (most recent call last):
    FileNotFoundError: no/such/folder is neither a folder with pytorch_model.bin nor a file
    """
    target = Path(target)
    _check_free(target)
    folder, tensors = _read(source, revision, subfolder, variant)
    tensors = unwrapped(tensors, source)
    path = folder / "config.json" if config is None else Path(config)
    settings = NystromformerConfig.from_dict(read_json_object(path))
    with _replacing_folder(target) as work:
        raw, made = work / "raw", work / "made"
        _write_raw(raw, tensors)
        model = _load(raw, settings, tensors, source)
        model.save_pretrained(made)
        has_tokenizer = _copy_tokenizer(folder, made)
        _verify(model, made, source)
        return Converted(target, type(model).__name__, model.num_parameters(), model.dtype.name, has_tokenizer)


def _check_free(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
        raise FileExistsError(f"{target} exists already and is not an empty folder")


def _read(
    source: str | os.PathLike[str], revision: str | None, subfolder: str, variant: str | None
) -> tuple[Path, dict[str, np.ndarray]]:
    """Return the folder of the checkpoint, and its tensors."""
    path = Path(source)
    if path.is_file():
        return path.parent, read_state_dict(path)
    folder = local_folder(source, "pickle", revision, subfolder=subfolder, variant=variant)
    pickle, index = with_variant(PICKLE, variant), with_variant(INDEX, variant)
    if (folder / pickle).is_file():
        return folder, read_state_dict(folder / pickle)
    if (folder / index).is_file():
        return folder, read_shards(folder / index, read_state_dict)
    raise FileNotFoundError(f"{folder} is neither a folder with {pickle} nor a file")


def _head_of(names: Mapping[str, Any]) -> Any:
    """Return the class of the model that a checkpoint is of, by its parameters' names."""
    for pattern, head in HEADS:
        if any(re.search(pattern, name) for name in names):
            return head
    return models.NystromformerModel


def _common_dtype(tensors: Mapping[str, np.ndarray]) -> str:
    floats = [array.dtype for array in tensors.values() if array.dtype.kind == "f"]
    return np.result_type(*floats).name if floats else "float32"


def _write_raw(folder: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write the tensors under their original names, for `load_checkpoint` to make these canonical."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file, save_file

    folder.mkdir()
    try:
        save_file({name: np.asarray(array, order="C") for name, array in tensors.items()}, folder / FILE_NAME)
    except SafetensorError as error:
        raise CheckpointError(f"its tensors cannot be written as safetensors: {error}") from None
    written = load_file(folder / FILE_NAME)
    if not all(np.array_equal(written[name], array, equal_nan=True) for name, array in tensors.items()):
        raise OSError(f"{folder} does not hold what was written to it")


def _load(raw: Path, config: NystromformerConfig, tensors: Mapping[str, np.ndarray], source: Any) -> Any:
    """Return the model whose parameters the tensors are."""
    head = _head_of(tensors)
    shapes = head.parameter_shapes(config)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it would name a temporary folder
            loaded = load_checkpoint(raw, shapes, tied=config.tie_word_embeddings)
    except CheckpointError as error:
        found = str(error).replace(str(raw / FILE_NAME), str(source)).replace(str(raw), str(source))
        raise CheckpointError(found) from None
    if loaded.initialised:
        raise CheckpointError(f"{source} lacks {', '.join(loaded.initialised)} of a {head.__name__}")
    if loaded.ignored:
        left_out = f"{', '.join(loaded.ignored)} of {source} are left out"
        warnings.warn(f"{left_out}: they are no part of a {head.__name__}", UserWarning, stacklevel=3)
    dtype = _common_dtype(tensors)
    return head(config, parameters={name: x.astype(dtype, copy=False) for name, x in loaded.parameters.items()})


def _copy_tokenizer(source: Path, target: Path) -> bool:
    """Copy the tokenizer's files, and load it as a check. Return whether there is a ``tokenizer.json``."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            check_link(source / name)
            shutil.copyfile(source / name, target / name)
    if not (target / TOKENIZER_FILES[0]).is_file():
        return False
    NystromformerTokenizer.from_pretrained(target)
    return True


def _verify(model: Any, folder: Path, source: str | os.PathLike[str]) -> None:
    """Load the new checkpoint, and compare it bit for bit with the model that was read."""
    again = type(model).from_pretrained(folder, dtype=model.dtype)
    found, expected = again.state_dict(), model.state_dict()
    same = all(found[name].tobytes() == value.tobytes() for name, value in expected.items())
    if again.initialised or found.keys() != expected.keys() or not same:
        raise OSError(f"{source} was converted, but what was written is not what was read")


@contextmanager
def _replacing_folder(target: Path) -> Iterator[Path]:
    """Yield a folder beside the target to work in; at the end, its folder "made" is renamed to the target."""
    work = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    work.mkdir(parents=True)
    try:
        yield work
        _check_free(target)
        if target.exists():
            target.rmdir()  # it is empty; on some systems no folder can be renamed to one that exists
        (work / "made").rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
