"""Which mutants there are: cosmic-ray's operators, a few of our own, and the rules that leave some out."""

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import parso
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).resolve().parents[2]

MODULES = (
    "functional/activations",
    "functional/losses",
    "functional/normalization",
    "functional/linear",
    "functional/nystrom",
    "functional/attention",
    "functional/convolution",
    "model/inputs",
    "model/heads",
    "model/packing",
    "model/parameters",
    "model/prediction",
    "model/base",
    "model/nystromformer",
    "model/encoder",
)

BLOCK_SIZES = (
    "ELEMENTS_PER_BLOCK",
    "ELEMENTS_WORTH_A_THREAD",
    "OUTPUTS",
    "OUTPUTS_WORTH_A_THREAD",
    "QUERIES_PER_BLOCK",
    "ROWS_PER_BLOCK",
    "ROWS_WORTH_A_THREAD",
    "SCORES_ON_A_DEVICE",
    "SCORES_PER_BLOCK",
    "SCORES_WORTH_A_THREAD",
    "VALUES_PER_BLOCK",
)

COMPUTED_SIZES = ("columns", "positions", "rows", "step")
"""Variables that hold a size computed from these: how work is cut up."""

RULES = {
    "annotation": "inside the annotation of an argument, a result or a variable: not behaviour",
    "message": "inside the arguments of an exception or of warnings.warn: the text of a message",
    "block size": (
        f"inside the value of {', '.join(BLOCK_SIZES)}, where {', '.join(COMPUTED_SIZES)} is computed from one, or in "
        "a condition that compares with one: where work is cut, not what comes out"
    ),
    "identity": "a comparison of values made one of identity: the interpreter decides which numbers are one object",
    "fuse": "the decorator @fuse removed: it makes one GPU kernel of a formula, and nothing else",
}


class ReturnNone(Operator):
    """``return x`` becomes ``return None``, ``yield x`` becomes ``yield None``."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type in ("return_stmt", "yield_expr") and node.children[1].get_code().strip() != "None":
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        return parso.parse(f"{node.children[0].value} None")

    @classmethod
    def examples(cls) -> Any:
        return ()


class DeleteStatement(Operator):
    """A call for its effect, ``x += y``, ``x[i] = y`` or ``x.name = y`` becomes ``pass``."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if getattr(node.parent, "type", "") != "simple_stmt":
            return
        if node.type in ("atom_expr", "power"):
            yield node.start_pos, node.end_pos
        elif node.type == "expr_stmt" and node.children[1].type != "annassign":
            target, sign = node.children[0], node.children[1]
            first = target.children[0] if target.type == "testlist_star_expr" else target
            if sign.get_code().strip() != "=" or first.type in ("atom_expr", "power"):
                yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        return parso.parse("pass")

    @classmethod
    def examples(cls) -> Any:
        return ()


class ReplaceAugmentedOperator(Operator):
    """``+=`` and ``-=``, ``*=`` and ``/=``, ``|=`` and ``&=`` change places."""

    others: ClassVar = {"+=": "-=", "-=": "+=", "*=": "/=", "/=": "*=", "|=": "&=", "&=": "|="}

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type == "operator" and node.value in self.others:
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        node.value = self.others[node.value]
        return node

    @classmethod
    def examples(cls) -> Any:
        return ()


def operators() -> dict[str, Operator]:
    """All of them by name; cosmic-ray's two that need the names of variables are left out."""
    ours = {operator.__name__: operator() for operator in (ReturnNone, DeleteStatement, ReplaceAugmentedOperator)}
    names = [name.removeprefix("core/") for name in operator_names()]
    theirs = {name: get_operator(f"core/{name}") for name in sorted(names)}
    return ours | {name: make() for name, make in theirs.items() if not make.arguments()}


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    module: str
    function: str
    """Qualified name of the function around it; empty at the level of the module."""
    line: int
    operator: str
    start: int
    end: int
    replacement: str
    before: str
    occurrence: int
    rule: str = ""

    @cached_property
    def id(self) -> str:
        """The same as long as the line and its function's name stay as they are."""
        key = f"{self.module}|{self.function}|{self.before}|{self.operator}|{self.occurrence}"
        return hashlib.sha256(key.encode()).hexdigest()[:12]

    @property
    def path(self) -> Path:
        return module_path(self.module)

    def source(self) -> str:
        """The module's text with the change."""
        text = self.path.read_text(encoding="utf-8")
        return text[: self.start] + self.replacement + text[self.end :]

    def after(self) -> str:
        """The changed line."""
        text = self.source()
        first = text.rfind("\n", 0, self.start) + 1
        last = text.find("\n", self.start + len(self.replacement))
        return text[first : last if last >= 0 else None].strip()


