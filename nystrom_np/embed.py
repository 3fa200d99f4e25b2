"""Write a vector for each line of a file, in bounded memory; an interrupted run is resumed by the next."""

import hashlib
import io
import json
import os
import shutil
import stat
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from nystrom_np import text_vectors
from nystrom_np.fast.on_numpy.threads import thread_count
from nystrom_np.files import JSON_LINES, check_path
from nystrom_np.growing import GrowingFile, growing
from nystrom_np.progress import progress_bar
from nystrom_np.text_vectors import POOLING, TextVectors, Window, beside, lines_of, windows

__all__ = ["Embedded", "embed"]


class Embedded(NamedTuple):
    """The result of `embed`.

    Attributes
    ----------
    output : Path
        The file.
    rows, width : int
        Its shape: a vector for each line.
    resumed_at : int
        How many rows of earlier runs were kept.
    """

    output: Path
    rows: int
    width: int
    resumed_at: int


def embed(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    model: str | os.PathLike[str] | None = None,
    pooling: str = "mean",
    field: str = "text",
    dtype: str = "float32",
    device: str = "cpu",
    progress: bool | None = None,
    **config_overrides: Any,
) -> Embedded:
    r"""Write a vector for each line of a file. After an interruption, the same call resumes the work.

    Parameters
    ----------
    source : str or path
        A text file in UTF-8: each line is a text, also an empty one. Or, if its suffix is ``.jsonl`` or ``.ndjson``,
        JSON Lines: each line is a string, or an object with a string under `field`. A pipe, such as ``/dev/stdin``,
        is first copied to a file beside the output, which has no name and goes with the process.
    output : str or path
        A name that ends in ``.npy``, or in ``.safetensors`` for a file with one tensor, "embeddings". Row i is line i.
    model : str or path, optional
        A checkpoint's folder or its name on the Hugging Face Hub; the shipped masked language model by default.
    pooling : {"mean", "first"}
        The mean of the last hidden states of all tokens, or the last hidden state of the first token, ``[CLS]``.
    field : str
        The key of the text in an object of JSON Lines.
    dtype, device : str
        As for ``from_pretrained``; the vectors have this dtype.
    progress : bool, optional
        Whether to show a progress bar, with lines and tokens a second; by default in a terminal, after a second.
    **config_overrides
        Fields of the configuration to change.

    Returns
    -------
    Embedded

    Raises
    ------
    FileExistsError
        If the output exists or appears meanwhile, or an interrupted run left a part of it that is of another text,
        model or setting.
    BlockingIOError
        If another process is writing the same output.
    OSError
        If a file is missing, cannot be written, or changes while it is read.
    TypeError
        If a path is something else.
    ValueError
        If an argument is wrong, or a line is not a text or longer than 64 MiB: all lines are read before anything is
        computed.

    Warns
    -----
    UserWarning
        If texts were cut, how many of those that this run made vectors of.

    Notes
    -----
    A text is cut to as many tokens as the model takes, and before that to 64 characters for each of them. Lines are
    taken in windows of at most 512, of which those of about one length run together. A vector does not depend on the
    lines around it but in rounding: in float32 by some 10⁻⁶ of the largest. An interruption changes nothing at all,
    since the windows depend on the source alone: the bytes of the output are those of an uninterrupted run, if both
    ran on the same processor, with as many threads and the same versions of this package and NumPy.

    Of each window that is done, a digest of its lines is kept. The next run keeps its rows if they are still the same.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     source, output = Path(folder) / "lines.txt", Path(folder) / "lines.npy"
    ...     _ = source.write_text("Paris is the capital of France.\nA dog.\n")
    ...     made = embed(source, output)
    ...     np.load(output).shape == (made.rows, made.width) == (2, made.width)
    True
    """
    for name, path in {"source": source, "output": output, **({} if model is None else {"model": model})}.items():
        check_path(name, path)
    output = Path(output)
    if pooling not in POOLING:
        raise ValueError(f"pooling must be one of {', '.join(POOLING)}; found {pooling!r}")
    if output.suffix not in HEADERS:
        raise ValueError(f"the output must be named *{' or *'.join(HEADERS)}; found {output.name!r}")
    with _readable_twice(Path(source), output.parent) as file:
        lines = _Lines(file, Path(source), field)
        count = sum(len(window.texts) for window in lines)  # a wrong line is found before anything is computed
        make = TextVectors.of(model, pooling, dtype, device, config_overrides)
        plan = _plan(lines, make, pooling)
        header = HEADERS[output.suffix](count, make.width, make.model.dtype)
        with growing(output, header, make.width * make.model.dtype.itemsize, count, plan) as rows:
            made, cut = _append_all(rows, lines, make, progress, count)
            if lines.digest != plan["source"]:
                raise OSError(f"{source} changed while it was read")
    if cut:
        warnings.warn(f"{cut:,} of {made:,} texts were cut to {make.longest} tokens", stacklevel=2)
    return Embedded(output, count, make.width, rows.kept)


