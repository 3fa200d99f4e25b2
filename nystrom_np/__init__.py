"""Nyströmformer (Xiong et al., 2021, arXiv 2102.03902) in hand-written NumPy: readable, exact, free of PyTorch.

Read :mod:`nystrom_np.definition`: the whole model on one page, which is the program that runs.
"""

from importlib import import_module
from typing import Any

from nystrom_np.auto import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)
from nystrom_np.config import NystromformerConfig
from nystrom_np.model import (
    NystromformerForMaskedLM,
    NystromformerForMultipleChoice,
    NystromformerForQuestionAnswering,
    NystromformerForSequenceClassification,
    NystromformerForTokenClassification,
    NystromformerModel,
)
from nystrom_np.pipelines import pipeline
from nystrom_np.tokenization import NystromformerTokenizer

__version__ = "0.1.0"

_ELSEWHERE = {
    "AggregationStrategy": "pipelines",
    "AlbertTokenizerFast": "tokenization",
    "BatchEncoding": "tokenization",
    "DataCollatorForLanguageModeling": "collators",
    "DataCollatorForTokenClassification": "collators",
    "DataCollatorWithPadding": "collators",
    "DefaultDataCollator": "collators",
    "FeatureExtractionPipeline": "pipelines",
    "FillMaskPipeline": "pipelines",
    "Pipeline": "pipelines",
    "PipelineException": "pipelines",
    "QuestionAnsweringPipeline": "pipelines",
    "TextClassificationPipeline": "pipelines",
    "TokenClassificationPipeline": "pipelines",
    "default_data_collator": "collators",
}
"""Names that transformers has in its first room, and the room where they are here: they can be imported from both."""


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ELSEWHERE[name]}"), name)


__all__ = [
    "AutoConfig",
    "AutoModel",
    "AutoModelForMaskedLM",
    "AutoModelForMultipleChoice",
    "AutoModelForQuestionAnswering",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoTokenizer",
    "NystromformerConfig",
    "NystromformerForMaskedLM",
    "NystromformerForMultipleChoice",
    "NystromformerForQuestionAnswering",
    "NystromformerForSequenceClassification",
    "NystromformerForTokenClassification",
    "NystromformerModel",
    "NystromformerTokenizer",
    "pipeline",
]
