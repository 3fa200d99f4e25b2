"""What every model of the package is: a configuration and parameters under their state-dict names."""

import copy
import os
from collections.abc import Iterator, Mapping, Sized
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nystrom_np.array_module import Array, array_module_of, device_of, to_device, to_numpy
from nystrom_np.checkpoint import load_checkpoint, save_checkpoint
from nystrom_np.config import NystromformerConfig
from nystrom_np.fast.on_numpy.threads import using_threads
from nystrom_np.files import also_called
from nystrom_np.hub import repository_options
from nystrom_np.model.changing import Embedding, IncompatibleKeys, replaced, resized, words_of
from nystrom_np.model.inputs import Checks
from nystrom_np.model.loading import check_saving, configured_source, loading_info, placed, without_torch
from nystrom_np.model.parameters import draw, tree
from nystrom_np.model.pickling import Origin, reduced
from nystrom_np.model.prediction import batches, delayed, pad, split, start_return
from nystrom_np.origins import FromFolder
from nystrom_np.outputs import ModelOutput
from nystrom_np.progress import with_progress
from nystrom_np.saving import replacing_checkpoint

__all__ = ["NystromformerPreTrainedModel"]

Record = TypeVar("Record", bound=ModelOutput)

_SHAPING = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("max_position_embeddings", "type_vocab_size", "conv_kernel_size", "id2label", "tie_word_embeddings"),
)
"""Fields on which the shapes of parameters depend."""

DTYPES = ("float32", "float64", "float16")


