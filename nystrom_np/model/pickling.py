"""A model as a pickle: the folder that it came from where that gives the same bits, and all parameters where not."""

import copy
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nystrom_np.array_module import to_numpy
from nystrom_np.checkpoint import stored_tensors
from nystrom_np.config import NystromformerConfig
from nystrom_np.origins import check_content, content_digest

__all__ = ["Origin", "reduced", "restored"]

KNOWN = {"config", "initialised", "nystromformer", "_followed", "_parameters", "_tree", "_any_parameter", "_origin"}
"""A model's attributes. One that has others has been given them by somebody, who would miss them."""


class Origin(NamedTuple):
    """Where a model came from: a folder, and what was asked of it."""

    folder: str
    variant: str | None
    ignore_mismatched_sizes: bool


def reduced(model: Any, origin: Origin | None) -> tuple[Any, ...] | None:
    """Return how to make a model again from its folder; None if that would not give the same.

    Parameters
    ----------
    model : model
        On any device.
    origin : Origin, optional

    Returns
    -------
    tuple or None
        A function and its arguments.

    Examples
    --------
    >>> reduced(None, None)
    """
    if origin is None or not _is_as_made(model):
        return None
    try:
        digest = content_digest(_files(origin))
        now, then = vars(model.config), vars(NystromformerConfig.from_pretrained(origin.folder))
        changes = {name: now[name] for name in now if name not in then or now[name] != then[name]}
        again = _loaded(type(model), origin, model.dtype.name, changes)
    except (OSError, ValueError, TypeError):  # the folder has gone, or it no longer fits: the sizes were changed, say
        return None
    if now.keys() != then.keys() or again.initialised != model.initialised or not _same(model, again):
        return None
    return restored, (type(model), tuple(origin), digest, model.dtype.name, model.device, changes)


def restored(
    kind: Any, origin: tuple[Any, ...], digest: bytes, dtype: str, device: str, changes: dict[str, Any]
) -> Any:
    """Make a model again from its folder.

    Parameters
    ----------
    kind : class
    origin : tuple
        An `Origin`.
    digest : bytes
        Of the folder's files.
    dtype, device : str
    changes : dict
        Fields of the configuration that differ from the file's.

    Returns
    -------
    model

    Raises
    ------
    OSError
        If the folder is not there.
    ValueError
        If its files are others, or the device cannot be used.

    Examples
    --------
    >>> import pickle
    >>> from nystrom_np import NystromformerModel
    >>> from nystrom_np.pipelines.loading import shipped_weights
    >>> model = NystromformerModel.from_pretrained(shipped_weights() / "masked-lm")
    >>> len(pickle.dumps(model)) < 600, pickle.loads(pickle.dumps(model)).dtype  # calls it
    (True, dtype('float32'))
    """
    where = Origin(*origin)
    check_content(_files(where), digest, where.folder)
    return _loaded(kind, where, dtype, changes).to(device)


def _is_as_made(model: Any) -> bool:
    """Whether nothing was added to a model, and the encoder of one with a head is a view of it, as when it was made."""
    if not set(vars(model)) <= KNOWN or type(model.config) is not NystromformerConfig:
        return False
    body = vars(model).get("nystromformer")
    if body is None:
        return True
    mine, its = model.state_dict(), body.state_dict()
    shared = all(value is mine.get(f"nystromformer.{name}") for name, value in its.items())
    return shared and body.config == model.config and _is_as_made(body)


def _files(origin: Origin) -> list[Path]:
    weights = {tensor.path for tensor in stored_tensors(origin.folder, origin.variant).values()}
    return [Path(origin.folder) / "config.json", *sorted(weights)]


def _loaded(kind: Any, origin: Origin, dtype: str, changes: dict[str, Any]) -> Any:
    config = NystromformerConfig.from_pretrained(origin.folder)
    vars(config).update(copy.deepcopy(changes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they were given when it was loaded first
        model = kind.from_pretrained(
            origin.folder,
            dtype,
            config=config,
            variant=origin.variant,
            ignore_mismatched_sizes=origin.ignore_mismatched_sizes,
        )
    model._origin = origin
    return model


def _same(model: Any, again: Any) -> bool:
    """Whether all parameters have the same bits."""
    mine, other = model.state_dict(), again.state_dict()
    return mine.keys() == other.keys() and all(_same_bits(to_numpy(mine[name]), other[name]) for name in mine)


def _same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    bits = f"u{one.dtype.itemsize}"
    return one.dtype == other.dtype and np.array_equal(one.view(bits), other.view(bits))
