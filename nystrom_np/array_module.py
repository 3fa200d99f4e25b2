"""The array-module switch: one code path for NumPy, CuPy and array types that look like them.

Every formula of the package asks :func:`get_array_module` which module its arguments belong to and calls
that module's functions. This is the only file that imports cupy, and it does so when a CuPy array or a CUDA
device is first met. Lines that need a GPU to run are in this file alone.
"""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial, update_wrapper
from inspect import unwrap
from types import ModuleType
from typing import Any

import numpy as np

__all__ = [
    "Array",
    "DeviceError",
    "array_module_of",
    "device_of",
    "exponential",
    "fuse",
    "fuse_in_place",
    "get_array_module",
    "move_like",
    "overwrite",
    "special",
    "start_download",
    "to_device",
    "to_numpy",
    "within_memory",
]

Array = Any
"""What jaxtyping annotations wrap: an array of any backend (``Float[Array, "batch length dim"]``)."""

ELEMENTS_PER_BLOCK = 1 << 18
"""Elements that :func:`fuse` handles at a time on NumPy: few enough that a block and its temporaries stay in the
cache, and enough that threads seldom wait for each other between two operations."""


class DeviceError(ValueError):
    """A device was asked for that is unknown or that this machine cannot provide."""


def get_array_module(*arrays: Array) -> Any:
    """Return the module whose functions apply to the given arrays.

    Parameters
    ----------
    *arrays : array or scalar
        Arrays of one backend; ``None`` and Python scalars fit any backend.

    Returns
    -------
    module
        ``numpy``, ``cupy``, or what an array's own ``__array_namespace__`` returns.

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
    return f"cuda:{array.device.id}" if get_array_module(array).__name__ == "cupy" else "cpu"


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

    Parameters
    ----------
    array, other : arrays
        Of any backend.

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
    if module is np:
        return to_numpy(array)
    if module.__name__ == "cupy":
        return _to_cuda(module, array)
    return module.asarray(to_numpy(array))


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


def start_download(array: Array) -> Callable[[], np.ndarray]:
    """Start copying an array to the host; what is returned waits for the copy and gives it.

    From a GPU the copy goes into page-locked memory, on a stream of its own, once the work queued so far is done: what
    is queued afterwards need not wait for it.

    Parameters
    ----------
    array : array
        Of any backend. It must not be changed meanwhile.

    Returns
    -------
    callable
        Without arguments: the NumPy array.

    Examples
    --------
    >>> import numpy as np
    >>> start_download(np.arange(3))()
    array([0, 1, 2])
    """
    module = get_array_module(array)
    return _start_download(module, array) if module.__name__ == "cupy" else partial(to_numpy, array)


def _start_download(cupy: Any, array: Array) -> Callable[[], np.ndarray]:
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


def special(module: Any) -> Any:
    """Return the special functions (``erf``) that go with an array module.

    SciPy's are imported when first used: they take longer to import than everything else together.

    Examples
    --------
    >>> import numpy as np
    >>> float(special(np).erf(0.0))
    0.0
    """
    if module.__name__ == "cupy":
        import cupyx.scipy.special as functions
    elif hasattr(module, "special"):
        functions = module.special
    else:
        import scipy.special as functions
    return functions


def exponential(module: Any) -> tuple[Callable[..., Array], float]:
    """Return a module's fastest exponential and its unit: eˣ is ``exp(unit * x)``.

    It is 2ʸ, with the unit log₂ e, where NumPy has it in vectors of AVX-512 (0.6 of the time of eˣ in float32), and
    eˣ itself, with the unit one, elsewhere.

    Examples
    --------
    >>> exp, unit = exponential(np)
    >>> float(exp(unit * np.float64(1.0)).round(4))
    2.7183
    """
    if module is np and _has_vector_exp2():
        return np.exp2, math.log2(math.e)
    return module.exp, 1.0


@cache
def _has_vector_exp2() -> bool:
    """NumPy's wheels for Linux have it; they name the instructions AVX512_SKX, from 2.4 on X86_V4."""
    found = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", [])  # left out where there are none
    return sys.platform == "linux" and not {"AVX512_SKX", "X86_V4"}.isdisjoint(found)


