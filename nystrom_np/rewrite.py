"""The page of definitions, compiled anew: with every step marked, and with a line changed where that is asked for.

The page itself has no word about tracing. A copy of its source is parsed, each value that it gives a name or returns is
wrapped in a call of ``__mark__``, each function in ``__framed__``, and the copy is run in a module of its own. A step
is thus a line of the page, and a fault is that line with another text.
"""

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nystrom_np import definition, losses

__all__ = ["PAGES", "Change", "Site", "compiled"]

PAGES = {"definition": definition, "losses": losses}
"""The modules that are traced, by name."""


@dataclass(frozen=True)
class Change:
    """A line of a definition, read otherwise: in a function's text, ``old`` becomes ``new``.

    Attributes
    ----------
    function : str
        A function of :mod:`nystrom_np.definition` or ``nystrom_np.losses``.
    old, new : str
        Text that the function has exactly once, and what stands there instead.

    Examples
    --------
    >>> Change("segment_means", "[size] * (num_landmarks - longer)", "[size]").function
    'segment_means'
    """

    function: str
    old: str
    new: str


@dataclass(frozen=True)
class Site:
    """A place of the page where a value comes about.

    Attributes
    ----------
    function : str
        The function it is in.
    keys : tuple of str
        What the value is called there: the names it is assigned to, ``"return"``, or the expression's own text.
    line : int
        The line of the page.
    formula : str
        The statement's text.
    reads : tuple of str
        The local names that it is computed from.
    """

    function: str
    keys: tuple[str, ...]
    line: int
    formula: str
    reads: tuple[str, ...]


def compiled(
    marks: Mapping[tuple[str, str], Any], changes: Iterable[Change] = ()
) -> tuple[dict[str, Any], tuple[Site, ...]]:
    """Compile the pages with their steps marked.

    Parameters
    ----------
    marks : mapping of (function, key) to object
        Of the expressions that are marked beside assignments and returns: a key is the expression's text.
    changes : iterable of Change
        What is changed before.

    Returns
    -------
    code : dict of str to code
        Of each page, by its name. It expects ``__begin__``, ``__mark__`` and ``__framed__`` among its names.
    sites : tuple of Site
        By the number with which they are marked.

    Raises
    ------
    ValueError
        If a change does not fit the page.

    Examples
    --------
    >>> code, sites = compiled({})
    >>> [site.formula for site in sites if site.function == "linear"]
    ['return x @ weight.T + bias']
    """
    return _compiled(frozenset(marks), tuple(changes))


@cache
def _compiled(
    marks: frozenset[tuple[str, str]], changes: tuple[Change, ...]
) -> tuple[dict[str, Any], tuple[Site, ...]]:
    code: dict[str, Any] = {}
    sites: list[Site] = []
    texts = {name: Path(str(page.__file__)).read_text(encoding="utf-8") for name, page in PAGES.items()}
    for change in changes:
        owner = [name for name, text in texts.items() if re.search(rf"^def {change.function}\(", text, re.MULTILINE)]
        if not owner:
            raise ValueError(f"the page has no function {change.function!r}")
        texts[owner[0]] = _changed(texts[owner[0]], change)
    for name, text in texts.items():
        tree = ast.parse(text)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                _Marker(node, text, _wanted(node.name, marks, changes), sites).mark()
        code[name] = compile(ast.fix_missing_locations(tree), f"<{name}, marked>", "exec")
    return code, tuple(sites)


def _wanted(function: str, marks: frozenset[tuple[str, str]], changes: tuple[Change, ...]) -> dict[str, str]:
    """The expressions of a function that are marked, as they read after the changes, and what they are called."""
    wanted = {key: key for owner, key in marks if owner == function and not key.isidentifier()}
    for change in changes:
        if change.function == function:
            wanted = {_replaced(text, change): key for text, key in wanted.items()}
    return wanted


def _replaced(text: str, change: Change) -> str:
    try:
        return ast.unparse(ast.parse(text.replace(change.old, change.new))) if change.old in text else text
    except SyntaxError:  # a part of an expression that is none by itself
        return text


def _changed(text: str, change: Change) -> str:
    [node] = [n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef) and n.name == change.function]
    lines = text.splitlines(keepends=True)
    first, last = node.lineno - 1, node.end_lineno
    body = "".join(lines[first:last])
    if body.count(change.old) != 1:
        raise ValueError(
            f"{change.function} has {change.old!r} {body.count(change.old)} times, where once was expected"
        )
    return "".join([*lines[:first], body.replace(change.old, change.new), *lines[last:]])


class _Marker(ast.NodeTransformer):
    """Wraps what one function assigns and returns, and the expressions that are named."""

    def __init__(self, node: ast.FunctionDef, text: str, wanted: dict[str, str], sites: list[Site]) -> None:
        self.node, self.lines, self.sites, self.wanted = node, text.splitlines(), sites, wanted
        self.statement: ast.stmt = node

    def mark(self) -> None:
        self.node.body = [self.visit(statement) for statement in self.node.body]
        self.node.decorator_list = [ast.Name("__framed__", ast.Load())]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        return node  # a function inside a function is part of its lines

    def visit_Assign(self, node: ast.Assign) -> Any:
        target = node.targets[0]
        names = [getattr(part, "id", "") for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
        return self._statement(node, tuple(names))

    def visit_Return(self, node: ast.Return) -> Any:
        parts = len(node.value.elts) if isinstance(node.value, ast.Tuple) else 1
        return self._statement(node, tuple(f"return {part}" for part in range(parts)) if parts > 1 else ("return",))

    def _statement(self, node: Any, keys: tuple[str, ...]) -> Any:
        self.statement = node
        value = node.value
        inner: Any = self.generic_visit(node)
        inner.value = self._wrap(inner.value, keys, value)
        return inner

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.expr) and (text := ast.unparse(node)) in self.wanted:
            return self._wrap(self.generic_visit(node), (self.wanted[text],), node)
        return super().visit(node)

    def _wrap(self, node: Any, keys: tuple[str, ...], read: ast.AST) -> ast.Call:
        lines = self.lines[self.statement.lineno - 1 : self.statement.end_lineno]
        formula = " ".join(line.split("  #")[0].strip() for line in lines)
        reads = (name.id for name in ast.walk(read) if isinstance(name, ast.Name))
        site = Site(self.node.name, keys, self.statement.lineno, formula, tuple(dict.fromkeys(reads)))
        here = ast.Call(ast.Name("locals", ast.Load()), [], [])
        begin = ast.Call(ast.Name("__begin__", ast.Load()), [ast.Constant(len(self.sites)), here], [])
        self.sites.append(site)
        return ast.Call(ast.Name("__mark__", ast.Load()), [begin, node, here], [])
