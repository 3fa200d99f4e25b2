"""The reads as scripts and as notebooks: a page's own prose and blocks, in their order."""

import ast
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from docs.builder.blocks import DOCS, FENCE, WITHIN
from docs.builder.gains import said_of

__all__ = ["READS", "cells", "notebook", "page", "script", "write"]

READS = ("annotated", "faster")
"""Pages that are read from top to bottom."""
START = '''"""{title}, as a script made from docs/{name}.md, which has pictures and links."""
'''


def page(name: str) -> str:
    """The text of a read."""
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def cells(text: str) -> list[tuple[str, str]]:
    """Cut a page into ("prose", text) and ("code", text), in order.

    Code of the package becomes a cell that shows it; pictures, diagrams and proofs stay on the page.
    """
    return [(kind, part) for kind, part in _cells(text) if part]


def _cells(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    for match in FENCE.finditer(text):
        yield "prose", plain(text[position : match.start()])
        position, body = match.end(), match["body"]
        directive, _, argument = match["info"].strip().partition(" ")
        language = directive.strip("{}")
        if language in WITHIN:
            yield "prose", "**Exercise.**" if language == "exercise" else ""
            yield from _cells(body)
        elif language == "python":
            yield "code", body.strip()
        elif language == "source":
            yield "code", _shows(argument.strip(), body)
        elif language == "gain":
            yield "prose", "\n".join(f"- {said_of(name)}" for name in body.split("\n") if name.strip())
    yield "prose", plain(text[position:])


def _shows(name: str, body: str) -> str:
    """A cell that shows a function of the package, or some lines of it, and those that go with it."""
    options = dict(re.findall(r"^:(from|to|with): *(.*)$", body, re.MULTILINE))
    helpers = [f"show_source({helper!r})" for helper in options.pop("with", "").split()]
    return "\n".join([f"show_source({name!r}{_keywords(options)})", *helpers])


def plain(prose: str) -> str:
    """Prose without what only the site understands: targets, roles, and links to its other pages."""
    prose = re.sub(r"^(\([\w-]+\)=|---\n.*?^---)$", "", prose, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"\{[\w:]+\}`([^`<]*?) *<[^`]*>`", r"\1", prose)
    return re.sub(r"\[((?:[^\[\]]|\[[^\]]*\])+)\]\((?!https?:)[^)\s]*\)", r"\1", prose).strip()


def _keywords(options: dict[str, str]) -> str:
    names = {"from": "first", "to": "last"}
    return "".join(f", {names[key]}={value!r}" for key, value in options.items())


SHOW_SOURCE = '''
import ast
import importlib
import inspect
import textwrap


def show_source(name, first="", last=""):
    """Print a function of the package without its docstring, from the line with one text to that with another."""
    path, thing = name.split("."), None
    for part in path:
        if thing is None:
            thing = importlib.import_module(part)
        elif not hasattr(thing, part):
            thing = importlib.import_module(f"{thing.__name__}.{part}")
        else:
            thing = getattr(thing, part)
    module = inspect.getmodule(inspect.unwrap(thing))
    [node] = [n for n in ast.parse(inspect.getsource(module)).body if getattr(n, "name", "") == path[-1]]
    lines = inspect.getsource(module).splitlines()[node.lineno - 1 : node.end_lineno]
    if ast.get_docstring(node) is not None:
        start, stop = (line - node.lineno for line in (node.body[0].lineno, node.body[0].end_lineno))
        lines[start : stop + 1] = []
    start = next(i for i, line in enumerate(lines) if first in line)
    stop = next(i for i, line in enumerate(lines) if i >= start and last in line) if last else len(lines) - 1
    print(textwrap.dedent("\\n".join(lines[start : stop + 1])))
'''


def script(name: str) -> str:
    """A read as one Python file: prose as comments, and what an interactive session would show is printed."""
    text = page(name)
    parts = [START.format(title=text.partition("# ")[2].partition("\n")[0], name=name), SHOW_SOURCE.strip()]
    for kind, part in cells(text):
        if kind == "prose":
            lines = [line for paragraph in part.splitlines() for line in (textwrap.wrap(paragraph, 100) or [""])]
            parts.append("\n".join(f"# {line}".rstrip() for line in lines))
        else:
            parts.append(_printing(part))
    return "\n\n".join(parts) + "\n"


def _printing(code: str) -> str:
    """Code whose last expression is printed, as an interactive session does."""
    tree = ast.parse(code)
    last = tree.body[-1]
    if not isinstance(last, ast.Expr) or ast.unparse(last).startswith(("print(", "show_source(")):
        return code
    lines = code.splitlines()
    before, value = lines[: last.lineno - 1], "\n".join(lines[last.lineno - 1 : last.value.end_lineno])
    return "\n".join([*before, f"print(repr(\n{textwrap.indent(value, '    ')}\n))"])


def notebook(name: str) -> str:
    """A read as a notebook (nbformat 4), to be run with any kernel that has the package."""
    sheet = [("code", SHOW_SOURCE.strip()), *cells(page(name))]
    written = [
        {"cell_type": "markdown", "id": f"cell-{number}", "metadata": {}, "source": part}
        if kind == "prose"
        else {
            "cell_type": "code",
            "id": f"cell-{number}",
            "metadata": {},
            "source": part,
            "outputs": [],
            "execution_count": None,
        }
        for number, (kind, part) in enumerate(sheet)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = {"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": written}
    return json.dumps(book, ensure_ascii=False, indent=1) + "\n"


def write(folder: Path) -> None:
    """Put them beside the site's other files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in READS:
        (folder / f"{name}.py").write_text(script(name), encoding="utf-8")
        (folder / f"{name}.ipynb").write_text(notebook(name), encoding="utf-8")
