"""The array backends that tests run on: NumPy, CuPy where there is a GPU, and a strict stand-in for CuPy.

The stand-in holds its numbers in a NumPy array but behaves as CuPy does where it is easy to go wrong without
a GPU: it is never converted to NumPy silently, does not mix with NumPy arrays, gives 0-d arrays where NumPy
gives scalars, has no functions or keyword arguments that CuPy lacks, and refuses whatever would make the host
wait for the device, unless that is allowed and counted by :func:`host_reads`.
"""

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nystrom_np.fast import TWINS

__all__ = ["BACKENDS", "Backend", "HostReads", "StrictArray", "host_reads", "make_backend", "strict"]


@dataclass
class HostReads:
    """How often values were brought to the host."""

    count: int = 0


_reads: ContextVar[HostReads | None] = ContextVar("reads", default=None)


@contextmanager
def host_reads() -> Iterator[HostReads]:
    """Allow ``bool(x)``, ``x.item()``, boolean indexing … of strict arrays; count them and ``x.get()``."""
    reads = HostReads()
    token = _reads.set(reads)
    try:
        yield reads
    finally:
        _reads.reset(token)


def _count_read(what: str | None) -> None:
    """Count a read; refuse it where it is implicit (named) and not allowed."""
    reads = _reads.get()
    if reads is not None:
        reads.count += 1
    elif what is not None:
        raise TypeError(f"{what} of a device array makes the host wait: use .get() where that is meant")


def _unwrap(value: Any) -> Any:
    if isinstance(value, StrictArray):
        return value._data
    if isinstance(value, np.ndarray):
        raise TypeError("unsupported type numpy.ndarray beside a device array")
    if isinstance(value, (tuple, list)):
        return type(value)(_unwrap(item) for item in value)
    return value


def _wrap(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return StrictArray(np.asarray(value))
    if isinstance(value, tuple):
        return tuple(_wrap(item) for item in value)
    return value


def _like_cupy(name: str, keywords: str, function: Callable[..., Any], reads: bool = False) -> Callable[..., Any]:
    """A function on strict arrays with the keyword arguments that CuPy's has, and no others."""
    known = keywords.split()

    def call(*args: Any, **kwargs: Any) -> Any:
        if not kwargs.keys() <= set(known):
            raise TypeError(f"cupy's {name} has no argument {', '.join(sorted(kwargs.keys() - set(known)))}")
        if reads:
            _count_read(name)
        out = kwargs.get("out")
        result = _wrap(function(*_unwrap(args), **{key: _unwrap(value) for key, value in kwargs.items()}))
        return result if out is None else out

    call.__name__ = name
    return call


class StrictArray:
    """A NumPy array that keeps to what a CuPy array can do."""

    __array_ufunc__ = None  # NumPy's operators and functions leave this type alone
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, data: np.ndarray) -> None:
        self._data = data

    # what an array tells without touching its values
    shape = property(lambda self: self._data.shape)
    dtype = property(lambda self: self._data.dtype)
    ndim = property(lambda self: self._data.ndim)
    size = property(lambda self: self._data.size)
    nbytes = property(lambda self: self._data.nbytes)
    itemsize = property(lambda self: self._data.itemsize)
    strides = property(lambda self: self._data.strides)
    flags = property(lambda self: self._data.flags)
    T = property(lambda self: StrictArray(self._data.T))

    def __array_namespace__(self) -> Any:
        return strict

    def __repr__(self) -> str:
        return f"strict({self._data!r})"

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator["StrictArray"]:
        return (self[i] for i in range(len(self)))

    # the way to the host
    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> np.ndarray:
        _count_read(None)
        if out is None:
            return self._data.copy()
        if (out.shape, out.dtype) != (self.shape, self.dtype) or not self.flags.c_contiguous:
            raise ValueError("a copy into an array needs its shape and dtype, and contiguous memory")
        np.copyto(out, self._data)
        return out

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("implicit conversion to a NumPy array is not allowed: use .get()")

    def item(self) -> Any:
        _count_read("item()")
        return self._data.item()

    def tolist(self) -> Any:
        _count_read("tolist()")
        return self._data.tolist()

    def __bool__(self) -> bool:
        _count_read("bool()")
        return bool(self._data)

    def __int__(self) -> int:
        _count_read("int()")
        return int(self._data)

    def __float__(self) -> float:
        _count_read("float()")
        return float(self._data)

    def nonzero(self) -> Any:
        _count_read("nonzero()")
        return _wrap(self._data.nonzero())

    # indexing
    def __getitem__(self, key: Any) -> "StrictArray":
        key = _unwrap(key)
        if _masks(key):
            _count_read("boolean indexing")
        return StrictArray(np.asarray(self._data[_wrapped(key, self._data.shape)]))

    def __setitem__(self, key: Any, value: Any) -> None:
        key = _unwrap(key)
        if _masks(key) and getattr(value, "ndim", 0):
            _count_read("boolean indexing")
        self._data[key] = _operand(value)


