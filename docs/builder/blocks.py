"""Code blocks of the pages: found, run, and their output. The site shows it and the tests run the same blocks."""

import ast
import contextlib
import io
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["DOCS", "FENCE", "ROOT", "WITHIN", "Block", "blocks_of", "pages", "run_console", "run_python", "workplace"]

DOCS = Path(__file__).resolve().parent.parent
ROOT = DOCS.parent
RUN = ("python", "console")
"""Languages of blocks that are run. A block that needs what not every machine has is marked ``# needs: network``."""
WITHIN = ("exercise", "container")
"""Directives whose text is Markdown with blocks of its own."""
FENCE = re.compile(r"^(?P<fence>`{3,})(?P<info>[^`\n]*)\n(?P<body>.*?)^(?P=fence)\s*$", re.MULTILINE | re.DOTALL)
RAISES = re.compile(r"#\s*raises\s+(\w+)\s*$")
PUBLISHED = "uw-madison/"
NEEDS = re.compile(r"^#\s*needs:\s*(\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language or directive, the rest of that line, its text and where it begins."""

    language: str
    argument: str
    text: str
    line: int

    @property
    def needs(self) -> str:
        """What it needs and not every machine has, such as ``network``; empty for nothing."""
        found = NEEDS.search(self.text)
        if found:
            return found.group(1)
        return "network" if PUBLISHED in self.text else ""


def pages() -> list[Path]:
    """The pages of the site."""
    return sorted(DOCS.glob("*.md"))


def blocks_of(text: str, first: int = 1) -> list[Block]:
    """The fenced blocks of a Markdown text, in order; those within an exercise or a container stand in its place."""
    found: list[Block] = []
    for match in FENCE.finditer(text):
        language, _, argument = match["info"].strip().partition(" ")
        line = text.count("\n", 0, match.start()) + first
        if language.strip("{}") in WITHIN:
            found += blocks_of(match["body"], line + 1)
        else:
            found.append(Block(language.strip("{}"), argument.strip(), match["body"], line))
    return found


@contextlib.contextmanager
def workplace(folder: Path) -> Iterator[None]:
    """Work in a folder that has the shipped weights in it; a page's blocks share one and each other's files."""
    before = Path.cwd()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "weights").exists():
        (folder / "weights").symlink_to(ROOT / "weights")
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run_python(code: str, namespace: dict[str, Any]) -> str:
    """Run a block as an interactive session would: what it prints, and the value of a last expression.

    A last line that ends in ``# raises NAME`` must raise that exception, whose message is then the output.
    """
    tree = ast.parse(code)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    expected = RAISES.search(code.rstrip())
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            exec(compile(tree, "<page>", "exec"), namespace)
            if last is not None:
                value = eval(compile(ast.Expression(last.value), "<page>", "eval"), namespace)
                if value is not None:
                    print(repr(value))
        except Exception as error:
            if expected is None or type(error).__name__ != expected.group(1):
                raise
            print(f"{type(error).__name__}: {error}")
        else:
            if expected is not None:
                raise AssertionError(f"the block should raise {expected.group(1)}, and did not:\n{code}")
    return output.getvalue()


def run_console(text: str) -> list[tuple[str, str]]:
    """Run the ``$ nystrom-np …`` lines of a block; each with what it printed.

    Exit codes other than 0 are errors, but where the line before is a comment that says ``# exits with N``.
    """
    results, expected = [], 0
    for line in text.splitlines():
        if line.startswith("#"):
            found = re.search(r"exits with (\d)", line)
            expected = int(found.group(1)) if found else 0
            results.append((line, ""))
        elif line.startswith("$ "):
            code, output = _command(shlex.split(line[2:], comments=True))
            if code != expected:
                raise AssertionError(f"{line!r} ended with exit code {code}:\n{output}")
            results.append((line, output))
            expected = 0
        elif line.strip():
            raise AssertionError(f"a console block has commands ($ …) and comments (# …) alone; found {line!r}")
    return results


def _command(words: list[str]) -> tuple[int, str]:
    """Run a command of this package here, its output caught."""
    from nystrom_np.cli import main

    if words[0] != "nystrom-np":
        raise AssertionError(f"only nystrom-np is run in console blocks; found {words[0]!r}")
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            code = main(words[1:]) or 0
        except SystemExit as end:
            code = end.code or 0
    output.seek(0)
    return int(code), output.read()
