"""The configuration of a Nyströmformer, which is checked when it is made, and its ``config.json``."""

from __future__ import annotations

import copy
import json
import numbers
import os
import reprlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from nystrom_np.activations import ACTIVATIONS
from nystrom_np.files import also_called, read_json_object, replacing
from nystrom_np.hub import local_folder, repository_options

__all__ = ["NystromformerConfig"]

_LARGEST = 2**31 - 1
_INTEGERS = {  # field: smallest and largest value allowed
    "vocab_size": (1, _LARGEST),
    "hidden_size": (1, _LARGEST),
    "num_hidden_layers": (0, 10_000),
    "num_attention_heads": (1, _LARGEST),
    "intermediate_size": (1, _LARGEST),
    "max_position_embeddings": (1, _LARGEST),
    "type_vocab_size": (1, _LARGEST),
    "segment_means_seq_len": (1, _LARGEST),
    "num_landmarks": (1, _LARGEST),
    "chunk_size_feed_forward": (-_LARGEST, _LARGEST),  # zero or less: no chunks
    "pinv_iterations": (1, 10_000),  # after some dozens nothing changes; more would only take time
}
_MAX_LABELS = 2**20
_FLOATS = {  # field: largest value allowed; the smallest is 0
    "hidden_dropout_prob": 1.0,
    "attention_probs_dropout_prob": 1.0,
    "initializer_range": sys.float_info.max,
    "layer_norm_eps": sys.float_info.max,
}
_BOOLEANS = (
    "inv_coeff_init_option",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "tie_word_embeddings",
)
_CHOICES = {
    "problem_type": (None, "regression", "single_label_classification", "multi_label_classification"),
    "masking": ("transformers", "original", "invariant"),
    "pinv_method": ("iterative", "svd"),
    "pinv_initial": ("batch", "sequence", "matrix"),
}
# The fields that a saved config.json always has. It has any other field only if that differs from its default.
_ALWAYS_SAVED = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings"),
    *("type_vocab_size", "segment_means_seq_len", "num_landmarks", "conv_kernel_size"),
    *("inv_coeff_init_option", "initializer_range", "layer_norm_eps"),
    *("pad_token_id", "bos_token_id", "eos_token_id", "model_type"),
)


# No fields, but keys of the reference's files that are checked: see `_validate_unknown`.
_CHECKED = ("model_type", "position_embedding_type", "is_decoder", "add_cross_attention", "pruned_heads")


