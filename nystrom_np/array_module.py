"""The array-module switch: one code path for NumPy, CuPy and array types that look like them.

Every formula of the package asks :func:`get_array_module` which module its arguments belong to and calls
that module's functions. This is the only file that imports cupy, and it does so when a CuPy array or a CUDA
device is first met.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

__all__ = [
    "Array",
    "DeviceError",
    "array_module_of",
    "check_arrays",
    "device_of",
    "get_array_module",
    "move_like",
    "special",
    "start_copy_to_host",
    "to_device",
    "to_numpy",
    "within_memory",
]

Array = Any
"""What jaxtyping annotations wrap: an array of any backend (``Float[Array, "batch length dim"]``)."""


class DeviceError(ValueError):
    """A device was asked for that is unknown or that this machine cannot provide."""


def get_array_module(*arrays: Array) -> Any:
    """Return the module whose functions apply to the given arrays.

    It is ``numpy``, ``cupy``, or what an array's own ``__array_namespace__`` returns; None and numbers fit any.

    Raises
    ------
    TypeError
        If the arrays belong to different modules: nothing is moved between devices silently.

    Examples
    --------
    >>> import numpy as np
    >>> get_array_module(np.zeros(3)).__name__
    'numpy'
    """
    found: Any = None
    for array in arrays:
        module = _module_of(array)
        if module is None or module is found:
            continue
        if found is not None:
            raise TypeError(f"arrays of one module were expected, found {found.__name__} and {module.__name__}")
        found = module
    return np if found is None else found


def check_arrays(*arrays: Array) -> None:
    """Refuse what is not an array, with a TypeError.

    Examples
    --------
    >>> check_arrays([1.0, 2.0])
    Traceback (most recent call last):
    TypeError: an array was expected, found list
    """
    for array in arrays:
        if not hasattr(array, "shape") or not hasattr(array, "dtype"):
            raise TypeError(f"an array was expected, found {type(array).__name__}")


def _module_of(array: Array) -> Any:
    if array is None or isinstance(array, (int, float)):
        return None
    if isinstance(array, (np.ndarray, np.generic)):
        return np
    if type(array).__module__.partition(".")[0] == "cupy":  # also the tracers inside cupy.fuse
        return _cupy()
    if hasattr(array, "__array_namespace__"):
        return array.__array_namespace__()
    raise TypeError(f"an array was expected, found {type(array).__name__}")


INSTALL = 'pip install "nystrom_np[cuda12]" (or [cuda13], to match the driver)'


def _cupy() -> ModuleType:
    try:
        import cupy
    except ModuleNotFoundError as error:
        raise DeviceError(f'device "cuda" needs CuPy, which is not installed: {INSTALL}, or use "cpu"') from error
    except ImportError as error:
        raise DeviceError(f'device "cuda" needs CuPy, which fails ({_first_line(error)}): {INSTALL}') from error
    return cupy


def _first_line(error: Exception) -> str:
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)


def array_module_of(device: str) -> Any:
    """Return the array module of a device name, after making sure that the device can be used.

    Parameters
    ----------
    device : str
        ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Returns
    -------
    module
        ``numpy`` or ``cupy``.

    Raises
    ------
    DeviceError
        If the name is unknown, CuPy is not installed, or there is no usable driver or GPU.

    Examples
    --------
    >>> array_module_of("cpu").__name__
    'numpy'
    """
    if device == "cpu":
        return np
    name, _, index = str(device).partition(":")
    if name != "cuda" or (index and not index.isdecimal()) or str(device).endswith(":"):
        raise DeviceError(f'device must be "cpu", "cuda" or "cuda:N", found {device!r}')
    cupy = _cupy()
    _check_driver(cupy, device, int(index or 0))
    _check_libraries(cupy)
    return cupy


def _check_driver(cupy: Any, device: str, index: int) -> None:
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise DeviceError(
            f'device "{device}" needs an NVIDIA GPU with a working driver ({_first_line(error)}): '
            'install the driver, so that nvidia-smi lists the GPU, or use "cpu"'
        ) from error
    if index >= count:
        raise DeviceError(f'device "{device}" does not exist: this machine has {count} CUDA device(s), or use "cpu"')
    if index:
        raise DeviceError(f'device "{device}": set CUDA_VISIBLE_DEVICES={index} and use "cuda" to choose a GPU')


@cache
def _check_libraries(cupy: Any) -> None:
    """Compute once: CuPy loads the compiler and the linear algebra of CUDA when they are first needed."""
    with within_memory("its first kernel"):
        try:
            ones = cupy.ones((2, 2), dtype="float32")
            (ones + ones) @ ones
        except Exception as error:
            if _is_out_of_memory(error):
                raise
            raise DeviceError(
                f'device "cuda" lacks libraries of CUDA that CuPy needs ({_first_line(error)}): {INSTALL}, or use "cpu"'
            ) from error


@contextmanager
def within_memory(what: str) -> Iterator[None]:
    """Turn a GPU's failure to allocate memory, in this block, into one sentence that says what to do.

    Raises
    ------
    DeviceError
        In place of CuPy's own errors about memory; all others pass.

    Examples
    --------
    >>> with within_memory("a list"):
    ...     sorted([2, 1])
    [1, 2]
    """
    try:
        yield
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        raise DeviceError(
            f"the memory of the GPU does not suffice for {what} ({_first_line(error)}): "
            "use smaller batches, shorter sequences, dtype='float16', or device='cpu'"
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    told_by = type(error).__module__.partition(".")[0]
    signs = ("out of memory", "ALLOC_FAILED")  # of the CUDA runtime and driver; of cuBLAS and cuSOLVER
    return told_by in ("cupy", "cupy_backends") and (
        isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)
    )


def device_of(array: Array) -> str:
    """Return the device name of an array: ``"cpu"``, or ``"cuda:N"`` for CuPy arrays.

    Examples
    --------
    >>> import numpy as np
    >>> device_of(np.zeros(3))
    'cpu'
    """
    return f"cuda:{array.device.id}" if _is_cupy(get_array_module(array)) else "cpu"


def _is_cupy(module: Any) -> bool:
    return bool(module.__name__ == "cupy")


def to_device(array: Array, device: str) -> Array:
    """Return the array on a device, without a copy where it is there already.

    Parameters
    ----------
    array : array
        Of any backend.
    device : str
        As in :func:`array_module_of`.

    Raises
    ------
    DeviceError
        If the device cannot be used, or its memory does not suffice.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(3)
    >>> to_device(x, "cpu") is x
    True
    """
    module = array_module_of(device)
    if module is np:
        return to_numpy(array)
    return _to_cuda(module, array)


def _to_cuda(cupy: Any, array: Array) -> Array:
    """Copy to the GPU: CuPy does so from page-locked memory, so that the host goes on meanwhile."""
    with within_memory(f"{array.nbytes:,} more bytes"):
        return cupy.asarray(array)


def move_like(array: Array, other: Array) -> Array:
    """Return the array where another one lies, without a copy where it is there already.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(3)
    >>> move_like(x, np.zeros(1)) is x
    True
    """
    module, device = get_array_module(other), device_of(other)
    if get_array_module(array) is module and device_of(array) == device:
        return array
    return _to_cuda(module, array) if _is_cupy(module) else module.asarray(to_numpy(array))


def to_numpy(array: Array) -> np.ndarray:
    """Return the array as a NumPy array, copied from its device if need be.

    Examples
    --------
    >>> import numpy as np
    >>> to_numpy(np.arange(3))
    array([0, 1, 2])
    """
    module = get_array_module(array)
    if module is np:
        return np.asarray(array)
    return array.get() if hasattr(array, "get") else np.asarray(array)


def start_copy_to_host(array: Array) -> Callable[[], np.ndarray]:
    """Start copying an array to the host; what is returned is a function that waits for the copy and returns it.

    The array must not be changed meanwhile. From a GPU the copy goes into page-locked memory, on a stream of its own,
    once the work queued so far is done: what is queued afterwards need not wait for it.

    Examples
    --------
    >>> import numpy as np
    >>> start_copy_to_host(np.arange(3))()
    array([0, 1, 2])
    """
    module = get_array_module(array)
    return _start_copy_to_host(module, array) if _is_cupy(module) else partial(to_numpy, array)


def _start_copy_to_host(cupy: Any, array: Array) -> Callable[[], np.ndarray]:
    import cupyx

    source = cupy.ascontiguousarray(array)
    copies = _download_stream(cupy)
    copies.wait_event(cupy.cuda.get_current_stream().record())
    host = cupyx.empty_pinned(source.shape, source.dtype)
    source.get(stream=copies, out=host, blocking=False)
    done = copies.record()

    def wait(source: Array = source) -> np.ndarray:  # the source stays until it is copied
        done.synchronize()
        return host

    return wait


@cache
def _download_stream(cupy: Any) -> Any:
    return cupy.cuda.Stream(non_blocking=True)


SPECIAL = {"cupy": "cupyx.scipy.special", "jax": "jax.scipy.special"}
"""Where an array module's special functions are, if not in SciPy or in a ``special`` of its own."""


def special(module: Any) -> Any:
    """Return the special functions (``erf``) that go with an array module.

    They are imported when first used: SciPy's take longer to import than everything else together.

    Examples
    --------
    >>> import numpy as np
    >>> float(special(np).erf(0.0))
    0.0
    """
    return getattr(module, "special", None) or import_module(
        SPECIAL.get(module.__name__.partition(".")[0], "scipy.special")
    )