def module_path(module: str) -> Path:
    return ROOT / "nystrom_np" / f"{module}.py"


class Layout:
    """Where in a module functions, annotations, messages and block sizes are."""

    def __init__(self, source: str) -> None:
        self.tree = ast.parse(source)
        starts, offset = [0], 0
        for line in source.splitlines(keepends=True):
            offset += len(line)
            starts.append(offset)
        self.starts = starts
        self.lines = source.splitlines()
        self.functions: list[tuple[int, int, str, ast.AST]] = []
        self.excluded: list[tuple[int, int, str]] = []
        self._walk(self.tree, ())

    def offset(self, line: int, column: int) -> int:
        return self.starts[line - 1] + column

    def _span(self, node: Any) -> tuple[int, int]:
        def characters(line: int, column: int) -> int:  # ast counts bytes
            return len(self.lines[line - 1].encode()[:column].decode())

        return (
            self.offset(node.lineno, characters(node.lineno, node.col_offset)),
            self.offset(node.end_lineno, characters(node.end_lineno, node.end_col_offset)),
        )

    def _walk(self, node: ast.AST, names: tuple[str, ...]) -> None:
        for child in ast.iter_child_nodes(node):
            inner = names
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                inner = (*names, child.name)
            if isinstance(child, ast.FunctionDef):
                start = self.offset(min([child.lineno, *(d.lineno for d in child.decorator_list)]), 0)
                self.functions.append((start, self._span(child)[1], ".".join(inner), child))
                for decorator in child.decorator_list:
                    if ast.unparse(decorator) == "fuse":
                        first, last = self._span(decorator)
                        self.excluded.append((first - 1, last + 1, "fuse"))
            for rule, part in self._excluded(child):
                self.excluded.append((*self._span(part), rule))
            self._walk(child, inner)

    def _excluded(self, node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
        annotation = getattr(node, "annotation", None) or getattr(node, "returns", None)
        if isinstance(node, (ast.arg, ast.AnnAssign, ast.FunctionDef)) and annotation is not None:
            yield "annotation", annotation
        name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if name == "warnings.warn" or name.endswith("Error"):
            yield from (("message", argument) for argument in node.args)  # type: ignore[attr-defined]
        targets = {target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)}
        inside = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)} if targets else set()
        if targets & set(BLOCK_SIZES) or (targets & set(COMPUTED_SIZES) and inside & set(BLOCK_SIZES)):
            yield "block size", node.value  # type: ignore[attr-defined]
        test = node.test if isinstance(node, (ast.If, ast.IfExp)) else None
        if test and {name.id for name in ast.walk(test) if isinstance(name, ast.Name)} & set(BLOCK_SIZES):
            condition = ast.copy_location(ast.Constant(None), test)
            if isinstance(node, ast.If):  # with its "if", where a "not" is put
                condition.lineno, condition.col_offset = node.lineno, node.col_offset
            yield "block size", condition

    def function(self, start: int) -> str:
        around = [(first, name) for first, last, name, _ in self.functions if first <= start < last]
        return max(around)[1] if around else ""

    def rule(self, start: int) -> str:
        return next((rule for first, last, rule in self.excluded if first <= start < last), "")

    def outermost(self, line: int) -> ast.FunctionDef | None:
        """The outermost function whose body, not its head, contains the line."""
        around = [
            node
            for _, _, _, node in self.functions
            if node.body[0].lineno <= line <= node.end_lineno  # type: ignore[attr-defined]
        ]
        return min(around, key=lambda node: node.lineno, default=None)  # type: ignore[attr-defined,return-value]

    def statement(self, line: int) -> range:
        """The lines of the smallest statement (of a compound one: of its head) that contains the line."""
        best = range(line, line + 1)
        size = 10**6
        for node in ast.walk(self.tree):
            if isinstance(node, ast.stmt) and not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                body = getattr(node, "body", None)
                last = body[0].lineno - 1 if body else node.end_lineno
                lines = range(node.lineno, max(last or 0, node.lineno) + 1)
                if line in lines and len(lines) < size:
                    best, size = lines, len(lines)
        return best