class NystromformerConfig:
    """The sizes of a Nyströmformer, and how it computes.

    The fields, their order and their defaults are those of ``transformers`` 4.37.2, except for the last four,
    which are this package's own. A keyword that is not a field is kept in ``unknown``: it can be read as an
    attribute, `save_pretrained` writes it back, and it has no effect on the model.

    Parameters
    ----------
    vocab_size : int, default 30000
        Rows of the word embedding table.
    hidden_size : int, default 768
        D, the width of every hidden state; a multiple of `num_attention_heads`.
    num_hidden_layers : int, default 12
        Encoder layers.
    num_attention_heads : int, default 12
        H, attention heads of each layer.
    intermediate_size : int, default 3072
        I, the width inside the feed-forward block.
    hidden_act : str or callable, default "gelu_new"
        The feed-forward block's activation: a name in `nystrom_np.activations.ACTIVATIONS`, or a
        function from array to array. A function cannot be saved.
    hidden_dropout_prob, attention_probs_dropout_prob : float, default 0.1
        Dropout of training, between 0 and 1. Kept and saved; inference has no dropout.
    max_position_embeddings : int, default 510
        The longest sequence. The position table has two rows more.
    type_vocab_size : int, default 2
        Rows of the token type table.
    segment_means_seq_len : int, default 64
        If it equals `num_landmarks`, attention is exact: see `uses_nystrom_attention`.
    num_landmarks : int, default 64
        m, the landmarks of the Nyström approximation.
    conv_kernel_size : int or None, default 65
        k, the odd length of the depthwise convolution's filters; None for no convolution.
    inv_coeff_init_option : bool, default False
        Whether the iterative inverse starts from each matrix alone: as `pinv_initial` "matrix", which it goes before.
    initializer_range : float, default 0.02
        Standard deviation of freshly drawn weights.
    layer_norm_eps : float, default 1e-5
        Added to the variance in layer normalisation.
    pad_token_id : int or None, default 1
        The padding token, a row of the word embeddings.
    bos_token_id : int or None, default 0
        The token that begins a sequence.
    eos_token_id : int, list of int or None, default 2
        The token or tokens that end a sequence.
    num_labels : int, optional
        Outputs of a classification head; by default as many as `id2label` names, or 2. Saved as `id2label`.
    id2label : dict of int to str, optional
        The names of the labels 0, 1, …, num_labels − 1 (these keys may be strings, as in JSON). A name may be a
        number, and stays one.
    label2id : dict of str to int, optional
        The inverse of `id2label` (its integers may be strings, too). If only this one is given, it defines `id2label`;
        if only that, this stays None.
    problem_type : str, optional
        "regression", "single_label_classification" or "multi_label_classification": the loss of sequence
        classification. By default it depends on the labels.
    output_attentions, output_hidden_states : bool, default False
        Whether a forward call returns them if its own arguments do not say.
    return_dict : bool, default True
        Whether a forward call returns a record, not a tuple, if its own argument does not say.
    chunk_size_feed_forward : int, default 0
        Positions that the feed-forward block takes at once; 0 or less for all.
    tie_word_embeddings : bool, default True
        Whether the masked language model's decoder is the word embedding table.
    masking : {"transformers", "original", "invariant"}, default "transformers"
        How padding is treated: as in the reference; as in the authors' code; or so that it has no influence.
    pinv_iterations : int, default 6
        Steps of the iterative inverse.
    pinv_method : {"iterative", "svd"}, default "iterative"
        How the landmarks' kernel is inverted: by the paper's iteration, or exactly by singular values.
    pinv_initial : {"batch", "sequence", "matrix"}, default "batch"
        What the iteration starts from: the largest column sum of the whole batch, as in the reference; of the heads of
        each sequence, so that a sequence gets in any batch what it gets alone; or of each matrix.

    Raises
    ------
    ValueError
        If a field has a wrong type or value. The message names the field, the value and what is allowed. Also if
        `position_embedding_type` is not "absolute", or `is_decoder`, `add_cross_attention` or `pruned_heads` is
        set: they would change the computation, and are not supported.

    References
    ----------
    ``transformers.models.nystromformer.configuration_nystromformer``, version 4.37.2.

    Examples
    --------
    >>> config = NystromformerConfig(num_labels=3, segment_means_seq_len=128)
    >>> config.uses_nystrom_attention, config.id2label
    (True, {0: 'LABEL_0', 1: 'LABEL_1', 2: 'LABEL_2'})
    >>> NystromformerConfig(conv_kernel_size=64)
    Traceback (most recent call last):
    ValueError: conv_kernel_size must be an odd integer from 1 to 2147483647, or None, not 64
    """

    model_type = "nystromformer"

    def __init__(
        self,
        /,
        vocab_size: Any = 30000,
        hidden_size: Any = 768,
        num_hidden_layers: Any = 12,
        num_attention_heads: Any = 12,
        intermediate_size: Any = 3072,
        hidden_act: Any = "gelu_new",
        hidden_dropout_prob: Any = 0.1,
        attention_probs_dropout_prob: Any = 0.1,
        max_position_embeddings: Any = 510,
        type_vocab_size: Any = 2,
        segment_means_seq_len: Any = 64,
        num_landmarks: Any = 64,
        conv_kernel_size: Any = 65,
        inv_coeff_init_option: Any = False,
        initializer_range: Any = 0.02,
        layer_norm_eps: Any = 1e-5,
        pad_token_id: Any = 1,
        bos_token_id: Any = 0,
        eos_token_id: Any = 2,
        *,
        num_labels: Any = None,
        id2label: Any = None,
        label2id: Any = None,
        problem_type: Any = None,
        output_attentions: Any = False,
        output_hidden_states: Any = False,
        return_dict: Any = True,
        chunk_size_feed_forward: Any = 0,
        tie_word_embeddings: Any = True,
        masking: Any = "transformers",
        pinv_iterations: Any = 6,
        pinv_method: Any = "iterative",
        pinv_initial: Any = "batch",
        **unknown: Any,
    ) -> None:
        self.vocab_size: int = vocab_size
        self.hidden_size: int = hidden_size
        self.num_hidden_layers: int = num_hidden_layers
        self.num_attention_heads: int = num_attention_heads
        self.intermediate_size: int = intermediate_size
        self.hidden_act: str | Callable[[Any], Any] = hidden_act
        self.hidden_dropout_prob: float = hidden_dropout_prob
        self.attention_probs_dropout_prob: float = attention_probs_dropout_prob
        self.max_position_embeddings: int = max_position_embeddings
        self.type_vocab_size: int = type_vocab_size
        self.segment_means_seq_len: int = segment_means_seq_len
        self.num_landmarks: int = num_landmarks
        self.conv_kernel_size: int | None = conv_kernel_size
        self.inv_coeff_init_option: bool = inv_coeff_init_option
        self.initializer_range: float = initializer_range
        self.layer_norm_eps: float = layer_norm_eps
        self.pad_token_id: int | None = pad_token_id
        self.bos_token_id: int | None = bos_token_id
        self.eos_token_id: int | list[int] | None = eos_token_id
        self.id2label: dict[int, Any]
        self.label2id: dict[Any, int] | None
        self.id2label, self.label2id = _labels(num_labels, id2label, label2id)
        self.problem_type: str | None = problem_type
        self.output_attentions: bool = output_attentions
        self.output_hidden_states: bool = output_hidden_states
        self.return_dict: bool = return_dict
        self.chunk_size_feed_forward: int = chunk_size_feed_forward
        self.tie_word_embeddings: bool = tie_word_embeddings
        self.masking: str = masking
        self.pinv_iterations: int = pinv_iterations
        self.pinv_method: str = pinv_method
        self.pinv_initial: str = pinv_initial
        self.unknown: dict[str, Any] = unknown
        self.validate()

    def validate(self) -> None:
        """Check every field again, after attributes were changed.

        Raises
        ------
        ValueError
            If a field has a wrong type or value.
        """
        for name, (smallest, largest) in _INTEGERS.items():
            setattr(self, name, _integer(name, getattr(self, name), smallest, largest))
        for name, limit in _FLOATS.items():
            setattr(self, name, _float(name, getattr(self, name), limit))
        for name in _BOOLEANS:
            if not isinstance(getattr(self, name), bool):
                _refuse(name, getattr(self, name), "True or False")
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if not isinstance(value, (str, type(None))) or value not in choices:
                _refuse(name, value, "one of " + ", ".join(map(repr, choices)))
        self._validate_model()
        self._validate_tokens()
        self.id2label, self.label2id = _labels(None, self.id2label, self.label2id)
        _validate_unknown(self.unknown)
        _validate_unknown({name: value for name, value in vars(self).items() if name in _CHECKED})

    def _validate_model(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            allowed = f"a multiple of num_attention_heads={self.num_attention_heads}"
            _refuse("hidden_size", self.hidden_size, allowed)
        if self.conv_kernel_size is not None:
            allowed = f"an odd integer from 1 to {_LARGEST}, or None"
            size = _integer("conv_kernel_size", self.conv_kernel_size, 1, _LARGEST, allowed)
            if size % 2 == 0:
                _refuse("conv_kernel_size", size, allowed)
            self.conv_kernel_size = size
        known = isinstance(self.hidden_act, str) and self.hidden_act in ACTIVATIONS
        if not known and not callable(self.hidden_act):
            _refuse("hidden_act", self.hidden_act, "a function or one of " + ", ".join(sorted(ACTIVATIONS)))

    def _validate_tokens(self) -> None:
        if self.pad_token_id is not None:  # a negative one counts from the end of the vocabulary
            low, high = -self.vocab_size, self.vocab_size - 1
            allowed = f"None or an integer from {low} to {high} (vocab_size is {self.vocab_size})"
            self.pad_token_id = _integer("pad_token_id", self.pad_token_id, low, high, allowed)
        if self.bos_token_id is not None:
            self.bos_token_id = _integer("bos_token_id", self.bos_token_id, -_LARGEST, _LARGEST)
        if isinstance(self.eos_token_id, (list, tuple)):
            self.eos_token_id = [_integer("eos_token_id", i, -_LARGEST, _LARGEST) for i in self.eos_token_id]
        elif self.eos_token_id is not None:
            self.eos_token_id = _integer("eos_token_id", self.eos_token_id, -_LARGEST, _LARGEST)

    @property
    def num_labels(self) -> int:
        """The number of labels, which is the length of `id2label`. Setting another number renames all labels."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, number: Any) -> None:
        if _integer("num_labels", number, 1, _MAX_LABELS) != self.num_labels:
            self.id2label, self.label2id = _labels(number, None, None)

    @property
    def use_return_dict(self) -> bool:
        """The name that ``transformers`` gives to `return_dict` when it is read."""
        return self.return_dict

    @property
    def uses_nystrom_attention(self) -> bool:
        """Whether the layers compute Nyström attention, not exact softmax attention.

        This is the reference's rule: `num_landmarks` differs from `segment_means_seq_len`. Every published
        ``uw-madison/nystromformer-*`` checkpoint has them equal.
        """
        return self.num_landmarks != self.segment_means_seq_len

    @classmethod
    @also_called("pretrained_model_name_or_path")
    def from_pretrained(
        cls,
        folder: str | os.PathLike[str],
        /,
        **options: Any,
    ) -> NystromformerConfig:
        """Read ``config.json`` from a folder, or from a repository of the Hugging Face Hub.

        Parameters
        ----------
        folder : str or path
            The folder; or the ``owner/name`` of a repository, if there is no folder of that name.
        **options
            Fields that replace those in the file: see `from_dict`. And ``revision``, ``cache_dir``,
            ``local_files_only``, ``token`` and ``force_download`` of a repository, and a ``subfolder``: see
            :func:`nystrom_np.hub.local_folder`.

        Returns
        -------
        NystromformerConfig
            The configuration; keys of the file that are not fields are kept.

        Raises
        ------
        FileNotFoundError
            If there is no such folder or repository, or no ``config.json`` in it.
        OSError
            If it cannot be fetched.
        ValueError
            If the file is not valid JSON, or a field in it is wrong.
        TypeError
            If an override is no field, be it a key of the file or not: it would have no effect.
        """
        path = local_folder(folder, "config", **repository_options(options)) / "config.json"
        if not path.is_file():
            expected = "a local folder with a config.json is expected, or the owner/name of one on the Hugging Face Hub"
            raise FileNotFoundError(f"no file {path}: {expected}")
        values = read_json_object(path)
        try:
            return cls.from_dict(values, **options)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def from_dict(cls, values: Mapping[Any, Any], /, **overrides: Any) -> NystromformerConfig:
        """Make a configuration from a mapping such as `to_dict` returns.

        Parameters
        ----------
        values : mapping of str to object
            Fields, and other keys to keep.
        **overrides
            Fields that replace those in `values`. With `id2label`, `label2id` or another `num_labels`, all that
            `values` says of labels is dropped.

        Returns
        -------
        NystromformerConfig
            The configuration.

        Raises
        ------
        ValueError
            If a field is wrong.
        TypeError
            If an override is no field, be it a key of `values` or not: it would have no effect.

        Examples
        --------
        >>> NystromformerConfig.from_dict({"num_landmarks": 32, "task": "a study"}, hidden_act="relu")
        NystromformerConfig(hidden_act='relu', num_landmarks=32, task='a study')
        """
        values = dict(values)
        if not all(isinstance(key, str) for key in values):
            raise ValueError("the keys of a configuration must be strings")
        known = set(vars(cls())) - {"unknown"} | {"num_labels", *_CHECKED}
        if not known.issuperset(overrides):
            raise TypeError(f"no such configuration field: {', '.join(sorted(set(overrides) - known))}")
        if _renames_labels(values, overrides):
            for name in ("num_labels", "id2label", "label2id"):
                values.pop(name, None)
        try:
            kept = copy.deepcopy(values)
        except RecursionError:
            raise ValueError("a value of the configuration is nested too deeply") from None
        return cls(**{**kept, **overrides})

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and all kept keys as a new dictionary, a deep copy.

        Returns
        -------
        dict of str to object
            `from_dict` makes an equal configuration of it.
        """
        fields = {name: value for name, value in vars(self).items() if name != "unknown"}
        return copy.deepcopy({**self.unknown, **fields, "model_type": self.model_type})

    def update(self, values: Mapping[str, Any], /) -> None:
        """Change several fields, all or none of them; keys that are no fields are kept in ``unknown``.

        Parameters
        ----------
        values : mapping of str to object
            As for `from_dict`. A model that uses the configuration follows at its next call, or says why it cannot.

        Raises
        ------
        ValueError
            If a field is wrong.

        Examples
        --------
        >>> config = NystromformerConfig()
        >>> config.update({"num_landmarks": 32, "num_labels": 3})
        >>> config.num_landmarks, config.id2label
        (32, {0: 'LABEL_0', 1: 'LABEL_1', 2: 'LABEL_2'})
        """
        fields = {name: values[name] for name in values if name in vars(self) or name == "num_labels"}
        others = {name: values[name] for name in values if name not in fields}
        made = self.from_dict({**self.to_dict(), **others}, **fields)
        vars(self).update(vars(made))

    def update_from_string(self, update_str: str, /) -> None:
        """Change several fields, all or none of them, by a text.

        Parameters
        ----------
        update_str : str
            Fields that the configuration has, and their values: ``"num_landmarks=32,return_dict=false"``. True is also
            ``1``, ``y`` or ``yes``, false ``0``, ``n`` or ``no``.

        Raises
        ------
        ValueError
            If a name is none of them, or a value is none that it may have.

        Examples
        --------
        >>> config = NystromformerConfig()
        >>> config.update_from_string("num_landmarks=32,layer_norm_eps=1e-6")
        >>> config.num_landmarks, config.layer_norm_eps
        (32, 1e-06)
        """
        values = {}
        for part in update_str.split(","):
            name, equals, text = part.partition("=")
            if not equals or not hasattr(self, name):
                raise ValueError(f"{part!r} is not a field of the configuration and its value: name=value")
            values[name] = _like(getattr(self, name), text, name)
        self.update(values)

    def to_diff_dict(self) -> dict[str, Any]:
        """Return what a saved ``config.json`` holds.

        Returns
        -------
        dict of str to object
            The documented fields always, the others where they differ from their defaults, and all kept keys.
        """
        default = NystromformerConfig().to_dict()
        return {
            name: value
            for name, value in self.to_dict().items()
            if name in _ALWAYS_SAVED or name not in default or value != default[name]
        }

    def to_json_string(self, use_diff: bool = True) -> str:
        """Write the configuration as JSON, keys sorted, as ``transformers`` does.

        Parameters
        ----------
        use_diff : bool, default True
            Whether to write `to_diff_dict`; if not, `to_dict`.

        Returns
        -------
        str
            The JSON text, ending in a newline.

        Raises
        ------
        ValueError
            If a value cannot be written as JSON, such as a function for `hidden_act`.
        """
        return _to_json(self.to_diff_dict() if use_diff else self.to_dict())

    def to_json_file(self, path: str | os.PathLike[str], use_diff: bool = True) -> None:
        """Write `to_json_string` to a file, replacing an older one only once the new one is complete.

        Raises
        ------
        ValueError
            If a value cannot be written as JSON.
        OSError
            If the file cannot be written.
        """
        text = self.to_json_string(use_diff)
        with replacing(Path(path)) as temporary:
            temporary.write_text(text, encoding="utf-8")

    @classmethod
    def from_json_file(cls, path: str | os.PathLike[str], /) -> NystromformerConfig:
        """Read a file such as ``config.json``, of any name.

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If it is not valid JSON, or a field in it is wrong.

        Examples
        --------
        >>> NystromformerConfig.from_json_file("weights/masked-lm/config.json").num_landmarks
        16
        """
        values = read_json_object(Path(path))
        try:
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @also_called("save_directory")
    def save_pretrained(
        self, folder: str | os.PathLike[str], *, architecture: str | None = None, dtype: str | None = None
    ) -> None:
        """Write ``config.json`` into a folder, replacing an older one only once the new one is complete.

        Parameters
        ----------
        folder : str or path
            The folder, made if it does not exist.
        architecture : str, optional
            The model class to name in the file's ``architectures``.
        dtype : str, optional
            The data type to name in the file's ``torch_dtype``, such as "float32".

        Raises
        ------
        ValueError
            If a value cannot be written as JSON.
        OSError
            If the file cannot be written.
        """
        values = self.to_diff_dict()
        if architecture is not None:
            values["architectures"] = [architecture]
        if dtype is not None:
            values.pop("dtype", None)  # the newer name of the same key
            values["torch_dtype"] = dtype
        text = _to_json(values)
        Path(folder).mkdir(parents=True, exist_ok=True)
        with replacing(Path(folder) / "config.json") as temporary:
            temporary.write_text(text, encoding="utf-8")

    def __getattr__(self, name: str) -> Any:
        # Called only where the usual look-up fails; "unknown" itself is absent while unpickling.
        try:
            return self.__dict__.get("unknown", {})[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}") from None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NystromformerConfig):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # its fields can change

    def __repr__(self) -> str:
        default = NystromformerConfig().to_dict()
        shown = {k: v for k, v in self.to_dict().items() if k not in default or v != default[k]}
        return f"NystromformerConfig({', '.join(f'{k}={shown[k]!r}' for k in sorted(shown))})"


def _refuse(name: str, value: object, allowed: str) -> NoReturn:
    raise ValueError(f"{name} must be {allowed}, not {reprlib.repr(value)}")


def _integer(name: str, value: Any, smallest: int, largest: int, allowed: str | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not smallest <= int(value) <= largest:
        _refuse(name, value, allowed or f"an integer from {smallest} to {largest}")
    return int(value)


def _float(name: str, value: Any, largest: float) -> int | float:
    allowed = f"a number from 0 to {largest}"
    if isinstance(value, numbers.Integral):
        return _integer(name, value, 0, int(largest), allowed)
    if not isinstance(value, numbers.Real) or not 0 <= float(value) <= largest:
        _refuse(name, value, allowed)
    return float(value)


def _labels(num_labels: Any, id2label: Any, label2id: Any) -> tuple[dict[int, Any], dict[Any, int] | None]:
    """Return `id2label` and `label2id`, from whichever of the three arguments are given."""
    if num_labels is not None:
        num_labels = _integer("num_labels", num_labels, 1, _MAX_LABELS)
    if label2id is not None:
        label2id = _checked_label2id(label2id)
    if id2label is None and label2id is None:
        id2label = {i: f"LABEL_{i}" for i in range(num_labels or 2)}
        label2id = {label: i for i, label in id2label.items()}
    elif id2label is None:
        id2label = {i: label for label, i in label2id.items()}
        if len(id2label) < len(label2id):
            _refuse("label2id", label2id, "another integer for each label")
        if sorted(id2label) != list(range(max(len(id2label), 1))):
            _refuse("label2id", label2id, "a dict from strings to 0, 1, …, num_labels - 1")
    id2label = _checked_id2label(id2label)
    if num_labels not in (None, len(id2label)):
        raise ValueError(f"num_labels={num_labels} disagrees with the {len(id2label)} labels that are named")
    return id2label, label2id


def _checked_id2label(id2label: Any) -> dict[int, Any]:
    allowed = "a dict from 0, 1, …, num_labels - 1 to strings or numbers"
    if not isinstance(id2label, Mapping) or not all(map(_is_label, id2label.values())):
        _refuse("id2label", id2label, allowed)
    names = {_integer("a key of id2label", _counted(key), 0, _MAX_LABELS - 1): label for key, label in id2label.items()}
    if len(names) != len(id2label) or sorted(names) != list(range(max(len(names), 1))):
        _refuse("id2label", id2label, allowed)
    return dict(sorted(names.items()))


def _checked_label2id(label2id: Any) -> dict[Any, int]:
    if not isinstance(label2id, Mapping) or not all(map(_is_label, label2id)):
        _refuse("label2id", label2id, "a dict from strings or numbers to integers")
    return {k: _integer(f"label2id[{k!r}]", _counted(i), 0, _MAX_LABELS - 1) for k, i in label2id.items()}


def _is_label(label: Any) -> bool:
    return isinstance(label, (str, numbers.Real))


def _counted(number: Any) -> Any:
    """Return the integer that a string of digits stands for: JSON has no integer keys. Anything else stays."""
    is_number = isinstance(number, str) and number.isascii() and number.isdigit() and len(number) < 10
    return int(number) if is_number else number


def _renames_labels(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> bool:
    """Whether the overrides replace what the values say about labels."""
    if overrides.get("id2label") is not None or overrides.get("label2id") is not None:
        return True
    number = overrides.get("num_labels")
    named = values.get("id2label")
    return number is not None and (not isinstance(named, Mapping) or len(named) != number)


def _validate_unknown(unknown: dict[str, Any]) -> None:
    """Refuse keys that would make the reference compute something else, unless their values leave it unchanged."""
    model_type = unknown.pop("model_type", "nystromformer")
    if not isinstance(model_type, str) or model_type != "nystromformer":  # an array compares with each element
        raise ValueError(f"model_type must be 'nystromformer'; found {model_type!r}: another model's configuration")
    positions = unknown.get("position_embedding_type", "absolute")
    if not isinstance(positions, str) or positions != "absolute":
        _refuse("position_embedding_type", positions, "'absolute'")
    for name in ("is_decoder", "add_cross_attention", "pruned_heads"):
        value = unknown.get(name)
        if value is not None and (not isinstance(value, (bool, int, list, dict)) or value):
            _refuse(name, value, "empty" if name == "pruned_heads" else "False")


def _to_json(values: dict[str, Any]) -> str:
    try:
        return json.dumps(values, indent=2, sort_keys=True, allow_nan=False) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the configuration cannot be written as JSON: {error}") from None


BOOLEANS_AS_TEXT = {"true": True, "1": True, "y": True, "yes": True} | dict.fromkeys(("false", "0", "n", "no"), False)


def _like(old: Any, text: str, name: str) -> Any:
    """Read a value of the same kind as the old one."""
    try:
        if isinstance(old, bool):
            return BOOLEANS_AS_TEXT[text.lower()]
        if isinstance(old, int | float | str):
            return type(old)(text)
    except (KeyError, ValueError):
        raise ValueError(f"{name} is {old!r}, and {text!r} is no {type(old).__name__}") from None
    raise ValueError(f"{name} is {old!r}: only integers, floats, booleans and strings can be changed by a text")