def _wrapped(key: Any, shape: tuple[int, ...]) -> Any:
    """Indices taken modulo the axis, as CuPy takes them: a wrong one is no error there, but another element."""
    parts = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(part, np.ndarray) and part.dtype.kind in "iu" for part in parts):
        return key
    return tuple(part % size for part, size in zip(parts, shape, strict=False))


def _masks(key: Any) -> bool:
    parts = key if isinstance(key, tuple) else (key,)
    return any(isinstance(part, np.ndarray) and part.dtype == bool for part in parts)


def _operand(value: Any) -> Any:
    """What may stand beside a device array: another one, or a scalar of Python or NumPy."""
    if isinstance(value, StrictArray):
        return value._data
    if isinstance(value, (bool, int, float, complex, np.generic)):
        return value
    raise TypeError(f"unsupported type {type(value).__name__} beside a device array")


def _add_operators() -> None:
    def binary(function: Callable[[Any, Any], Any]) -> Callable[[StrictArray, Any], StrictArray]:
        return lambda self, other: _wrap(function(self._data, _operand(other)))

    def reflected(function: Callable[[Any, Any], Any]) -> Callable[[StrictArray, Any], StrictArray]:
        return lambda self, other: _wrap(function(_operand(other), self._data))

    def in_place(function: Callable[..., Any]) -> Callable[[StrictArray, Any], StrictArray]:
        def call(self: StrictArray, other: Any) -> StrictArray:
            function(self._data, _operand(other), out=self._data, casting="same_kind")
            return self

        return call

    arithmetic = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide}
    arithmetic |= {"pow": np.power, "floordiv": np.floor_divide, "mod": np.remainder}
    arithmetic |= {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
    for name, function in arithmetic.items():
        setattr(StrictArray, f"__{name}__", binary(function))
        setattr(StrictArray, f"__r{name}__", reflected(function))
        setattr(StrictArray, f"__i{name}__", in_place(function))
    StrictArray.__matmul__ = binary(np.matmul)  # type: ignore[attr-defined]
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        setattr(StrictArray, f"__{name}__", binary(getattr(operator, name)))
    for name in ("neg", "pos", "invert", "abs"):
        function = getattr(operator, name)
        setattr(StrictArray, f"__{name}__", lambda self, function=function: _wrap(function(self._data)))


_METHODS = """
    all axis out keepdims | any axis out keepdims | argmax axis out dtype keepdims
    argmin axis out dtype keepdims | astype dtype order casting subok copy | clip min max out | conj
    copy order | cumsum axis dtype out | fill value | flatten order | max axis out keepdims
    mean axis dtype out keepdims | min axis out keepdims | prod axis dtype out keepdims | ravel order
    repeat repeats axis | reshape order | round decimals out | squeeze axis
    std axis dtype out ddof keepdims | sum axis dtype out keepdims | swapaxes axis1 axis2
    take indices axis out | transpose | var axis dtype out ddof keepdims | view dtype
"""
_FUNCTIONS = """
    all axis out keepdims | any axis out keepdims | arange start stop step dtype
    argmax axis dtype out keepdims | argmin axis dtype out keepdims | argsort axis kind
    array_equal equal_nan | ascontiguousarray dtype | broadcast_to shape | clip a a_min a_max out
    concatenate axis out dtype casting | count_nonzero axis | cumsum axis dtype out | diff n axis
    empty shape dtype order | empty_like dtype order subok shape | expand_dims axis
    eye N M k dtype order | flip axis | full shape fill_value dtype order
    full_like dtype order subok shape | isin assume_unique invert | matmul out dtype casting order
    max axis out keepdims | mean axis dtype out keepdims | min axis out keepdims
    moveaxis source destination | ones shape dtype order | ones_like dtype order subok shape
    pad pad_width mode constant_values | prod axis dtype out keepdims | repeat repeats axis
    reshape order | sort axis kind | split axis | squeeze axis | stack axis out dtype casting
    sum axis dtype out keepdims | swapaxes axis1 axis2 | take indices axis out
    take_along_axis indices axis | tile reps | transpose axes | zeros shape dtype order
    zeros_like dtype order subok shape
"""
_READING = "argwhere | flatnonzero | nonzero | unique return_index return_inverse return_counts axis"
_UFUNCS = """
    abs add divide equal exp expm1 floor floor_divide greater greater_equal isfinite isinf isnan less
    less_equal log log1p logical_and logical_not logical_or maximum minimum multiply negative not_equal
    power sign sqrt square subtract tanh
"""


def _table(text: str) -> Iterator[tuple[str, str]]:
    """Split a table into names and the keyword arguments that CuPy 14 gives them."""
    for entry in text.replace("\n", "|").split("|"):
        if entry.strip():
            name, _, keywords = entry.strip().partition(" ")
            yield name, keywords


_add_operators()
for _name, _keywords in _table(_METHODS):
    setattr(StrictArray, _name, _like_cupy(f"ndarray.{_name}", _keywords, getattr(np.ndarray, _name)))

_astype = StrictArray.astype  # type: ignore[attr-defined]


def _astype_or_self(self: StrictArray, dtype: Any, *args: Any, **kwargs: Any) -> StrictArray:
    return self if kwargs.get("copy") is False and self.dtype == dtype else _astype(self, dtype, *args, **kwargs)


StrictArray.astype = _astype_or_self  # type: ignore[attr-defined]


def _asarray(a: Any, dtype: Any = None, order: Any = None) -> StrictArray:
    """Move to the device: the one function that takes NumPy arrays."""
    if isinstance(a, StrictArray):
        return a if dtype in (None, a.dtype) else StrictArray(a._data.astype(dtype))
    return StrictArray(np.array(a, dtype=dtype, order=order or "K"))


def _where(condition: np.ndarray, *choices: Any) -> Any:
    if not choices:
        _count_read("where() of a condition alone")
    return np.where(condition, *choices)


def _erf(x: np.ndarray, **out: Any) -> Any:
    import scipy.special  # here, since a machine with CuPy need not have it

    return scipy.special.erf(x, **out)


def _namespace() -> SimpleNamespace:
    functions = {name: _like_cupy(name, "out dtype casting", getattr(np, name)) for name in _UFUNCS.split()}
    for name, keywords in _table(_FUNCTIONS):
        functions[name] = _like_cupy(name, keywords, getattr(np, name))
    for name, keywords in _table(_READING):
        functions[name] = _like_cupy(name, keywords, getattr(np, name), reads=True)
    strided = np.lib.stride_tricks.as_strided
    return SimpleNamespace(
        __name__="strict",
        **functions,
        where=_like_cupy("where", "", _where),
        asarray=_asarray,
        array=lambda a, dtype=None, order=None: _asarray(a, dtype, order),
        ndarray=StrictArray,
        finfo=np.finfo, iinfo=np.iinfo, dtype=np.dtype, issubdtype=np.issubdtype,
        promote_types=np.promote_types, result_type=lambda *args: np.result_type(*_unwrap(args)),
        float16=np.float16, float32=np.float32, float64=np.float64, floating=np.floating,
        int32=np.int32, int64=np.int64, integer=np.integer, bool_=np.bool_,
        inf=np.inf, nan=np.nan, pi=np.pi,
        linalg=SimpleNamespace(pinv=_like_cupy("linalg.pinv", "rcond", np.linalg.pinv)),
        lib=SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=_like_cupy("as_strided", "", strided))),
        special=SimpleNamespace(erf=_like_cupy("erf", "out", _erf)),
    )  # fmt: skip


