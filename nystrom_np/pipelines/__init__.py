"""Text in, answers out: the pipelines of transformers, by their names.

>>> from nystrom_np.pipelines import pipeline
>>> fill = pipeline("fill-mask")  # the checkpoint that comes with the package; model=folder takes another
>>> len(fill("Paris is the [MASK] of France.", top_k=3))
3
"""

import os
from typing import Any

from nystrom_np.hub import repository_options
from nystrom_np.pipelines.base import Pipeline, PipelineException, PipelineOptions, check_choice, trained_length
from nystrom_np.pipelines.feature_extraction import FeatureExtractionOptions, FeatureExtractionPipeline
from nystrom_np.pipelines.fill_mask import FillMaskOptions, FillMaskPipeline
from nystrom_np.pipelines.loading import load_whole, shipped_weights
from nystrom_np.pipelines.multiple_choice import MultipleChoiceOptions, MultipleChoicePipeline
from nystrom_np.pipelines.question_answering import QuestionAnsweringOptions, QuestionAnsweringPipeline
from nystrom_np.pipelines.text_classification import TextClassificationOptions, TextClassificationPipeline
from nystrom_np.pipelines.token_classification import (
    AggregationStrategy,
    TokenClassificationOptions,
    TokenClassificationPipeline,
)
from nystrom_np.tokenization import NystromformerTokenizer

__all__ = [
    "AggregationStrategy",
    "FeatureExtractionOptions",
    "FeatureExtractionPipeline",
    "FillMaskOptions",
    "FillMaskPipeline",
    "MultipleChoiceOptions",
    "MultipleChoicePipeline",
    "Pipeline",
    "PipelineException",
    "PipelineOptions",
    "QuestionAnsweringOptions",
    "QuestionAnsweringPipeline",
    "TextClassificationOptions",
    "TextClassificationPipeline",
    "TokenClassificationOptions",
    "TokenClassificationPipeline",
    "load_whole",
    "pipeline",
    "shipped_weights",
    "trained_length",
]

SHIPPED: dict[Any, str] = {
    FillMaskPipeline: "masked-lm",
    TextClassificationPipeline: "sequence-classification",
    TokenClassificationPipeline: "token-classification",
    QuestionAnsweringPipeline: "question-answering",
    MultipleChoicePipeline: "multiple-choice",
    FeatureExtractionPipeline: "masked-lm",
}
"""The pipelines, and the checkpoint that each takes where none is given."""

TASKS: dict[str, Any] = {cls.task: cls for cls in SHIPPED}
ALIASES = {"sentiment-analysis": "text-classification", "ner": "token-classification"}


def pipeline(
    task: Any,
    model: Any = None,
    tokenizer: Any = None,
    device: Any = "cpu",
    dtype: Any = "float32",
    batch_size: Any = 32,
    model_kwargs: Any = None,
    *,
    revision: Any = None,
    torch_dtype: Any = None,
    config: Any = None,
    token: Any = None,
    device_map: Any = None,
    trust_remote_code: Any = None,
    framework: Any = None,
    use_fast: Any = True,
    **options: Any,
) -> Any:
    """Make a pipeline.

    Parameters
    ----------
    task : str
        ``"fill-mask"``, ``"text-classification"`` (or ``"sentiment-analysis"``), ``"token-classification"`` (or
        ``"ner"``), ``"question-answering"``, ``"multiple-choice"`` or ``"feature-extraction"``.
    model : str, path or model, optional
        A checkpoint's folder or its name on the Hugging Face Hub, or a model with the task's head. By default the
        checkpoint that comes with the package.
    tokenizer : str, path or NystromformerTokenizer, optional
        By default that of the checkpoint.
    device : str or int, optional
        ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; None or -1, and N mean the same. A model that is given stays where it is.
    dtype : {"float32", "float64", "float16"}
        Of a checkpoint's parameters in memory.
    batch_size : int
        How many sequences are read and held at a time.
    model_kwargs : dict, optional
        Further arguments of ``from_pretrained``, such as ``{"num_landmarks": 32}``, to override the configuration.
    revision : str, optional
        Of a repository: see :func:`nystrom_np.hub.local_folder`.
    torch_dtype : str or dtype, optional
        Another name of `dtype`.
    config, token, device_map, trust_remote_code
        As for ``from_pretrained``.
    framework : {None, "pt"}
        Without effect, as is `use_fast`: there is one framework here, and one kind of tokenizer.
    **options
        Of the task: see :class:`.FillMaskOptions` and its like. Each call may say otherwise.

    Returns
    -------
    Pipeline
        Call it with one input for its answer, with a list for a list of answers, with an iterator for an iterator
        over answers, in order, which reads `batch_size` inputs ahead and no more.

    Raises
    ------
    OSError
        If a file is missing or unreadable.
    TypeError
        If `task` has no such option, or an argument has the wrong type.
    ValueError
        If there is no such task, an option has a wrong value, or the head's parameters are not in the file.

    Examples
    --------
    >>> extract = pipeline("feature-extraction", return_tensors="np")
    >>> [features.shape[0] for features in extract(text for text in ("One.", "Two words."))]
    [1, 1]
    """
    name = ALIASES.get(task, task) if isinstance(task, str) else task
    if name not in TASKS:
        raise ValueError(f"task must be one of {', '.join([*TASKS, *ALIASES])}; found {task!r}")
    check_choice("framework", framework, (None, "pt"))
    cls = TASKS[name]
    model = shipped_weights() / SHIPPED[cls] if model is None else model
    if isinstance(model, str | os.PathLike):
        dtype = dtype if torch_dtype is None else torch_dtype
        asked = {"revision": revision, "token": token, "config": config, "device_map": device_map}
        given = {name: value for name, value in asked.items() if value is not None} | (model_kwargs or {})
        folder, arguments = model, {"dtype": dtype, "device": _device(device)} | given
        model = load_whole(cls.head, folder, **arguments)
        if tokenizer is None:
            at = repository_options(dict(given))
            tokenizer = NystromformerTokenizer.from_pretrained(folder, **at)
    if tokenizer is None:
        raise ValueError(f"{name} needs a tokenizer beside a model that is not a folder")
    if isinstance(tokenizer, str | os.PathLike):
        tokenizer = NystromformerTokenizer.from_pretrained(tokenizer)
    return cls(model, tokenizer, batch_size, **options)


def _device(device: Any) -> str:
    if device is None:
        return "cpu"
    if isinstance(device, int) and not isinstance(device, bool):
        return "cpu" if device == -1 else f"cuda:{device}"
    return str(device)