def _append_all(
    rows: GrowingFile, lines: "_Lines", make: TextVectors, progress: bool | None, count: int
) -> tuple[int, int]:
    """Keep the rows of windows that are as they were; append those of the others, and count them and the texts cut."""
    remaining = iter(lines)
    changed = next((window for window in remaining if not rows.keeps(len(window.texts), window.digest)), None)
    todo = chain([] if changed is None else [changed], remaining)
    tokenised = beside((window, *make.cut(window.texts)) for window in todo)
    began, tokens, made, cut = time.monotonic(), 0, 0, 0
    with progress_bar(progress, count, initial=rows.count, unit=" lines") as bar:
        for window, encodings, shortened in tokenised:
            vectors = make.vectors(encodings)
            rows.append(vectors.astype(vectors.dtype.newbyteorder("<")).tobytes(), len(vectors), window.digest)
            tokens += sum(len(row["input_ids"]) for row in encodings)
            made, cut = made + len(vectors), cut + shortened
            bar.set_postfix_str(f"{tokens / (time.monotonic() - began):,.0f} tokens/s", refresh=False)
            bar.update(len(vectors))
    return made, cut


@contextmanager
def _readable_twice(source: Path, folder: Path) -> Iterator[IO[bytes]]:
    """Open a file that can be read more than once: of a pipe, a copy without a name, which goes with the process."""
    mode = source.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        raise ValueError(f"{source} is neither a file nor a pipe")
    with source.open("rb") as file:  # if it is a folder, this says so
        if file.seekable():
            yield file
            return
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as copy:
            shutil.copyfileobj(file, copy)
            copy.flush()
            yield copy


class _Lines:
    """The windows of an open file; after each reading to the end, the digest of all of it."""

    def __init__(self, file: IO[bytes], source: Path, field: str) -> None:
        self.file, self.source = file, source
        self.field = field
        self.is_json = source.suffix.lower() in JSON_LINES
        self.digest = ""

    def __iter__(self) -> Iterator[Window]:
        self.digest, digest = "", hashlib.sha256()
        with os.fdopen(os.dup(self.file.fileno()), "rb") as file:  # whose buffer is empty
            file.seek(0)
            lines = lines_of(file, self.source)
            for window in windows(lines, self.source, self.field, self.is_json):
                digest.update(window.digest.encode())
                yield window
        self.digest = digest.hexdigest()


def _plan(lines: _Lines, make: TextVectors, pooling: str) -> dict[str, Any]:
    """All that the bytes of the output depend on: a run resumes another only if this is the same."""
    from nystrom_np import __version__

    return {
        "source": lines.digest,
        "field": lines.field if lines.is_json else None,
        "model": make.digest(),
        "pooling": pooling,
        "dtype": make.model.dtype.name,
        "device": make.model.device,
        "window": [text_vectors.LINES_PER_WINDOW, text_vectors.BYTES_PER_WINDOW],
        "batch": [text_vectors.LINES_PER_BATCH, text_vectors.TOKENS_PER_BATCH],
        "threads": thread_count(),  # matrices are cut for them, and the rounding of pieces depends on the cuts
        "versions": f"nystrom_np {__version__}, NumPy {np.__version__}",
    }


def _npy_header(rows: int, width: int, dtype: np.dtype) -> bytes:
    header = io.BytesIO()
    description = {"descr": dtype.newbyteorder("<").str, "fortran_order": False, "shape": (rows, width)}
    np.lib.format.write_array_header_1_0(header, description)
    return header.getvalue()


def _safetensors_header(rows: int, width: int, dtype: np.dtype) -> bytes:
    """The length of the JSON in eight bytes, then the JSON: what the format asks for."""
    tensor = {"dtype": f"F{8 * dtype.itemsize}", "shape": [rows, width]}
    description = {"embeddings": {**tensor, "data_offsets": [0, rows * width * dtype.itemsize]}}
    text = json.dumps(description).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


HEADERS = {".npy": _npy_header, ".safetensors": _safetensors_header}