strict = _namespace()
"""The stand-in's array module."""
TWINS["strict"] = TWINS["cupy"]  # what is faster on a device has to work on it too


@dataclass(frozen=True)
class Backend:
    """An array module, and the ways from NumPy to its arrays and back."""

    name: str
    xp: Any
    array: Callable[[Any], Any]
    numpy: Callable[[Any], np.ndarray]
    device: str = "cpu"

    def __repr__(self) -> str:
        return f"Backend({self.name})"


def _to_strict(value: Any) -> StrictArray:
    # the same memory: read-only flags and strides stay as they are
    return StrictArray(np.asarray(value))


def _to_cupy(value: Any) -> Any:
    import cupy

    value = np.asarray(value)
    if not value.size or not any(step < 0 or step % value.itemsize for step in value.strides):
        return cupy.asarray(value)
    return cupy.asarray(np.ascontiguousarray(value))


def make_backend(name: str) -> Backend:
    """The backend of a name; skips the test, with the reason, where CuPy or a GPU is missing."""
    if name == "numpy":
        return Backend(name, np, np.asarray, np.asarray)
    if name == "strict":
        return Backend(name, strict, _to_strict, lambda x: x.get())
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"no usable GPU: {error}")
    if not count:
        pytest.skip("no GPU")
    return Backend(name, cupy, _to_cupy, cupy.asnumpy, "cuda")


BACKENDS = ["numpy", "strict", pytest.param("cupy", marks=pytest.mark.gpu)]
"""Parameters for a fixture: ``@pytest.fixture(params=BACKENDS)``, then ``make_backend(request.param)``."""
