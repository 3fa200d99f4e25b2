"""What ``from_pretrained`` takes of the arguments that it has in transformers, and what they mean here."""

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nystrom_np.checkpoint import LoadedCheckpoint
from nystrom_np.config import NystromformerConfig
from nystrom_np.hub import local_folder

__all__ = ["check_saving", "configured_source", "loading_info", "placed", "without_torch"]

OF_TORCH: dict[str, tuple[Any, ...] | None] = {
    "low_cpu_mem_usage": None,  # weights are mapped into memory in any case
    "max_memory": None,
    "offload_folder": None,
    "offload_state_dict": None,
    "resume_download": None,  # it always is
    "trust_remote_code": None,  # no code of a folder is ever run
    "code_revision": None,
    "mirror": None,
    "_fast_init": None,
    "from_tf": (False,),
    "from_flax": (False,),
    "load_in_8bit": (False, None),
    "load_in_4bit": (False, None),
    "quantization_config": (None,),
    "attn_implementation": (None, "eager"),
    "use_flash_attention_2": (False, None),
    "proxies": (None,),  # the environment's are obeyed
    "use_safetensors": (True, None),
}
"""Arguments that change nothing here, and their values so far as others would change something: None for any."""

OF_SAVING: dict[str, tuple[Any, ...] | None] = {
    "safe_serialization": (True,),
    "push_to_hub": (False,),
    "is_main_process": (True,),
    "max_shard_size": None,
    "token": None,
}
"""The same, of ``save_pretrained``."""

EVERYWHERE = ("auto", "balanced", "balanced_low_0", "sequential")


def without_torch(options: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what only concerns torch; a ValueError if it asks for what is not here.

    Examples
    --------
    >>> without_torch({"low_cpu_mem_usage": True, "num_labels": 3})
    {'num_labels': 3}
    >>> without_torch({"load_in_8bit": True})
    Traceback (most recent call last):
    ValueError: load_in_8bit must be False or None; found True
    """
    _check_values(options, OF_TORCH, {"use_safetensors": "; nystrom-np convert makes safetensors of a pickle"})
    return {name: value for name, value in options.items() if name not in OF_TORCH}


def check_saving(options: Mapping[str, Any]) -> None:
    """Refuse options of ``save_pretrained`` that would change something.

    Raises
    ------
    TypeError
        If there is no such option in transformers.
    ValueError
        If it asks for what is not here.

    Examples
    --------
    >>> check_saving({"safe_serialization": False})
    Traceback (most recent call last):
    ValueError: safe_serialization must be True; found False
    """
    for name in options:
        if name not in OF_SAVING:
            raise TypeError(f"save_pretrained has the options variant, {', '.join(OF_SAVING)}; found {name!r}")
    _check_values(options, OF_SAVING, {})


def _check_values(options: Mapping[str, Any], known: Mapping[str, Any], advice: Mapping[str, str]) -> None:
    for name, value in options.items():
        allowed = known.get(name)
        if allowed is not None and not any(value is one or (isinstance(one, str) and value == one) for one in allowed):
            expected = " or ".join(map(repr, allowed))
            raise ValueError(f"{name} must be {expected}; found {value!r:.80}{advice.get(name, '')}")


def placed(device: str, device_map: Any) -> str:
    """Return the device that a ``device_map`` means: there is one for the whole model.

    Parameters
    ----------
    device : str
        Where the map leaves it open: for None, "auto" and its like.
    device_map : str, int or dict, optional
        A device, the number of a GPU, or ``{"": device}``.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the map puts parts of the model on different devices.

    Examples
    --------
    >>> placed("cpu", "auto"), placed("cpu", {"": 0})
    ('cpu', 'cuda:0')
    """
    if isinstance(device_map, Mapping):
        devices = list(device_map.values())
        if not devices or any(one != devices[0] for one in devices):
            raise ValueError(f"device_map must put the whole model on one device; found {device_map!r:.80}")
        device_map = devices[0]
    if device_map is None or (isinstance(device_map, str) and device_map in EVERYWHERE):
        return device
    if isinstance(device_map, int) and not isinstance(device_map, bool):
        return f"cuda:{device_map}"
    return str(device_map)


def configured_source(
    folder: str | os.PathLike[str] | None,
    config: Any,
    state_dict: Any,
    where: dict[str, Any],
    variant: str | None,
    overrides: dict[str, Any],
) -> tuple[NystromformerConfig, Path | Mapping[str, Any]]:
    """Find the configuration and the parameters of a model.

    Parameters
    ----------
    folder : str or path, optional
        A checkpoint's; needed for what is not given.
    config : NystromformerConfig, str or path, optional
        Instead of the folder's.
    state_dict : mapping of str to array, optional
        Instead of the folder's weights.
    where : dict
        Arguments of `local_folder`.
    variant : str, optional
        Which weights.
    overrides : dict
        Fields of the configuration to change, where it is read.

    Returns
    -------
    config : NystromformerConfig
        A copy of what was given, if it was one.
    source : Path or mapping
        What `load_checkpoint` reads.

    Raises
    ------
    OSError, ValueError
        If something cannot be found, or read.
    TypeError
        If an override is no field, or there is nothing to change, or an argument has a wrong type.

    Examples
    --------
    >>> configured_source(None, None, {}, {}, None, {})
    Traceback (most recent call last):
    TypeError: without a folder, config and state_dict must both be given
    """
    if not isinstance(state_dict, Mapping | None):
        raise TypeError(f"state_dict must be a mapping from names to arrays; found {type(state_dict).__name__}")
    if folder is None and (state_dict is None or config is None):
        raise TypeError("without a folder, config and state_dict must both be given")
    at = None
    if folder is not None and state_dict is None:  # both are fetched at once, of one commit
        at = local_folder(folder, "weights", **where, variant=variant)
    source = state_dict if at is None else at
    if isinstance(config, NystromformerConfig):
        if overrides:
            raise TypeError(f"{', '.join(overrides)}: where config is given, its own fields are changed instead")
        return copy.deepcopy(config), source
    if not isinstance(config, str | os.PathLike | None):
        raise TypeError(f"config must be a NystromformerConfig or a folder; found {type(config).__name__}")
    if config is None and at is not None:
        return NystromformerConfig.from_pretrained(at, **overrides), at
    read = NystromformerConfig.from_pretrained(folder if config is None else config, **where, **overrides)  # type: ignore[arg-type]
    return read, source


def loading_info(loaded: LoadedCheckpoint) -> dict[str, list[Any]]:
    """Return what transformers calls the loading info: names that were missing, unexpected, or of another shape.

    Examples
    --------
    >>> loading_info(LoadedCheckpoint({}, ("classifier.bias",), (), {}))["missing_keys"]
    ['classifier.bias']
    """
    return {
        "missing_keys": sorted(loaded.initialised),
        "unexpected_keys": sorted(loaded.ignored),
        "mismatched_keys": list(loaded.mismatched.values()),
        "error_msgs": [],
    }
