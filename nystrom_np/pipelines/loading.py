"""Where a pipeline's model comes from: a checkpoint in which nothing is missing."""

import os
import warnings
from pathlib import Path
from typing import Any

__all__ = ["load_whole", "shipped_weights"]


def shipped_weights() -> Path:
    """Return the folder of the checkpoints that come with the package.

    Returns
    -------
    Path
        Inside the installed package, or ``weights/`` beside it in a clone.

    Raises
    ------
    FileNotFoundError
        If there is neither.

    Examples
    --------
    >>> (shipped_weights() / "masked-lm" / "config.json").exists()
    True
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_weights", package.parent / "weights"):
        if (folder / "masked-lm").is_dir():
            return folder
    raise FileNotFoundError(f"the shipped checkpoints are neither in {package / '_weights'} nor beside {package}")


def load_whole(
    head: Any, folder: str | os.PathLike[str], dtype: Any = "float32", device: Any = "cpu", **options: Any
) -> Any:
    """Load a model, and refuse a head whose parameters are not in the file.

    Parameters
    ----------
    head : class
        One of the package's models.
    folder : str or path
        A checkpoint.
    dtype, device : str
        As for ``from_pretrained``.
    **options
        As for ``from_pretrained``.

    Returns
    -------
    model

    Raises
    ------
    OSError, ValueError
        As ``from_pretrained``, and if it would have to make up parameters: what a random head says means
        nothing.

    Examples
    --------
    >>> from nystrom_np import NystromformerForQuestionAnswering
    >>> load_whole(NystromformerForQuestionAnswering, shipped_weights() / "masked-lm")
    Traceback (most recent call last):
    ...
    ValueError: ...masked-lm holds no NystromformerForQuestionAnswering: ... are missing
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "parameters of ", UserWarning)  # of what is an error here
        model = head.from_pretrained(folder, dtype=dtype, device=device, **{**options, "output_loading_info": False})
    if model.initialised:
        why = "missing or of another shape" if options.get("ignore_mismatched_sizes") else "missing"
        raise ValueError(f"{folder} holds no {head.__name__}: {', '.join(model.initialised)} are {why}")
    return model
