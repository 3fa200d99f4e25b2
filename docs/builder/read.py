"""The annotated read as a script and as a notebook: the page's own prose and blocks, in their order."""

import ast
import json
import re
import textwrap
from pathlib import Path

from docs.builder.blocks import DOCS, FENCE, blocks_of

__all__ = ["cells", "notebook", "script", "write"]

PAGE = DOCS / "annotated.md"
START = '''"""The annotated Nyströmformer as a script, made from docs/annotated.md, which has pictures and links.

Run it where ``weights/`` is, or give that folder's parent as the argument.
"""
'''


def cells(text: str) -> list[tuple[str, str]]:
    """Cut a page into ("prose", text) and ("code", text), in order.

    Code of the package becomes a cell that shows it; pictures, diagrams and proofs stay on the page.
    """
    found, position = [], 0
    matches = list(FENCE.finditer(text))
    for match, block in zip(matches, blocks_of(text), strict=True):
        found.append(("prose", text[position : match.start()].strip()))
        position = match.end()
        if block.language == "python":
            found.append(("code", block.text.strip()))
        elif block.language == "source":
            options = dict(re.findall(r"^:(from|to|with): *(.*)$", block.text, re.MULTILINE))
            helpers = [f"show_source({helper!r})" for helper in options.pop("with", "").split()]
            found.append(("code", "\n".join([f"show_source({block.argument!r}{_keywords(options)})", *helpers])))
    found.append(("prose", text[position:].strip()))
    return [(kind, part) for kind, part in found if part]


def _keywords(options: dict[str, str]) -> str:
    names = {"from": "first", "to": "last"}
    return "".join(f", {names[key]}={value!r}" for key, value in options.items())


SHOW_SOURCE = '''
import importlib
import inspect
import os
import sys


def show_source(name, first="", last=""):
    """Print a function of the package, from the line with one text to the line with another."""
    path, thing = name.split("."), None
    for part in path:
        if thing is None:
            thing = importlib.import_module(part)
        elif not hasattr(thing, part):
            thing = importlib.import_module(f"{thing.__name__}.{part}")
        else:
            thing = getattr(thing, part)
    lines = inspect.getsource(inspect.unwrap(thing)).splitlines()
    lines = [line for line in lines if line not in ("@accelerated", "@elementwise")]
    start = next(i for i, line in enumerate(lines) if first in line)
    stop = next(i for i, line in enumerate(lines) if i >= start and last in line) if last else len(lines) - 1
    print("\\n".join(lines[start : stop + 1]))
'''


def script(text: str) -> str:
    """The read as one Python file: prose as comments, and what an interactive session would show is printed."""
    parts = [START, SHOW_SOURCE.strip(), PLACE]
    for kind, part in cells(text):
        if kind == "prose":
            lines = [line for paragraph in part.splitlines() for line in (textwrap.wrap(paragraph, 100) or [""])]
            parts.append("\n".join(f"# {line}".rstrip() for line in lines))
        else:
            parts.append(_printing(part))
    return "\n\n".join(parts) + "\n"


PLACE = """if len(sys.argv) > 1:
    os.chdir(sys.argv[1])"""


def _printing(code: str) -> str:
    """Code whose last expression is printed, as an interactive session does."""
    tree = ast.parse(code)
    last = tree.body[-1]
    if not isinstance(last, ast.Expr) or ast.unparse(last).startswith(("print(", "show_source(")):
        return code
    lines = code.splitlines()
    before, value = lines[: last.lineno - 1], "\n".join(lines[last.lineno - 1 : last.value.end_lineno])
    return "\n".join([*before, f"print(repr(\n{textwrap.indent(value, '    ')}\n))"])


def notebook(text: str) -> str:
    """The read as a notebook (nbformat 4), to be run with any kernel that has the package."""
    sheet = [("code", SHOW_SOURCE.strip()), *cells(text)]
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
    """Put both beside the site's other files."""
    folder.mkdir(parents=True, exist_ok=True)
    text = PAGE.read_text(encoding="utf-8")
    (folder / "annotated.py").write_text(script(text), encoding="utf-8")
    (folder / "annotated.ipynb").write_text(notebook(text), encoding="utf-8")