def _snapshot(node: Any, into: list[tuple[Any, str, Any]]) -> None:
    if hasattr(node, "children"):
        into.append((node, "children", list(node.children)))
        for child in node.children:
            _snapshot(child, into)
    else:
        into.append((node, "value", node.value))


def _leaves_first(node: Any) -> Iterator[Any]:
    yield node
    for child in getattr(node, "children", ()):
        yield from _leaves_first(child)


def _identity(operator: str) -> str:
    values, _, other = operator.removeprefix("ReplaceComparisonOperator_").partition("_")
    return "identity" if other in ("Is", "IsNot") and values not in ("Is", "IsNot") else ""


def _compiles(source: str, start: int, end: int, replacement: str, node: Any) -> bool:
    """False for a star that is no product, ``def f(*, x)``, ``{**x}``, and for ``not x := y``."""
    star = node.type == "operator" and node.value in ("*", "**") and node.parent.type not in ("term", "power")
    if not star and ":=" not in replacement:
        return True
    try:
        ast.parse(source[:start] + replacement + source[end:])
    except SyntaxError:
        return False
    return True


def mutants(module: str) -> list[Mutant]:
    """All mutants of a module that compile, those that a rule leaves out included."""
    source = module_path(module).read_text(encoding="utf-8")
    layout = Layout(source)
    known = operators()
    dull = {"name", "string", "newline", "endmarker", "fstring_start", "fstring_string", "fstring_end"}
    found: list[Mutant] = []
    seen: Counter[tuple[str, str, str]] = Counter()
    for node in _leaves_first(parso.parse(source)):
        if node.type in dull or (node.type == "operator" and node.value in "()[]{},:.=;->"):
            continue
        for name, operator in known.items():
            for index, (first, _) in enumerate(list(operator.mutation_positions(node))):
                # the operator names a part of the node, but changes the node
                start, end = layout.offset(*node.start_pos), layout.offset(*node.end_pos)
                place = layout.offset(*first)
                if node.type == "decorator":  # with its indentation
                    start = layout.offset(node.start_pos[0], 0)
                saved: list[tuple[Any, str, Any]] = []
                _snapshot(node, saved)
                mutated = operator.mutate(node, index)
                replacement = "" if mutated is None else mutated.get_code().lstrip(" ")
                if mutated is node:
                    replacement = mutated.get_code(include_prefix=False)
                for part, attribute, value in saved:
                    setattr(part, attribute, value)
                function, before = layout.function(place), layout.lines[first[0] - 1].strip()
                key = (function, before, name)
                if not _compiles(source, start, end, replacement, node):
                    continue
                found.append(
                    Mutant(
                        module, function, first[0], name, start, end, replacement, before, seen[key],
                        layout.rule(place) or _identity(name),
                    )
                )  # fmt: skip
                seen[key] += 1
    return found


def without_mutants(module: str, every: list[Mutant]) -> list[str]:
    """Functions that ought to have a mutant and have none: an error in this set-up."""
    layout = Layout(module_path(module).read_text(encoding="utf-8"))
    have = {mutant.function for mutant in every if mutant.module == module and not mutant.rule}
    missing = []
    for _, _, name, node in layout.functions:
        body = [s for s in node.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]  # type: ignore[attr-defined]
        constant = len(body) == 1 and (
            (isinstance(body[0], ast.Return) and isinstance(body[0].value, (ast.Constant, type(None))))
            or ast.unparse(body[0]) in ("raise NotImplementedError", "pass")
        )
        if body and not constant and name not in have:
            missing.append(name)
    return missing
