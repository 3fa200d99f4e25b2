"""Without a GPU: what the package takes from the array module exists in CuPy, with the arguments it passes.

CuPy imports without a GPU. Its functions' signatures, and for ufuncs the keyword arguments that its kernels
take, are compared with what the package's code says.
"""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nystrom_np
from nystrom_np.activations import ACTIVATIONS
from nystrom_np.fast.on_device import with_bias
from tests import cuda

pytestmark = pytest.mark.filterwarnings("ignore")  # CuPy warns where it finds no CUDA
cupy = pytest.importorskip("cupy", reason="CuPy is not installed (390 MB): pip install cupy-cuda12x")

PACKAGE = Path(nystrom_np.__file__).parent
MODULE_NAMES = ("xp", "cupy", "module", "cupyx", "special")  # what the package calls an array module
GIVEN_BY = {"get_array_module": "xp", "array_module_of": "xp", "special": "special"}  # and what gives one
OTHERS = {("special",), ("__name__",)}  # looked for on other array modules than cupy
UFUNC_KEYWORDS = {"out", "dtype", "casting"}


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield str(path.relative_to(PACKAGE)), ast.parse(path.read_text(encoding="utf-8"))


def dotted(node: ast.AST) -> tuple[str, ...]:
    """``xp.linalg.svd`` → ("xp", "linalg", "svd"); ``get_array_module(…).eye`` → ("xp", "eye"); else ()."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        names.append(node.id)
    elif isinstance(node, ast.Call) and dotted(node.func)[-1:] and dotted(node.func)[-1] in GIVEN_BY:
        names.append(GIVEN_BY[dotted(node.func)[-1]])
    else:
        return ()
    return tuple(reversed(names))


def used() -> Iterator[tuple[str, tuple[str, ...], int, set[str]]]:
    """Each name taken from an array module: where, its path, and how it is called (positional count,
    keywords).
    """
    for file, tree in sources():
        calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or id(node) in inner:
                continue
            path = dotted(node)
            if path[1:] and path[0] in MODULE_NAMES and path[1:] not in OTHERS:
                call = calls.get(id(node))
                starred = call is not None and any(isinstance(arg, ast.Starred) for arg in call.args)
                count = -1 if call is None or starred else len(call.args)
                keywords = {word.arg for word in call.keywords if word.arg} if call else set()
                yield f"{file}:{node.lineno}", path, count, keywords


def resolve(path: tuple[str, ...]) -> Any:
    roots = {"cupyx": "cupyx", "special": "cupyx.scipy.special"}
    found: Any = importlib.import_module(roots.get(path[0], "cupy"))
    for name in path[1:]:
        found = getattr(found, name)
    return found


def test_something_is_found() -> None:
    names = {".".join(path) for _, path, _, _ in used()}
    assert {"xp.exp", "xp.linalg.pinv", "xp.concatenate", "xp.where", "xp.eye"} <= names
    assert {"xp.lib.stride_tricks.as_strided", "special.erf", "cupyx.empty_pinned", "cupy.cuda.Stream"} <= names


def test_array_modules_go_by_the_names_that_are_looked_for() -> None:
    """No variable that holds an array module escapes the tests here by its name."""
    hidden = []
    for file, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                given = dotted(node.value.func)[-1:]
                names = {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
                if given and given[0] in GIVEN_BY and not names & set(MODULE_NAMES):
                    hidden.append(f"{file}:{node.lineno}: {names}")
    assert hidden == []


def test_functions_exist_with_their_arguments() -> None:
    missing = []
    for place, path, count, keywords in used():
        call = f"{place}: {'.'.join(path)}({count} arguments, {sorted(keywords)})"
        try:
            function = resolve(path)
        except AttributeError:
            missing.append(f"{call}: no such name")
            continue
        if count < 0 or isinstance(function, type):
            continue
        if isinstance(function, cupy.ufunc):
            if not keywords <= UFUNC_KEYWORDS or count > function.nin + function.nout:
                missing.append(call)
            continue
        try:
            signature = inspect.signature(function)
        except ValueError:
            continue  # compiled, without a signature
        try:
            signature.bind(*[None] * count, **dict.fromkeys(keywords))
        except TypeError as error:
            missing.append(f"{call}: {error}")
    assert not missing, "\n".join(missing)


ARRAY_METHODS = {name for name in dir(np.ndarray) if not name.startswith("_")}
# methods of arrays that other objects have too, where the package calls those (lists, paths, files)
SHARED = {"copy", "sort", "view", "tofile", "resize", "item", "data", "base", "real", "imag", "newbyteorder"}


def test_array_methods_exist_in_cupy() -> None:
    """Every attribute that is a NumPy array's, in the files that compute, is a CuPy array's too."""
    computing = ("activations.py", "definition.py", "functional.py", "losses.py", "model")
    names = {
        (file, node.lineno, node.attr)
        for file, tree in sources()
        if file.split("/")[0] in computing or file == "fast/on_device.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ARRAY_METHODS - SHARED
    }
    assert len({name for _, _, name in names}) > 10
    assert [place for place in names if not hasattr(cupy.ndarray, place[2])] == []


METHOD_KEYWORDS = {
    "astype": {"dtype", "order", "casting", "subok", "copy"},
    "sum": {"axis", "dtype", "out", "keepdims"},
    "mean": {"axis", "dtype", "out", "keepdims"},
    "max": {"axis", "out", "keepdims"},
    "min": {"axis", "out", "keepdims"},
    "any": {"axis", "out", "keepdims"},
    "all": {"axis", "out", "keepdims"},
    "reshape": {"order"},
    "argmax": {"axis", "dtype", "out", "keepdims"},
}


def test_array_methods_take_their_keywords() -> None:
    """The keyword arguments of array methods are those of CuPy's (its methods are compiled: the list is
    from its docs).
    """
    wrong = [
        f"{file}:{node.lineno}: .{node.func.attr}({word.arg}=…)"
        for file, tree in sources()
        if not file.startswith(("fast/on_numpy", "testing"))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHOD_KEYWORDS
        for word in node.keywords
        if word.arg and word.arg not in METHOD_KEYWORDS[node.func.attr] and dotted(node.func)[:1] != ("np",)
    ]
    assert wrong == []


def unallocated(shape: tuple[int, ...], dtype: str) -> Any:
    """A CuPy array that points nowhere: it can be asked for its shape and traced, not computed with."""
    memory = cupy.cuda.UnownedMemory(1 << 12, 1 << 20, None, device_id=0)
    return cupy.ndarray(shape, dtype, memptr=cupy.cuda.MemoryPointer(memory, 0))


def fused() -> Iterator[tuple[str, str, int, int]]:
    """The formulas that become one kernel: module, name, how many arrays they take, and then how many numbers."""
    for file, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and {"elementwise", "fused"} & {
                name for decorator in node.decorator_list for name in dotted(decorator)
            }:
                numbers = sum(ast.unparse(arg.annotation or ast.Constant("")) == "float" for arg in node.args.args)
                module = f"nystrom_np.{file.removesuffix('.py').replace('/', '.')}"
                yield module, node.name, len(node.args.args) - numbers, numbers


FUSED = [
    *fused(),
    *(
        ("nystrom_np.activations", f"with_bias({name})", 2, 0)
        for name in sorted({f.__name__ for f in ACTIVATIONS.values()})
    ),
]


def test_every_fused_formula_is_found() -> None:
    names = {name for _, name, _, _ in FUSED}
    assert {
        "gelu",
        "gelu_new",
        "laplace",
        "_exponentials",
        "_shares",
        "_normalised",
        "_add_both",
        "with_bias(mish)",
    } <= names


def formula_of(module: str, name: str) -> Any:
    """A formula, or an activation with a bias added before it."""
    found = getattr(importlib.import_module(module), name.removeprefix("with_bias(").rstrip(")"))
    return with_bias.__wrapped__(found) if name.startswith("with_bias") else found


def traced(module: str, name: str, arrays: int, numbers: int, dtype: str) -> tuple[Any, list[Any]]:
    """The kernel that a formula becomes for arrays of a dtype, and those arrays: traced, not compiled."""
    try:
        have_gpu = cupy.cuda.runtime.getDeviceCount() > 0
    except cupy.cuda.runtime.CUDARuntimeError:
        have_gpu = False
    if have_gpu:
        pytest.skip("there is a GPU: the laws run the kernel itself")
    made, fuse = [], cupy.fuse
    wide = "float32" if dtype == "float16" else dtype  # what stands beside half precision
    given = [unallocated((2, 3), dtype), *(unallocated((2, 1), wide) for _ in range(arrays - 1)), *[0.5] * numbers]

    def noted(**options: Any) -> Any:
        return lambda formula: made.append(fuse(**options)(formula)) or made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cupy, "fuse", noted)
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError):  # stopped by the missing GPU when it is to be run
            formula_of(module, name)(*given)
    assert made[0].new_fusion is None
    [(kernel, _)] = made[0]._memo.values()
    return kernel, given


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(("module", "name", "arrays", "numbers"), FUSED, ids=[entry[1] for entry in FUSED])
def test_formulas_are_traced(module: str, name: str, arrays: int, numbers: int, dtype: str) -> None:
    """``cupy.fuse`` can turn each formula into one kernel, which computes in float32 unless given float64."""
    kernel, _ = traced(module, name, arrays, numbers, dtype)
    assert kernel.name.startswith("fused_")  # a name that C has already, as tanh, would not compile
    declared = set(re.findall(r"^(?:const )?(\w+) v\d+(?: = (.*))?;", kernel.operation, re.MULTILINE))
    computed = {found for found, constant in declared if not constant}
    assert ("double" in computed) == (dtype == "float64") or not computed


def test_stand_in_has_nothing_that_cupy_lacks() -> None:
    """The strict stand-in's functions and methods exist in CuPy, with the keyword arguments that it lets
    through.
    """
    from tests import backends

    for table, where in (
        (backends._METHODS, cupy.ndarray),
        (backends._FUNCTIONS, cupy),
        (backends._READING, cupy),
    ):
        for name, keywords in backends._table(table):
            function = getattr(where, name)
            try:
                parameters = inspect.signature(function).parameters
            except ValueError:
                continue
            if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                continue
            assert set(keywords.split()) <= parameters.keys() | {"newshape"}, name
    for name in backends._UFUNCS.split():
        assert isinstance(getattr(cupy, name), cupy.ufunc), name


def test_stand_in_for_cuda_has_nothing_that_cupy_lacks() -> None:
    """What :mod:`tests.cuda` stands for is there, under its name, in the module that its errors are known by."""
    for ours, theirs in ((cuda.Stream, cupy.cuda.Stream), (cuda.Event, cupy.cuda.Event)):
        methods = [name for name in vars(ours) if not name.startswith("_")]
        assert methods
        assert all(callable(getattr(theirs, name)) for name in methods)
    for error, base in ((cuda.OutOfMemoryError, MemoryError), (cuda.CUDARuntimeError, RuntimeError)):
        there = getattr(importlib.import_module(error.__module__), error.__name__)
        assert issubclass(there, base)
        assert there.__module__ == error.__module__
    for argument in ("stream", "out", "blocking"):
        assert f"{argument} (" in cupy.ndarray.get.__doc__
