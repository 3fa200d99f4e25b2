"""Changes to a model's parameters: another vocabulary, other values."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from nystrom_np.array_module import Array, get_array_module, to_device, to_numpy
from nystrom_np.config import NystromformerConfig

__all__ = ["Embedding", "IncompatibleKeys", "replaced", "resized"]

WORDS = "embeddings.word_embeddings.weight"
ROWS_OF_WORDS = (WORDS, "cls.predictions.bias", "cls.predictions.decoder.weight")
"""What has a row for each token of the vocabulary."""


class Embedding(NamedTuple):
    """A table of vectors, one for each id.

    Examples
    --------
    >>> Embedding(np.eye(3))([0, 2])
    array([[1., 0., 0.],
           [0., 0., 1.]])
    """

    weight: Array

    @property
    def num_embeddings(self) -> int:
        """How many vectors there are."""
        return int(self.weight.shape[0])

    @property
    def embedding_dim(self) -> int:
        """How long each is."""
        return int(self.weight.shape[1])

    def __call__(self, ids: Any) -> Array:
        """Look up the vectors of ids."""
        return self.weight[get_array_module(self.weight).asarray(ids)]


class IncompatibleKeys(NamedTuple):
    """Names that a state dict lacks, and those that the model has no parameters for."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def words_of(names: Any) -> str:
    """Return the name of the word embeddings among a model's."""
    return next(name for name in names if name.endswith(WORDS))


def resized(parameters: Mapping[str, Array], config: NystromformerConfig, rows: int, seed: int) -> dict[str, Array]:
    """Give all that has a row for each token another number of them: those in common stay.

    Parameters
    ----------
    parameters : mapping of str to array
        A model's.
    config : NystromformerConfig
        New rows are normal with standard deviation ``initializer_range``, a new bias is 0, as in transformers 4.37.2.
    rows : int
        How many there will be.
    seed : int
        Of what is drawn.

    Returns
    -------
    dict of str to array

    Examples
    --------
    >>> resized({"cls.predictions.bias": np.ones(2)}, NystromformerConfig(), 3, seed=0)
    {'cls.predictions.bias': array([1., 1., 0.])}
    """
    changed = {}
    for name, value in parameters.items():
        if name.endswith(ROWS_OF_WORDS):
            value = _with_rows(name, value, config, rows, seed)
        changed[name] = value
    return changed


def _with_rows(name: str, value: Array, config: NystromformerConfig, rows: int, seed: int) -> Array:
    old = value.shape[0]
    more: Any = np.zeros((max(rows - old, 0), *value.shape[1:]), np.float32)
    if value.ndim > 1:
        generator = np.random.default_rng([seed, old, *name.removeprefix("nystromformer.").encode()])
        more = generator.standard_normal(more.shape, np.float32) * np.float32(config.initializer_range)
    xp = get_array_module(value)
    return xp.concatenate([value[:rows], xp.asarray(more).astype(value.dtype)])


def replaced(
    parameters: Mapping[str, Array], state_dict: Any, tied: bool, device: str
) -> tuple[dict[str, Array], IncompatibleKeys]:
    """Put the values of a state dict in place of a model's parameters, copied, in their dtype and on their device.

    Parameters
    ----------
    parameters : mapping of str to array
        The model's.
    state_dict : mapping of str to array
        Under the same names; the decoder's may be there beside what it shares.
    tied : bool
        Whether the decoder is the word embeddings.
    device : str
        Where the values go.

    Returns
    -------
    parameters : dict of str to array
        All of the model's: those that the state dict lacks are the old ones.
    IncompatibleKeys

    Raises
    ------
    TypeError
        If the state dict is none.
    ValueError
        If a value has another shape, or one parameter has two values.

    Examples
    --------
    >>> replaced({"a": np.zeros(1)}, {"a": np.ones(1), "b": np.ones(1)}, tied=True, device="cpu")
    ({'a': array([1.])}, IncompatibleKeys(missing_keys=[], unexpected_keys=['b']))
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"state_dict must be a mapping from names to arrays; found {type(state_dict).__name__}")
    given = dict(state_dict)
    others = {"cls.predictions.decoder.bias": "cls.predictions.bias"}
    if tied:
        others["cls.predictions.decoder.weight"] = f"nystromformer.{WORDS}"
    for other, name in others.items():
        if other in given and name in parameters:
            value = given.pop(other)
            if name in given and not np.array_equal(_numbers(name, given[name]), _numbers(other, value)):
                raise ValueError(f"{other} and {name} are one parameter, and have different values")
            given[name] = value
    new = dict(parameters)
    for name, old in parameters.items():
        if name in given:
            value = _numbers(name, given[name])
            if value.shape != old.shape:
                raise ValueError(f"parameter {name} must have shape {old.shape}; found {value.shape}")
            new[name] = to_device(value.astype(old.dtype), device)
    missing = [name for name in parameters if name not in given]
    return new, IncompatibleKeys(missing, [name for name in given if name not in parameters])


def _numbers(name: str, value: Any) -> np.ndarray:
    array = to_numpy(value) if hasattr(value, "shape") else np.asarray(value)
    if np.asarray(array).dtype.kind not in "biuf":
        raise ValueError(f"parameter {name} must be an array of numbers; found {type(value).__name__}")
    return np.asarray(array)