class NystromformerPreTrainedModel(FromFolder):
    """Holds a model's parameters: makes, loads, saves, moves and lists them.

    Parameters
    ----------
    config : NystromformerConfig
    seed : int
        Of the random first values, where no parameters are given.
    parameters : mapping of str to array, optional
        All parameters under their state-dict names, used as they are.
    dtype : {"float32", "float64", "float16"}, optional
        Of the parameters and the outputs; by default the parameters' own, float32 for random ones.

    Raises
    ------
    ValueError
        If parameters are missing, unknown or of a wrong shape, or the dtype is none of the three.
    """

    per_token: tuple[str, ...] = ("last_hidden_state", "hidden_states")
    """Fields of the output with an axis for the tokens."""
    base_model_prefix = "nystromformer"
    config_class = NystromformerConfig
    training = False
    choices = False
    """Whether an input is several sequences that belong together."""

    def __init__(
        self,
        config: Any,
        seed: Any = 0,
        *,
        parameters: Any = None,
        dtype: Any = None,
    ) -> None:
        if not isinstance(config, NystromformerConfig):
            raise TypeError(f"config must be a NystromformerConfig; found {type(config).__name__}")
        config.validate()
        self.config = config
        shapes = self.parameter_shapes(config)
        self.initialised: tuple[str, ...] = ()
        self._followed = _fields(config)
        self._set(draw(config, shapes, seed) if parameters is None else _fitting(parameters, shapes))
        if dtype is not None:
            self.to(dtype=dtype)

    @classmethod
    def parameter_shapes(cls, config: NystromformerConfig) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of the parameters."""
        raise NotImplementedError

    @classmethod
    @also_called("pretrained_model_name_or_path")
    def from_pretrained(
        cls,
        folder: str | os.PathLike[str] | None,
        dtype: Any = "float32",
        device: str = "cpu",
        *,
        torch_dtype: Any = None,
        config: Any = None,
        state_dict: Any = None,
        variant: str | None = None,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        device_map: Any = None,
        **options: Any,
    ) -> Any:
        """Load a model from ``config.json`` and safetensors weights, in a folder or on the Hugging Face Hub.

        Parameters
        ----------
        folder : str or path
            As ``save_pretrained`` of this package or of transformers writes it; or the ``owner/name`` of a
            repository, if there is no folder of that name: ``"uw-madison/nystromformer-512"``. None if `config` and
            `state_dict` are both given.
        dtype : {"float32", "float64", "float16"}
            Of the parameters in memory. Where it is that of the file, on the CPU, the weights are used where they
            lie in the memory-mapped file and not copied.
        device : str
            ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        torch_dtype
            The dtype under the name that it has in transformers 4, also as one of torch's.
        config : NystromformerConfig, str or path, optional
            Instead of the folder's ``config.json``: one that was made, or another folder's.
        state_dict : mapping of str to array, optional
            Instead of the folder's weights, under any names that a file may have.
        variant : str, optional
            Which of several sets of weights: "fp16" for ``model.fp16.safetensors``.
        ignore_mismatched_sizes : bool
            Whether to draw parameters that have another shape in the file, such as a head's for another number of
            labels. If not, they are an error.
        output_loading_info : bool
            Whether to return also what was missing, unexpected or of another shape.
        device_map : str, int or dict, optional
            The device, in transformers' words. "auto" and its like change nothing: the model is where `device` says.
        **options
            Fields of :class:`NystromformerConfig` to change. ``revision``, ``cache_dir``, ``local_files_only``,
            ``token`` and ``force_download`` of a repository, and a ``subfolder``: see
            :func:`nystrom_np.hub.local_folder`. Arguments that only concern torch are accepted where they
            change nothing: ``low_cpu_mem_usage``, ``max_memory``, ``offload_folder``, ``offload_state_dict``,
            ``resume_download``, ``trust_remote_code`` and ``code_revision`` with any value;
            ``use_safetensors=True``, ``attn_implementation="eager"``, ``from_tf=False``, ``from_flax=False``,
            ``load_in_8bit=False``, ``load_in_4bit=False``, ``use_flash_attention_2=False``; None for these,
            ``quantization_config`` and ``proxies``.

        Returns
        -------
        model
            With `output_loading_info` a tuple of it and a dict of ``missing_keys``, ``unexpected_keys``,
            ``mismatched_keys`` (name, shape in the file, shape in the model) and ``error_msgs``.

        Raises
        ------
        OSError
            If the folder, the repository or a file is missing, unreadable, or cannot be fetched.
        TypeError
            If an option is neither a field nor an argument of loading.
        ValueError
            If the configuration or the weights are damaged or do not fit, or an argument asks for what is not here.

        Warns
        -----
        UserWarning
            If a head's parameters are not in the file, or parameters of another shape are left out (they are then
            drawn), or the file has another head.
        """
        dtype = _checked_dtype(dtype if torch_dtype is None else torch_dtype)
        device = placed(device, device_map)
        array_module_of(device)  # a device that cannot be used is an error before anything is read
        where = repository_options(options)
        config, source = configured_source(folder, config, state_dict, where, variant, without_torch(options))
        shapes = cls.parameter_shapes(config)
        loaded = load_checkpoint(
            source,
            shapes,
            tied=config.tie_word_embeddings,
            variant=variant,
            ignore_mismatched_sizes=ignore_mismatched_sizes,
        )
        absent = (*loaded.initialised, *loaded.mismatched)
        found = loaded.parameters | draw(config, shapes, seed=0, names=absent)
        model = cls(config, parameters={name: found[name].astype(dtype, copy=False) for name in shapes})
        model.initialised = absent
        if isinstance(source, Path):
            model._origin = Origin(str(source.absolute()), variant, ignore_mismatched_sizes)
        model.to(device)
        return (model, loading_info(loaded)) if output_loading_info else model

    @also_called("save_directory")
    def save_pretrained(self, folder: str | os.PathLike[str], variant: str | None = None, **options: Any) -> None:
        """Write ``config.json`` and ``model.safetensors``, which this package and transformers load.

        A process that is ended while it saves leaves the old checkpoint or the new one, which `from_pretrained` finds;
        of several that save to one folder, one comes after the other. With a variant such as "fp16", the file's name is
        ``model.fp16.safetensors``, and the two files are replaced one by one.

        Of transformers' options those are accepted that change nothing here: ``safe_serialization=True``,
        ``push_to_hub=False``, ``is_main_process=True``, and any ``max_shard_size`` and ``token``: there is one file.

        Raises
        ------
        TypeError
            If an option is none of these.
        ValueError
            If it asks for what is not here, such as a pickle with ``safe_serialization=False``.
        OSError
            If the folder cannot be written.
        """
        check_saving(options)
        parameters = {name: to_numpy(value) for name, value in self._parameters.items()}
        with replacing_checkpoint(Path(folder)) if variant is None else nullcontext(folder) as work:
            self.config.save_pretrained(work, architecture=type(self).__name__, dtype=self.dtype.name)
            save_checkpoint(work, parameters, variant)

    def state_dict(self) -> dict[str, Array]:
        """Return the parameters under their state-dict names: the model's own arrays, not copies."""
        return dict(self._parameters)

    def load_state_dict(self, state_dict: Any, strict: bool = True) -> IncompatibleKeys:
        """Take the values of a state dict, copied, in this model's dtype and on its device.

        Parameters
        ----------
        state_dict : mapping of str to array
            As `state_dict` gives it. To load other names, give it to ``from_pretrained``.
        strict : bool
            Whether names that are missing, or that the model does not have, are an error.

        Returns
        -------
        IncompatibleKeys
            ``missing_keys`` and ``unexpected_keys``.

        Raises
        ------
        TypeError, ValueError
            If it is no state dict, a name or a shape does not fit; the model is then as it was.
        """
        new, keys = replaced(self._parameters, state_dict, self.config.tie_word_embeddings, self.device)
        if strict and any(keys):
            missing, unexpected = (", ".join(names) or "nothing" for names in keys)
            raise ValueError(f"the state dict lacks {missing}; it has, unknown to the model, {unexpected}")
        self._set(new)
        return keys

    def get_input_embeddings(self) -> Embedding:
        """Return the word embeddings: their ``weight`` is the model's own array."""
        return Embedding(self._parameters[words_of(self._parameters)])

    def get_output_embeddings(self) -> Embedding | None:
        """Return the decoder of the masked language model, the word embeddings where they are tied; None of others."""
        decoder, words = "cls.predictions.decoder.weight", words_of(self._parameters)
        has_decoder = any(name.startswith("cls.") for name in self._parameters)
        return Embedding(self._parameters.get(decoder, self._parameters[words])) if has_decoder else None

    def set_input_embeddings(self, value: Any) -> None:
        """Set the word embeddings: an `Embedding`, or an array of their shape, which is copied.

        A ValueError if its shape is another one: `resize_token_embeddings` changes it.
        """
        self.load_state_dict({words_of(self._parameters): getattr(value, "weight", value)}, strict=False)

    def resize_token_embeddings(
        self, new_num_tokens: Any = None, pad_to_multiple_of: Any = None, seed: int = 0
    ) -> Embedding:
        """Give the vocabulary another size: rows are cut off at the end, or drawn as first values are.

        The decoder and its bias, which begins with 0, get as many rows. The model then has a configuration of its own
        with that ``vocab_size``.

        Parameters
        ----------
        new_num_tokens : int, optional
            How many tokens; as many as now by default.
        pad_to_multiple_of : int, optional
            Round this up to a multiple.
        seed : int
            Of what is drawn.

        Returns
        -------
        Embedding
            The word embeddings.

        Raises
        ------
        ValueError
            If the number is not positive, or the padding token would be cut off.

        Examples
        --------
        >>> from nystrom_np import NystromformerConfig, NystromformerForMaskedLM
        >>> config = NystromformerConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2, vocab_size=10)
        >>> model = NystromformerForMaskedLM(config)
        >>> model.resize_token_embeddings(12).weight.shape, model([[7, 11]]).logits.shape
        ((12, 8), (1, 2, 12))
        """
        rows = self.config.vocab_size if new_num_tokens is None else _count("new_num_tokens", new_num_tokens)
        if pad_to_multiple_of is not None:
            step = _count("pad_to_multiple_of", pad_to_multiple_of)
            rows = -(-rows // step) * step
        config = copy.copy(self.config)
        config.vocab_size = rows
        config.validate()
        parameters = resized(self._parameters, config, rows, seed)
        self.config, self._followed = config, _fields(config)
        self._set(parameters)
        return self.get_input_embeddings()

    def num_parameters(self, only_trainable: bool = False) -> int:
        """Return how many numbers the parameters hold: all can be trained, though not here."""
        return sum(int(value.size) for value in self._parameters.values())

    def named_parameters(self) -> Iterator[tuple[str, Array]]:
        """Yield the parameters with their state-dict names."""
        yield from self._parameters.items()

    def parameters(self) -> Iterator[Array]:
        """Yield the parameters."""
        yield from self._parameters.values()

    @property
    def base_model(self) -> Any:
        """The model without its head; the model itself if it has none."""
        return getattr(self, self.base_model_prefix, self)

    @property
    def num_labels(self) -> int:
        """How many labels the configuration has."""
        return self.config.num_labels

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the parameters and of the outputs."""
        return self._any_parameter.dtype

    @property
    def device(self) -> str:
        """Where the parameters and the outputs are, ``"cpu"`` or ``"cuda:N"``."""
        return device_of(self._any_parameter)

    def to(self, device: Any = None, dtype: Any = None) -> Any:
        """Move the parameters to a device, to a dtype, or both; return the model itself.

        A dtype in the device's place is understood too, as in torch. A ValueError if the device cannot be used, or the
        dtype is none of "float32", "float64", "float16".
        """
        if device is not None and (not isinstance(device, str) or device in DTYPES):
            if dtype is not None:
                raise ValueError(f"to(device, dtype) takes one of each; found {device!r} and {dtype!r}")
            device, dtype = None, device
        parameters = self._parameters
        if device is not None:
            parameters = {name: to_device(value, device) for name, value in parameters.items()}
        if dtype is not None:
            checked = _checked_dtype(dtype)
            parameters = {name: value.astype(checked, copy=False) for name, value in parameters.items()}
        self._set(parameters)
        return self

    def half(self) -> Any:
        """Return the model itself, with parameters in float16."""
        return self.to(dtype="float16")

    def float(self) -> Any:
        """Return the model itself, with parameters in float32."""
        return self.to(dtype="float32")

    def double(self) -> Any:
        """Return the model itself, with parameters in float64."""
        return self.to(dtype="float64")

    def predict(
        self,
        encodings: Any,
        batch_size: Any = 32,
        workers: Any = None,
        progress: bool | None = None,
    ) -> Iterator[Any]:
        """Run the model over many inputs, each as if it were alone and unpadded.

        Sequences of different lengths are packed, so that no padding is computed.

        Parameters
        ----------
        encodings : iterable of mappings, or one mapping of lists
            What the tokenizer returns, for one text each or for a list of texts: ``input_ids`` and optionally
            ``attention_mask``, ``token_type_ids`` and ``position_ids``, each of shape (length,). For multiple
            choice (choices, length). Tokens with mask 0 are left out.
        batch_size : int
            How many encodings are read and held at a time.
        workers : int, optional
            Threads; by default as many as BLAS may use.
        progress : bool, optional
            Show a progress bar; by default in a terminal when it takes longer than a second.

        Yields
        ------
        record
            For each encoding, in their order, the outputs of the model for it alone: a batch of one, of NumPy arrays.
            A GPU computes the next batch while the results of one are copied back.

        Raises
        ------
        ValueError, IndexError
            If an encoding is wrong.

        Examples
        --------
        >>> from nystrom_np import NystromformerConfig, NystromformerModel
        >>> config = NystromformerConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2)
        >>> model = NystromformerModel(config)
        >>> [out.last_hidden_state.shape for out in model.predict({"input_ids": [[7, 3, 9], [7, 3]]})]
        [(1, 3, 8), (1, 2, 8)]
        """
        with using_threads(workers):  # so that a wrong number is an error here and not at the first result
            alone = self._alone()
        grouped = batches(encodings, batch_size)
        total = len(encodings) if isinstance(encodings, Sized) and not hasattr(encodings, "keys") else None

        def begun() -> Iterator[tuple[Any, Any]]:
            # choices are run question by question: there may be more of them in one than in another
            for together in ([one] for batch in grouped for one in batch) if self.choices else grouped:
                arguments = pad(together)
                with using_threads(workers):
                    record = alone(**arguments, return_dict=True)
                yield start_return(record), arguments["attention_mask"]

        def results() -> Iterator[Any]:
            in_flight = 0 if self.device == "cpu" else 1
            for finished, mask in delayed(begun(), in_flight):
                record = finished()
                if self.choices:
                    yield record
                else:
                    yield from split(record, mask, alone.config, self.per_token)

        return with_progress(results(), progress, total)

    def _alone(self) -> Any:
        """The same model with padding left out, whatever its own configuration does with it."""
        self.checks()
        other = self._copy_with(masking="invariant")
        other._followed = _fields(other.config)  # no need to check again what was right before: that takes 0.1 ms
        return other

    def configured(self, **fields: Any) -> Any:
        """Return the model with fields of its configuration changed, over the same parameters.

        Fields that say how to compute, such as ``masking`` or ``pinv_iterations``. A ValueError if one is wrong.
        """
        other = self._copy_with(**fields)
        other.checks()
        return other

    def _copy_with(self, **fields: Any) -> Any:
        other = copy.copy(self)
        other.config = copy.copy(self.config)
        for name, value in fields.items():
            setattr(other.config, name, value)
        return other

    def eval(self) -> Any:
        """Return the model itself: there is no dropout to switch off."""
        return self

    def checks(self) -> Checks:
        """Begin the checks of one call: the configuration may have been changed since the last.

        A ValueError if it was changed to what the model cannot follow.
        """
        now = _fields(self.config)
        if now != self._followed:
            self.config.validate()
            shapes = {name: value.shape for name, value in self._parameters.items()}
            if shapes != self.parameter_shapes(self.config):
                raise ValueError(self._not_followed())
            self._followed = now
        return Checks(self._any_parameter)

    def _not_followed(self) -> str:
        """Say which fields the parameters contradict."""
        now = vars(self.config)
        changed = [name for name in _SHAPING if now[name] != self._followed[name]]
        names = ", ".join("num_labels" if name == "id2label" else name for name in changed) or "its sizes"
        return f"the configuration was changed in {names} after the model was made: its parameters have other shapes"

    def asked(self, output_attentions: bool | None, output_hidden_states: bool | None) -> NystromformerConfig:
        """Return the configuration of one call, with what it is asked to return."""
        config = copy.copy(self.config)
        if output_attentions is not None:
            config.output_attentions = bool(output_attentions)
        if output_hidden_states is not None:
            config.output_hidden_states = bool(output_hidden_states)
        return config

    def respond(self, checks: Checks, record: Record, return_dict: bool | None) -> Record | tuple[Array, ...]:
        """Finish a forward call: outputs in the model's dtype, as a record or a tuple, once all checks are read."""
        checks.finish()
        for field in fields(record):
            setattr(record, field.name, _cast(getattr(record, field.name), self.dtype))
        return record if (self.config.return_dict if return_dict is None else return_dict) else record.to_tuple()

    def _from_folder(self) -> tuple[Any, ...] | None:
        return reduced(self, self._origin)

    def _set(self, parameters: Mapping[str, Array]) -> None:
        self._parameters = dict(parameters)
        self._tree = tree(self._parameters)
        self._any_parameter = next(iter(self._parameters.values()))


