"""``feature-extraction``: the last hidden state of each token."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nystrom_np.array_module import to_numpy
from nystrom_np.model import NystromformerModel
from nystrom_np.pipelines.base import Encoding, Pipeline, PipelineOptions, check_choice, check_text

__all__ = ["FeatureExtractionOptions", "FeatureExtractionPipeline"]


@dataclass(frozen=True)
class FeatureExtractionOptions(PipelineOptions):
    """Options of ``feature-extraction``.

    Attributes
    ----------
    return_tensors : bool or "np"
        Whether to return a NumPy array instead of nested lists.
    truncation : bool or str
        Whether to cut a text that is too long, as for the tokenizer: to as many tokens as it and the model take.
    padding : bool or str, optional
        True fills a text up to the longest beside it. Each is alone here, so that changes nothing; a length to
        fill up to belongs into `tokenize_kwargs`.
    tokenize_kwargs : dict
        Further arguments of the tokenizer, such as ``{"max_length": 64}``.
    """

    return_tensors: Any = False
    truncation: Any = None
    padding: Any = None
    tokenize_kwargs: Any = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("padding", self.padding, (None, False, True, "longest", "do_not_pad"))
        check_choice("return_tensors", self.return_tensors, (False, True, "np"))
        if not isinstance(self.tokenize_kwargs, Mapping):
            raise TypeError(f"tokenize_kwargs must be a mapping; found {self.tokenize_kwargs!r}")
        if self.truncation is not None and "truncation" in self.tokenize_kwargs:
            raise ValueError("truncation is given twice: by itself and in tokenize_kwargs")


class FeatureExtractionPipeline(Pipeline[FeatureExtractionOptions]):
    """Turn a text into vectors, one a token.

    An answer is a nested list, or an array, of shape (1, tokens, ``hidden_size``), special tokens included.

    Notes
    -----
    Shapes and values are those of ``FeatureExtractionPipeline`` in transformers 4.37.2. Every checkpoint will do:
    its head is left out.

    Examples
    --------
    >>> from nystrom_np.pipelines import pipeline
    >>> extract = pipeline("feature-extraction", return_tensors="np")
    >>> features = extract("Paris")
    >>> features.shape == (1, len(extract.tokenizer("Paris").input_ids), extract.model.config.hidden_size)
    True
    """

    task = "feature-extraction"
    head = NystromformerModel
    options = FeatureExtractionOptions

    def encode(self, item: Any, options: FeatureExtractionOptions) -> tuple[None, list[Encoding]]:
        """Tokenise a text."""
        arguments = {"truncation": options.truncation, **options.tokenize_kwargs}
        return None, [self._tokenized(check_text("an input", item), **arguments)]

    def answer(self, known: None, outputs: list[Any], options: FeatureExtractionOptions) -> Any:
        """Take the last hidden state."""
        features = to_numpy(outputs[0].last_hidden_state)
        return features if options.return_tensors else features.tolist()
