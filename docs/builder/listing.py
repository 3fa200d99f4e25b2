"""Code line by line: a comment beside its line where there is room, and lines that wrap, never scroll."""

import html
import re

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

__all__ = ["LANGUAGES", "box", "breakable", "listing", "printed"]

LANGUAGES = ("python", "pycon", "console", "sh", "bash", "c", "text", "json", "bibtex")
"""What is shown like this."""

COMMENT = re.compile(r'^(?P<code>.*?)(?P<hash>\s*<span class="c1">#\s*)(?P<note>.*)</span>$')

WHOLE = re.compile(r"(?<![\w-])(--?[a-z][\w-]*|utf-8)")
"""What is not to be broken at its hyphens."""
LONG = re.compile(r"[\w./]{24,}")
"""Names that a phone has no room for."""


def listing(code: str, *classes: str) -> nodes.container:
    """Python as a box whose lines wrap under themselves; what is copied from it is the code as it was."""
    return nodes.container(
        "", nodes.raw("", box(code, "python", *classes), format="html"), classes=["listing", *classes]
    )


def printed(output: str) -> nodes.container:
    """What a block has printed."""
    return nodes.container(
        "", nodes.raw("", box(output, "text", "output"), format="html"), classes=["listing", "output"]
    )


def box(code: str, language: str, *classes: str) -> str:
    """The HTML of code in a language, or with the class ``output`` of what code has printed."""
    code = code.rstrip("\n")
    if "output" in classes:
        inside = html.escape(code)
    else:
        lexer = get_lexer_by_name(language, stripnl=False)
        coloured = highlight(code, lexer, HtmlFormatter(nowrap=True)).rstrip("\n").split("\n")
        beside = language == "python"
        inside = "\n".join(line(*both, beside) for both in zip(code.split("\n"), coloured, strict=True))
    inside = LONG.sub(lambda found: breakable(found[0]), inside)
    said = " ".join((f"highlight-{language}", "notranslate", *classes))
    return f'<div class="{said}"><div class="highlight"><pre>{inside}\n</pre></div></div>'


def breakable(name: str) -> str:
    """A long name, which may go on in the next line after one of the signs ``_ . :: / =`` or before a capital."""
    name = re.sub(r"(?<=\w)(_+|\.|::|/|=)(?=[^\W\d]|\")", r"\1<wbr>", name)
    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "<wbr>", name)


def line(plain: str, shown: str, beside: bool) -> str:
    """One line, indented as it was; ``beside`` it, or in it, its comment, whose mark is there for those who copy it."""
    indent = len(plain) - len(plain.lstrip())
    found = COMMENT.match(shown) if beside else None
    note = ""
    if found:
        shown, hidden = found["code"], found["hash"].replace('<span class="c1">', "")
        note = f'<span class="note"><span class="hash">{hidden}</span>{found["note"]}</span>'
    shown = shown.replace('<span class="p">(</span>', '<span class="p">(</span><wbr>')  # where a phone may break it
    shown = shown.replace('<span class="o">.</span>', '<wbr><span class="o">.</span>')
    prose = " prose" if '<span class="sd">' in shown else ""
    shown = WHOLE.sub(r'<span class="whole">\1</span>', shown)
    code = f'<span class="code{prose}">{shown}</span>' if shown.strip() or not note else ""
    kind = "line" if plain.strip() else "line blank"
    return f'<span class="{kind}" style="--indent: {indent}ch">{code}{note}</span>'
