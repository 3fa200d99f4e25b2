"""Write a vector for each line of a file, in bounded memory; an interrupted run is resumed by the next."""

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nystrom_np.array_module import to_numpy
from nystrom_np.fast.on_numpy.threads import thread_count
from nystrom_np.files import JSON_LINES, json_values, text_lines
from nystrom_np.growing import growing
from nystrom_np.model import NystromformerModel
from nystrom_np.model.prediction import batches
from nystrom_np.pipelines.feature_extraction import FeatureExtractionPipeline
from nystrom_np.pipelines.loading import load_whole, shipped_weights
from nystrom_np.progress import with_progress
from nystrom_np.tokenization import NystromformerTokenizer

__all__ = ["Embedded", "embed"]

POOLING = ("mean", "first")
LINES_PER_BATCH = 32


class Embedded(NamedTuple):
    """The result of `embed`.

    Attributes
    ----------
    output : Path
        The file.
    rows, width : int
        Its shape: a vector for each line.
    resumed_at : int
        How many rows earlier runs had written.
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
        JSON Lines: each line is a string, or an object with a string under `field`.
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
        Whether to show a progress bar; by default in a terminal, after a second.
    **config_overrides
        Fields of the configuration to change.

    Returns
    -------
    Embedded

    Raises
    ------
    FileExistsError
        If the output exists, or an interrupted run left a part of it that is of another text, model or setting.
    BlockingIOError
        If another process is writing the same output.
    OSError
        If a file is missing, or cannot be written.
    ValueError
        If an argument is wrong, or a line is not a text: all lines are read before anything is computed.

    Notes
    -----
    A text is cut to as many tokens as the model takes. Its vector does not depend on the lines around it, and an
    interruption does not change it: the bytes of the output are those of an uninterrupted run.

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
    output = Path(output)
    if pooling not in POOLING:
        raise ValueError(f"pooling must be one of {', '.join(POOLING)}; found {pooling!r}")
    if output.suffix not in HEADERS:
        raise ValueError(f"the output must be named *{' or *'.join(HEADERS)}; found {output.name!r}")
    texts = _Texts(Path(source), field)
    count = sum(1 for _ in texts)  # reads every line, so that a wrong one is found before anything is computed
    extract = _extractor(model, dtype, device, config_overrides)
    width, kind = extract.model.config.hidden_size, extract.model.dtype
    plan = _plan(texts, extract, pooling)
    header = HEADERS[output.suffix](count, width, kind)
    with growing(output, header, width * kind.itemsize, count, plan) as rows:
        resumed_at = rows.count
        remaining = with_progress(islice(texts, resumed_at, None), progress, count - resumed_at)
        for batch in batches(remaining, LINES_PER_BATCH):
            vectors = np.stack([_pooled(tokens[0], pooling) for tokens in extract(batch)])
            rows.append(vectors.astype(kind.newbyteorder("<"), copy=False).tobytes(), len(batch))
        if texts.digest != plan["source"]:
            raise OSError(f"{source} changed while it was read")
    return Embedded(output, count, width, resumed_at)


class _Texts:
    """The texts of a file, one a line; after each reading to the end, the digest of its bytes."""

    def __init__(self, path: Path, field: str) -> None:
        self.path = path
        self.field = field
        self.is_json = path.suffix.lower() in JSON_LINES
        self.digest = ""

    def __iter__(self) -> Iterator[str]:
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            lines = text_lines(_digested(file, digest), self.path)
            for place, value in json_values(lines) if self.is_json else lines:
                text = value.get(self.field) if isinstance(value, dict) else value
                if not isinstance(text, str):
                    expected = f"a string, or an object with a string under {self.field!r}"
                    raise ValueError(f"{place} is not {expected}")
                yield text
        self.digest = digest.hexdigest()


def _digested(lines: Iterable[bytes], digest: Any) -> Iterator[bytes]:
    for line in lines:
        digest.update(line)
        yield line


def _extractor(model: Any, dtype: str, device: str, config_overrides: dict[str, Any]) -> FeatureExtractionPipeline:
    """Return the pipeline that turns texts into hidden states, each cut to the model's length."""
    folder = shipped_weights() / "masked-lm" if model is None else model
    tokenizer = NystromformerTokenizer.from_pretrained(folder)
    body = load_whole(NystromformerModel, folder, dtype, device, **config_overrides)
    longest = min(tokenizer.model_max_length, body.config.max_position_embeddings)
    arguments = {"truncation": True, "max_length": longest}
    return FeatureExtractionPipeline(body, tokenizer, LINES_PER_BATCH, return_tensors="np", tokenize_kwargs=arguments)


def _pooled(tokens: np.ndarray, pooling: str) -> np.ndarray:
    """One vector (D,) of the hidden states (L, D) of a text."""
    if pooling == "first":
        return tokens[0]
    return tokens.mean(axis=0, dtype=np.float64).astype(tokens.dtype)


def _plan(texts: _Texts, extract: FeatureExtractionPipeline, pooling: str) -> dict[str, Any]:
    """All that the bytes of the output depend on: a run resumes another only if this is the same."""
    from nystrom_np import __version__

    model = extract.model
    return {
        "source": texts.digest,
        "field": texts.field if texts.is_json else None,
        "model": _digest_of(extract),
        "pooling": pooling,
        "dtype": model.dtype.name,
        "device": model.device,
        "lines per batch": LINES_PER_BATCH,
        "threads": thread_count(),  # matrices are cut for them, and the rounding of pieces depends on the cuts
        "versions": f"nystrom_np {__version__}, NumPy {np.__version__}",
    }


def _digest_of(extract: FeatureExtractionPipeline) -> str:
    """A digest of the content of configuration, parameters and tokenizer, not of where they lie."""
    digest = hashlib.sha256(extract.model.config.to_json_string(use_diff=False).encode())
    digest.update(extract.tokenizer.backend.to_str().encode())
    for name, value in extract.model.state_dict().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(to_numpy(value)).data)
    return digest.hexdigest()


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
