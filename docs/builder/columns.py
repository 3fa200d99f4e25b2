"""The layout of the reads: what is said of an idea, and beside it what shows it (code, its output, a picture)."""

from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx

from docs.builder.read import READS

__all__ = ["lay_out"]

SHOWN = {"source", "listing", "gain", "diagram", "sketch", "picture", "ways"}
ACROSS = {"proofs", "exercise", "public-names", "gains", "broad"}
"""Classes of what is shown beside the text, and of what goes across both columns."""


def lay_out(app: Sphinx, doctree: nodes.document) -> None:
    """Sort a read into ideas, in the order in which it is written: so they lie one under the other on a phone."""
    if app.env.docname in READS:
        for section in list(doctree.findall(nodes.section)):
            section.children = list(ideas(section))
            for child in section.children:
                child.parent = section
        for formula in list(doctree.findall(nodes.math)):
            keep_together(formula)


def keep_together(formula: nodes.math) -> None:
    """Put the full stop or comma behind a formula in one span with it: it would else begin a line of its own."""
    siblings = formula.parent.children
    place = siblings.index(formula)
    after = siblings[place + 1] if place + 1 < len(siblings) else None
    if isinstance(after, nodes.Text) and after.astext()[0] in ".,:;)":
        mark, rest = after.astext()[0], after.astext()[1:]
        together = nodes.inline("", "", formula.copy(), nodes.Text(mark), classes=["together"])
        together[0] += nodes.Text(formula.astext())
        formula.parent[place : place + 2] = [together, nodes.Text(rest)] if rest else [together]


def ideas(section: nodes.section) -> Iterator[nodes.Node]:
    """A section's children, text and what shows it together: a text that comes after something shown begins an idea."""
    said: list[nodes.Node] = []
    shown: list[nodes.Node] = []
    for child in section.children:
        classes = set(child.get("classes", ())) if isinstance(child, nodes.Element) else set()
        standing = isinstance(child, (nodes.title, nodes.section, nodes.target)) or bool(classes & ACROSS)
        beside = bool(classes & SHOWN) and not standing
        if standing or (shown and not beside):
            yield from _idea(said, shown)
            said, shown = [], []
        if standing:
            yield child
        else:
            (shown if beside else said).append(child)
    yield from _idea(said, shown)


def _idea(said: list[nodes.Node], shown: list[nodes.Node]) -> Iterator[nodes.Node]:
    if said or shown:
        parts = [nodes.container("", *said, classes=["said"]), nodes.container("", *shown, classes=["shown"])]
        yield nodes.container("", *parts, classes=["idea"])
