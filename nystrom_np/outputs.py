"""What a forward call returns: records that can also be read as a tuple or a mapping."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from dataclasses import dataclass, fields
from typing import Any

from nystrom_np.array_module import Array

__all__ = [
    "BaseModelOutput",
    "MaskedLMOutput",
    "MultipleChoiceModelOutput",
    "QuestionAnsweringModelOutput",
    "SequenceClassifierOutput",
    "TokenClassifierOutput",
]


@dataclass(eq=False)  # comparing arrays gives an array, so a record equals only itself
class ModelOutput:
    """A dataclass whose fields that are not None can be read by name, by index or as a mapping."""

    def _present(self) -> dict[str, Any]:
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in named if value is not None}

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the values that are not None, in the order of the fields."""
        return tuple(self._present().values())

    def keys(self) -> KeysView[str]:
        """Return the names of the fields that are not None."""
        return self._present().keys()

    def values(self) -> ValuesView[Any]:
        """Return the values that are not None."""
        return self._present().values()

    def items(self) -> ItemsView[str, Any]:
        """Return the names and values of the fields that are not None."""
        return self._present().items()

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field's value, or `default` where it is None or there is no such field."""
        return self._present().get(name, default)

    def __getitem__(self, key: str | int | slice) -> Any:
        return self._present()[key] if isinstance(key, str) else self.to_tuple()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._present())

    def __contains__(self, name: object) -> bool:
        return name in self._present()

    def __len__(self) -> int:
        return len(self._present())


@dataclass(eq=False)
class BaseModelOutput(ModelOutput):
    """What `NystromformerModel` returns.

    Like every record here it can be read by attribute, by name (``out["last_hidden_state"]``), by index or slice
    (``out[0]``), and as a mapping. Fields that are None exist only as attributes.

    Attributes
    ----------
    last_hidden_state : array, (B, L, D)
        The last layer's output.
    hidden_states : tuple of num_hidden_layers + 1 arrays (B, L, D), optional
        The embeddings' output and each layer's, if asked for.
    attentions : tuple of num_hidden_layers arrays, optional
        Each layer's attention, if asked for: (B, H, L, L) on the dense branch, and on the Nyström branch
        (B, H, L, m), the first kernel times the inverse.

    Examples
    --------
    >>> import numpy as np
    >>> out = BaseModelOutput(last_hidden_state=np.zeros((1, 4, 8)))
    >>> out[0] is out["last_hidden_state"] is out.last_hidden_state, out.attentions, list(out)
    (True, None, ['last_hidden_state'])
    """

    last_hidden_state: Array = None
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


@dataclass(eq=False)
class _LogitsRecord(ModelOutput):
    """The fields that four of the heads' outputs have in common."""

    loss: Array = None
    logits: Array = None
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


class MaskedLMOutput(_LogitsRecord):
    """What `NystromformerForMaskedLM` returns.

    Attributes
    ----------
    loss : array, (), optional
        The cross-entropy, if there were labels.
    logits : array, (B, L, V)
        A score for each token of the vocabulary at each position.
    hidden_states, attentions : tuple of arrays, optional
        As in `BaseModelOutput`.
    """


class SequenceClassifierOutput(_LogitsRecord):
    """What `NystromformerForSequenceClassification` returns.

    Attributes
    ----------
    loss : array, (), optional
        The loss that the problem type names, if there were labels.
    logits : array, (B, C)
        A score for each of C labels.
    hidden_states, attentions : tuple of arrays, optional
        As in `BaseModelOutput`.
    """


class MultipleChoiceModelOutput(_LogitsRecord):
    """What `NystromformerForMultipleChoice` returns.

    Attributes
    ----------
    loss : array, (), optional
        The cross-entropy over the choices, if there were labels.
    logits : array, (B, C)
        A score for each choice.
    hidden_states, attentions : tuple of arrays, optional
        As in `BaseModelOutput`, with B · C for B.
    """


class TokenClassifierOutput(_LogitsRecord):
    """What `NystromformerForTokenClassification` returns.

    Attributes
    ----------
    loss : array, (), optional
        The cross-entropy, if there were labels.
    logits : array, (B, L, C)
        A score for each label at each position.
    hidden_states, attentions : tuple of arrays, optional
        As in `BaseModelOutput`.
    """


@dataclass(eq=False)
class QuestionAnsweringModelOutput(ModelOutput):
    """What `NystromformerForQuestionAnswering` returns.

    Attributes
    ----------
    loss : array, (), optional
        The mean of the start's and the end's cross-entropy, if there were positions.
    start_logits, end_logits : array, (B, L)
        How well the answer's first and last token would lie at each position.
    hidden_states, attentions : tuple of arrays, optional
        As in `BaseModelOutput`.
    """

    loss: Array = None
    start_logits: Array = None
    end_logits: Array = None
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None
