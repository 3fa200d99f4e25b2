"""Code taken from where it is: functions of the package without docstrings and marks, and tests by their names."""

import ast
import importlib
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

from docs.builder.blocks import DOCS, ROOT

__all__ = [
    "documented",
    "faster_names",
    "public_names",
    "resolve",
    "said_below",
    "shape_comment",
    "source_of",
    "test_source",
]

PUBLIC_MODULES = (
    "nystrom_np",
    "nystrom_np.functional",
    "nystrom_np.pipelines",
    "nystrom_np.convert",
    "nystrom_np.embed",
    "nystrom_np.cluster",
    "nystrom_np.plot",
    "nystrom_np.explore",
    "nystrom_np.testing",
    "nystrom_np.trace",
    "nystrom_np.compare",
    "nystrom_np.trace_file",
)
"""Whose ``__all__`` is what users call."""

MARKS = ("@accelerated", "@elementwise", "@fused")
"""Lines above a function that say that it has a faster form, in place of which the page has a link to it."""

FASTER = DOCS / "faster.md"
"""The chapter about faster forms, with a target such as ``(faster-softmax)=`` above each section."""

PROOFS_OF_PAGES_WRITTEN_ELSEWHERE = {
    "benchmarks": ("benchmarks/test_benchmarks.py::test_the_page_is_written",),
    "benchmarks-short": ("benchmarks/test_benchmarks.py::test_the_page_of_short_inputs",),
}
"""Pages that a command writes cannot name the tests of that command themselves."""


def public_names() -> list[str]:
    """Every public function and class, by the first name under which users import it."""
    names: dict[int, str] = {}
    for path in PUBLIC_MODULES:
        module = importlib.import_module(path)
        for name in module.__all__:
            names.setdefault(id(getattr(module, name)), f"{path}.{name}")
    return list(names.values())


def resolve(name: str) -> Any:
    """The object of a dotted name."""
    first, *rest = name.split(".")
    thing, path = importlib.import_module(first), first
    for part in rest:
        path = f"{path}.{part}"
        if not hasattr(thing, part):  # a function may have its module's name: what is there goes first
            importlib.import_module(path)
        thing = getattr(thing, part)
    return inspect.unwrap(thing) if callable(thing) else thing


def said_below(name: str) -> str:
    """What is said of a table in the string below it, in whichever module it stands."""
    from sphinx.pycode import ModuleAnalyzer  # here, since tests read this file where no site is built

    short = name.rpartition(".")[2]
    for path in sorted((ROOT / "nystrom_np").rglob("*.py")):
        found = ModuleAnalyzer.for_file(path, path.stem).find_attr_docs().get(("", short))
        if found:
            return "\n".join(found)
    raise LookupError(f"nothing is said of {name}")


def source_of(name: str, first: str = "", last: str = "") -> tuple[str, str]:
    """Code of a function or class without its docstrings and marks, and where it stands.

    From the line that contains ``first`` to the one that contains ``last``, if these are given.
    """
    path, number, code = _whole(name)
    kept = code.splitlines()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            kept[docstring.lineno - 1 : docstring.end_lineno] = [None] * (docstring.end_lineno - docstring.lineno + 1)
    kept = [line for line in kept if line is not None and line not in MARKS]
    if first:
        kept = kept[_only(kept, first) :]
    if last:
        kept = kept[: _only(kept, last) + 1]
    return textwrap.dedent("\n".join(kept)), f"{path.relative_to(ROOT).as_posix()}, line {number}"


def _whole(name: str) -> tuple[Path, int, str]:
    """The file, first line and text of a function or class."""
    thing, short = resolve(name), name.rpartition(".")[2]
    path = Path(inspect.getsourcefile(thing))
    if thing.__name__ == short:
        lines, number = inspect.getsourcelines(thing)
        return path, number, textwrap.dedent("".join(lines))
    text = path.read_text(encoding="utf-8")  # what a decorator of its own module has made something else of
    node = next(node for node in ast.parse(text).body if getattr(node, "name", "") == short)
    return path, node.lineno, "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno])


def faster_names() -> set[str]:
    """Functions whose faster form has a section in the chapter."""
    return set(re.findall(r"^\(faster-(\w+)\)=$", FASTER.read_text(encoding="utf-8"), re.MULTILINE))


def documented(name: str) -> str:
    """The name under which the reference has a function: its own, or that of its module if it is an inner one."""
    module = name.rpartition(".")[0]
    if module in ("nystrom_np.activations", "nystrom_np.losses"):
        return f"nystrom_np.functional.{name.rpartition('.')[2]}"
    public = getattr(importlib.import_module(module), "__all__", None) if module.startswith("nystrom_np.fast") else None
    return module if public is not None and name.rpartition(".")[2] not in public else name


def shape_comment(thing: Any) -> str:
    """What stands behind the first line of a definition, or below it: the shapes of its arguments and of its result."""
    found = re.search(r"^def .*?:(?:  |\n    )# (.*)$", inspect.getsource(inspect.unwrap(thing)), re.MULTILINE)
    return found.group(1) if found else ""


def _only(lines: list[str], part: str) -> int:
    found = [index for index, line in enumerate(lines) if part in line]
    if not found:
        raise LookupError(f"no line of the source has {part!r}")
    return found[0]


def test_source(identity: str) -> tuple[str, str]:
    """What a test's docstring says, and its code; ``identity`` is ``file.py::test_name``, the file below ``tests``."""
    file, _, name = identity.partition("::")
    path = ROOT / "tests" / file
    if not path.is_file():
        raise LookupError(f"no such file of tests: {file}")
    text = path.read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            code = "\n".join(text.splitlines()[start - 1 : node.end_lineno])
            return inspect.cleandoc(ast.get_docstring(node) or ""), code
    raise LookupError(f"no such test: {identity}")


test_source.__test__ = False  # its name begins like a test's