def overwrite(x: Array, function: Callable[..., Array], *beside: Array) -> Array:
    """Return ``function(x, *beside)`` for a row-wise function, in the memory of x where this saves time.

    On NumPy a few rows at a time go through all steps of the function while they lie in the cache, and no fresh
    memory is taken from the system, which costs time for each of its pages. CuPy keeps a pool.

    Parameters
    ----------
    x : array of floats, (rows, width)
        Given up by the caller: its values may be gone.
    function : callable
        Takes rows (n, width), which it may change, and those beside them, which it may not, to rows of the same
        shape and dtype, each row alone.
    *beside : arrays, (rows, ...)

    Examples
    --------
    >>> import numpy as np
    >>> overwrite(np.array([[1.0, 4.0]]), np.sqrt)
    array([[1., 2.]])
    """
    if get_array_module(x) is not np:
        return function(x, *beside)
    rows = max(1, ELEMENTS_PER_BLOCK // max(1, x.shape[-1]))
    for start in range(0, len(x), rows):
        block = slice(start, start + rows)
        x[block] = function(x[block], *(array[block] for array in beside))
    return x


def fuse(function: Callable[..., Array]) -> Callable[..., Array]:
    """Make an elementwise formula take one pass over memory.

    The formula stays as it is written. CuPy compiles it into a single kernel (``cupy.fuse``); on NumPy a formula of
    one array is evaluated block by block, so that the temporaries of the expression stay in the processor's cache
    instead of travelling to memory and back for each operation.

    Parameters
    ----------
    function : callable
        Elementwise, of arrays that broadcast to the first: the result at an index depends on the arguments at this
        index alone.

    Returns
    -------
    callable
        The same function of arrays of any backend; the result has the first one's dtype.

    Examples
    --------
    >>> import numpy as np
    >>> square = fuse(lambda x: x * x)
    >>> square(np.arange(4.0))
    array([0., 1., 4., 9.])
    """
    compiled = _compiled(function)

    def fused(x: Array, *others: Array) -> Array:
        module = get_array_module(x)
        if module.__name__ == "cupy":
            return compiled(module)(x, *others).astype(x.dtype, copy=False)
        with np.errstate(over="ignore", under="ignore"):  # a formula may pass through ∞ to the right limit
            blocks = module is np and not others
            return (_in_blocks(function, x) if blocks else function(x, *others)).astype(x.dtype, copy=False)

    return update_wrapper(fused, function)


def fuse_in_place(function: Callable[..., None]) -> Callable[..., None]:
    """Make elementwise steps that change their first argument in place take one pass over memory on a GPU.

    NumPy takes the steps as they are written. They have no result but the changed argument.

    Parameters
    ----------
    function : callable
        Of arrays that broadcast to the first, and of numbers.

    Examples
    --------
    >>> import numpy as np
    >>> @fuse_in_place
    ... def scale(x, by):
    ...     x *= by
    >>> x = np.arange(3.0)
    >>> scale(x, 2.0)
    >>> x
    array([0., 2., 4.])
    """
    compiled = _compiled(function)

    def fused(x: Array, *others: Any) -> None:
        module = get_array_module(x)
        (compiled(module) if module.__name__ == "cupy" else function)(x, *others)

    return update_wrapper(fused, function)


def _compiled(function: Callable[..., Any]) -> Callable[[Any], Callable[..., Any]]:
    """CuPy's kernel of a formula, made when it is first needed."""
    as_written = unwrap(function)  # without run-time type checks: a tracer has no shape to check
    return cache(lambda cupy: cupy.fuse(as_written))


def _in_blocks(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    if x.ndim == 0:  # NumPy's operators return a number for it, which no step can be written over
        return function(np.reshape(x, 1)).reshape(())
    if x.size <= ELEMENTS_PER_BLOCK:
        return function(x)
    flat = x.reshape(-1)  # a view for the contiguous arrays that products return, else one copy
    out = np.empty_like(flat)
    for start in range(0, flat.size, ELEMENTS_PER_BLOCK):
        block = slice(start, start + ELEMENTS_PER_BLOCK)
        out[block] = function(flat[block])
    return out.reshape(x.shape)
