"""Code of the reads, line by line: a comment beside its line where there is room, and lines that wrap, never scroll."""

import html
import re

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

__all__ = ["listing", "printed"]

COMMENT = re.compile(r'^(?P<code>.*?)(?P<hash>\s*<span class="c1">#\s*)(?P<note>.*)</span>$')


def listing(code: str, *classes: str) -> nodes.container:
    """Python as a box whose lines wrap under themselves; what is copied from it is the code as it was."""
    coloured = highlight(code, PythonLexer(stripnl=False), HtmlFormatter(nowrap=True)).rstrip("\n").split("\n")
    rows = "\n".join(line(plain, shown) for plain, shown in zip(code.split("\n"), coloured, strict=True))
    return _box(rows, "highlight-python", *classes)


def line(plain: str, shown: str) -> str:
    """One line: its code, indented as it was, and beside it its comment, whose mark is there for those who copy it."""
    indent = len(plain) - len(plain.lstrip())
    found = COMMENT.match(shown)
    note = ""
    if found:
        shown, hidden = found["code"], found["hash"].replace('<span class="c1">', "")
        note = f'<span class="note"><span class="hash">{hidden}</span>{found["note"]}</span>'
    shown = shown.replace('<span class="p">(</span>', '<span class="p">(</span><wbr>')  # where a phone may break it
    code = f'<span class="code">{shown}</span>' if shown.strip() or not note else ""
    kind = "line" if plain.strip() else "line blank"
    return f'<span class="{kind}" style="--indent: {indent}ch">{code}{note}</span>'


def printed(output: str) -> nodes.container:
    """What a block has printed."""
    return _box(html.escape(output.rstrip("\n")), "highlight-text", "output")


def _box(inside: str, language: str, *classes: str) -> nodes.container:
    said = " ".join((language, "notranslate", *classes))
    raw = f'<div class="{said}"><div class="highlight"><pre>{inside}\n</pre></div></div>'
    return nodes.container("", nodes.raw("", raw, format="html"), classes=["listing", *classes])