def _fields(config: NystromformerConfig) -> dict[str, Any]:
    """Return what a configuration says, to be compared later: three microseconds a call."""
    return {**vars(config), "unknown": dict(config.unknown)}


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a positive integer; found {value!r:.80}")
    return int(value)


def _cast(value: Any, dtype: np.dtype) -> Any:
    if isinstance(value, tuple):
        return tuple(_cast(item, dtype) for item in value)
    return value if value is None else value.astype(dtype, copy=False)


def _checked_dtype(dtype: Any) -> np.dtype:
    try:
        checked = np.dtype(str(dtype).removeprefix("torch.") if str(dtype).startswith("torch.") else dtype)
    except TypeError:
        checked = None
    if checked is None or checked.name not in DTYPES or dtype is None:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; found {dtype!r}")
    return np.dtype(checked.name)  # in the machine's byte order


def _fitting(parameters: Any, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    if not isinstance(parameters, Mapping):
        raise ValueError(f"parameters must be a mapping from names to arrays; found {type(parameters).__name__}")
    if missing := [name for name in shapes if name not in parameters]:
        raise ValueError(f"parameters are missing: {', '.join(missing)}")
    if unknown := [name for name in parameters if name not in shapes]:
        raise ValueError(f"parameters of this model do not include: {', '.join(unknown)}")
    for name, shape in shapes.items():
        if not hasattr(parameters[name], "shape"):
            raise ValueError(f"parameter {name} must be an array; found {type(parameters[name]).__name__}")
        if parameters[name].shape != shape:
            raise ValueError(f"parameter {name} must have shape {shape}; found {parameters[name].shape}")
    first = next(iter(shapes))
    expected = parameters[first].dtype
    for name in shapes:
        dtype = parameters[name].dtype
        if name != first and dtype == expected:  # whose name takes NumPy long to make
            continue
        if str(dtype) not in DTYPES:
            raise ValueError(f"parameter {name} must be one of {', '.join(DTYPES)}; found {dtype}")
        if dtype != expected:
            raise ValueError(f"parameters must have one dtype: {first} is {expected}, {name} is {dtype}")
    return {name: parameters[name] for name in shapes}
