"""The names that code written for transformers loads by: they read ``config.json``, which says what model it is.

There is one model here, so each of these stands for one class; a configuration of another model is refused.
"""

import os
from typing import Any, ClassVar

from nystrom_np.config import NystromformerConfig
from nystrom_np.files import also_called
from nystrom_np.hub import local_folder, repository_options
from nystrom_np.model import (
    NystromformerForMaskedLM,
    NystromformerForMultipleChoice,
    NystromformerForQuestionAnswering,
    NystromformerForSequenceClassification,
    NystromformerForTokenClassification,
    NystromformerModel,
)
from nystrom_np.tokenization import NystromformerTokenizer

__all__ = [
    "AutoConfig",
    "AutoModel",
    "AutoModelForMaskedLM",
    "AutoModelForMultipleChoice",
    "AutoModelForQuestionAnswering",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoTokenizer",
]

Name = str | os.PathLike[str]


class _Auto:
    """A name to load by, of which there are no instances."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise OSError(f"{type(self).__name__} is made by {type(self).__name__}.from_pretrained(folder)")


class AutoConfig(_Auto):
    """Read the configuration of a checkpoint, whichever model it is of: here, of a Nyströmformer.

    Examples
    --------
    >>> AutoConfig.from_pretrained("weights/masked-lm").model_type
    'nystromformer'
    """

    @classmethod
    @also_called("pretrained_model_name_or_path")
    def from_pretrained(cls, folder: Name, **options: Any) -> NystromformerConfig:
        """Read ``config.json``: see :meth:`nystrom_np.NystromformerConfig.from_pretrained`."""
        return NystromformerConfig.from_pretrained(folder, **_without_code(options))

    @classmethod
    def for_model(cls, model_type: str, **fields: Any) -> NystromformerConfig:
        """Make a configuration of the kind of model; a ValueError if it is another than ``"nystromformer"``."""
        return NystromformerConfig.from_dict({"model_type": model_type}, **fields)


class AutoTokenizer(_Auto):
    """Load the tokenizer of a checkpoint.

    Examples
    --------
    >>> AutoTokenizer.from_pretrained("weights/masked-lm")("Two words.").input_ids
    [2, 244, 1515, 5, 3]
    """

    @classmethod
    @also_called("pretrained_model_name_or_path")
    def from_pretrained(cls, folder: Name, *, config: Any = None, **options: Any) -> NystromformerTokenizer:
        """Load a tokenizer: see :meth:`nystrom_np.NystromformerTokenizer.from_pretrained`.

        Parameters
        ----------
        folder : str or path
            Where there is no ``config.json``, the tokenizer's own files will do.
        config : NystromformerConfig, optional
            What to go by instead of ``config.json``.
        **options
            As for the tokenizer's own class.

        Returns
        -------
        NystromformerTokenizer

        Raises
        ------
        OSError, TypeError, ValueError
            As for the tokenizer's own class, and if the configuration is another model's.
        """
        options = _without_code(options)
        where = repository_options(options)
        if config is None:
            _check_configuration(folder, where)
        return NystromformerTokenizer.from_pretrained(folder, **where, **options)


class AutoModel(_Auto):
    """Load a checkpoint's model, without a head.

    Examples
    --------
    >>> type(AutoModel.from_pretrained("weights/masked-lm")).__name__
    'NystromformerModel'
    """

    model: ClassVar[Any] = NystromformerModel
    """The class that this name stands for."""

    @classmethod
    @also_called("pretrained_model_name_or_path")
    def from_pretrained(cls, folder: Name, **options: Any) -> Any:
        """Load a model of this kind, as the class does that the name stands for.

        Parameters
        ----------
        folder : str or path
            A checkpoint's folder, or the ``owner/name`` of a repository.
        **options
            As for :meth:`nystrom_np.NystromformerModel.from_pretrained`.

        Returns
        -------
        model

        Raises
        ------
        OSError, TypeError, ValueError
            As for the class, and if the configuration is another model's.
        """
        return cls.model.from_pretrained(folder, **_without_code(options))

    @classmethod
    def from_config(cls, config: NystromformerConfig, **options: Any) -> Any:
        """Make a model of this kind with random parameters: `options` are the class's own."""
        return cls.model(config, **_without_code(options))


class AutoModelForMaskedLM(AutoModel):
    """Load a checkpoint as :class:`nystrom_np.NystromformerForMaskedLM`."""

    model = NystromformerForMaskedLM


class AutoModelForSequenceClassification(AutoModel):
    """Load a checkpoint as :class:`nystrom_np.NystromformerForSequenceClassification`."""

    model = NystromformerForSequenceClassification


class AutoModelForMultipleChoice(AutoModel):
    """Load a checkpoint as :class:`nystrom_np.NystromformerForMultipleChoice`."""

    model = NystromformerForMultipleChoice


class AutoModelForTokenClassification(AutoModel):
    """Load a checkpoint as :class:`nystrom_np.NystromformerForTokenClassification`."""

    model = NystromformerForTokenClassification


class AutoModelForQuestionAnswering(AutoModel):
    """Load a checkpoint as :class:`nystrom_np.NystromformerForQuestionAnswering`."""

    model = NystromformerForQuestionAnswering


def _without_code(options: dict[str, Any]) -> dict[str, Any]:
    """Leave out what says whether code in a folder may run: none ever does."""
    return {name: value for name, value in options.items() if name not in ("trust_remote_code", "code_revision")}


def _check_configuration(folder: Name, where: dict[str, Any]) -> None:
    """Refuse a folder of another model; one without a configuration may hold a tokenizer alone."""
    try:
        path = local_folder(folder, "config", **where) / "config.json"
    except FileNotFoundError:
        return  # whether there is such a repository, the tokenizer's own files tell
    if path.is_file():
        NystromformerConfig.from_pretrained(path.parent)
