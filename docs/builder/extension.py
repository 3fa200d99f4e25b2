"""The Sphinx extension: blocks that run, code from the package, tests that prove, pictures, and KaTeX."""

import html
import inspect
import re
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from markupsafe import Markup
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.rst import escape
from sphinx.writers.html5 import HTML5Translator

from docs.builder import blocks, columns, diagram, pictures, sharing, sketches, sources, steps
from docs.builder.blocks import DOCS
from docs.builder.gains import bars, gains, said_of
from docs.builder.listing import LANGUAGES, box, breakable, listing, printed
from docs.builder.read import READS
from nystrom_np import explore, functional
from tests.benchmarks import twins

MARKED = ("nystrom_np.definition", "nystrom_np.activations")
"""Modules whose functions have faster forms of the same name."""

WORK = tempfile.TemporaryDirectory()
"""Where the pages' blocks are run, each page's in a folder of its own."""


def highlighted(code: str, language: str, *classes: str) -> nodes.literal_block:
    """Code to be shown in colours."""
    node = nodes.literal_block(code, code, classes=list(classes))
    node["language"] = language
    return node


class Python(SphinxDirective):
    """A block of Python that is run where it stands; the page's blocks share their names."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        code = "\n".join(self.content)
        block = blocks.Block("python", "", code, 0)
        wraps = self.env.docname in READS
        shown = [listing(code, "run") if wraps else highlighted(code, "python", "run")]
        if block.needs:
            return shown
        namespace = self.env.temp_data.setdefault("namespace", {"__name__": "page"})
        with blocks.workplace(Path(WORK.name) / self.env.docname):
            output = blocks.run_python(code, namespace)
        if not output.strip():
            return shown
        return [*shown, printed(output) if wraps else highlighted(output.rstrip("\n"), "text", "output")]


class Console(SphinxDirective):
    """Commands of this package, run, with what they print."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        text = "\n".join(self.content)
        if blocks.Block("console", "", text, 0).needs:
            return [highlighted(text, "console", "run")]
        with blocks.workplace(Path(WORK.name) / self.env.docname):
            results = blocks.run_console(text)
        lines = [line for command, output in results for line in (command, output.rstrip("\n")) if line]
        return [highlighted("\n".join(lines), "console", "run")]


class Source(SphinxDirective):
    """Code of the package as it is now, without its docstring, under a link to its reference."""

    required_arguments = 1
    option_spec: ClassVar = dict.fromkeys(("from", "to", "link", "with"), directives.unchanged)

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        code, place = sources.source_of(name, self.options.get("from", ""), self.options.get("to", ""))
        helpers = [sources.source_of(helper)[0] for helper in self.options.get("with", "").split()]
        wraps = self.env.docname in READS
        code = ("\n\n" if wraps else "\n\n\n").join([code, *helpers])
        module, _, short = name.rpartition(".")
        link = self.options.get("link") or sources.documented(name)
        place = (place.rpartition("/")[2] if wraps else place).replace("_", r"\_")
        said = f"{{py:obj}}`{short if wraps else name} <{link}>` · {place}"
        if module in MARKED and short in sources.faster_names() and self.env.docname != sources.FASTER.stem:
            said += f" · [faster form](#faster-{short})"
        caption = nodes.container("", classes=["source-caption"])
        self.state.nested_parse(StringList([said]), self.content_offset, caption)
        kind = "twin" if module.startswith("nystrom_np.fast.") else "definition"
        shown = listing(code) if wraps else highlighted(code, "python", "source")
        return [nodes.container("", caption, shown, classes=["source", kind])]


class Gain(SphinxDirective):
    """What faster forms gain on their definitions, as ``python -m tests.benchmarks.twins --docs`` has measured it."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        node = nodes.container("", classes=["gain"])
        for name in map(str.strip, self.content):
            self.state.nested_parse(StringList([said_of(name)]), self.content_offset, node)
            node += nodes.raw("", bars(name), format="html")
        return [node]


class Gains(SphinxDirective):
    """All of them as a table, and what they were measured on."""

    def run(self) -> list[nodes.Node]:
        found = gains()
        told = found["machine"] | found["versions"]
        restless = "; ".join(twins.restless(found["cases"]))
        text = [
            *twins.table(found["cases"]).splitlines(),
            "",
            f"Medians of {found['rounds']} runs of each form, in turn; float32; {told['CPU']}, {told['cores']} cores"
            f"{', BLAS’s threads on another than the caller’s' if found['pinned'] else ''}; {told['BLAS']}; "
            f"Python {told['Python']}, NumPy {told['numpy']}.",
            "",
            f"Runs that differed by more than half of their median: {restless or 'none'}.",
        ]
        node = nodes.container("", classes=["gains"])
        self.state.nested_parse(StringList(text), self.content_offset, node)
        return [node]


class Proof(SphinxDirective):
    """The tests that prove what a page claims: what each says, and its code to unfold, or ``:open:`` from the start."""

    has_content = True
    option_spec: ClassVar = {"open": directives.flag}

    def run(self) -> list[nodes.Node]:
        return [folded([line.strip() for line in self.content if line.strip()], "open" in self.options)]


def folded(identities: list[str], unfolded: bool = False) -> nodes.container:
    """Tests that prove, in one quiet line to unfold."""
    if unfolded:
        return nodes.container("", *proofs(identities, "open"), classes=["proofs"])
    opened = f'<details class="proofs"><summary>Proved by {len(identities)} test{"s" * (len(identities) > 1)}</summary>'
    edges = (nodes.raw("", part, format="html") for part in (opened, "</details>"))
    return nodes.container("", next(edges), *proofs(identities), next(edges), classes=["proofs"])


def proofs(identities: list[str], state: str = "") -> list[nodes.Node]:
    """A folded box for each test."""
    found: list[nodes.Node] = []
    for identity in identities:
        said, code = sources.test_source(identity)
        said = " ".join(said.split("\n\n")[0].replace("`", "").split())
        name = breakable(html.escape(f"tests/{identity}"))
        summary = f'<details class="proof" {state}><summary><code>{name}</code>'
        summary += f"<span>{html.escape(said)}</span></summary>" if said else "</summary>"
        found += [
            nodes.raw("", summary, format="html"),
            highlighted(code, "python"),
            nodes.raw("", "</details>", format="html"),
        ]
    return found


class Exercise(SphinxDirective):
    """A question, and folded under it the answer, whose code is run; the first paragraph is the question."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        parsed = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, parsed)
        question, *answer = parsed.children
        opened, asked, closed = '<details class="exercise"><summary>', "</summary>", "</details>"
        edges = [nodes.raw("", part, format="html") for part in (opened, asked, closed)]
        words = nodes.inline("", "", *question.children)
        return [nodes.container("", edges[0], words, edges[1], *answer, edges[2], classes=["exercise"])]


class Sketch(SphinxDirective):
    """A drawing of boxes and arrows in the page's own colours; the directive's text is its caption."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        drawing = nodes.raw("", sketches.draw(self.arguments[0]), format="html")
        text = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, text)
        caption = nodes.caption("", "", *text[0].children)
        return [nodes.figure("", drawing, caption, classes=["sketch"])]


class Picture(SphinxDirective):
    """A picture drawn now, for light pages and for dark ones; the directive's text is its caption."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        folder = DOCS / "_build" / "pictures"
        name = self.arguments[0]
        alt = pictures.draw(name, folder)
        figure = nodes.figure(classes=["picture", *(["broad"] if name in pictures.BROAD else [])])
        for theme in ("light", "dark"):
            for form in pictures.FORMS:
                uri = f"/_build/pictures/{name}-{form}-{theme}.svg"
                figure += nodes.image(uri=uri, alt=alt, loading="lazy", classes=[f"only-{theme}", f"on-{form}"])
        text = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, text)
        caption = nodes.caption("", "", *text[0].children)
        figure += caption
        return [figure]


class Diagram(SphinxDirective):
    """The data flow of a model, with the shapes of a real run, as text in the page."""

    def run(self) -> list[nodes.Node]:
        return [nodes.container("", nodes.raw("", diagram.data_flow(), format="html"), classes=["diagram"])]


class Explorer(SphinxDirective):
    """The explorer, whose parts are the package's, and whose data ``python -m docs`` has put beside the other files."""

    def run(self) -> list[nodes.Node]:
        page = '<link rel="stylesheet" href="_static/explorer/explore.css">' + explore.part("explore.html")
        names = ("data", "d3", "explore")
        scripts = "".join(f'<script defer src="_static/explorer/{name}.js"></script>' for name in names)
        return [nodes.raw("", page + scripts, format="html")]


class PublicNames(SphinxDirective):
    """A list of every public function and class, each with its summary and a link to its reference."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        text = []
        for name in sources.public_names():
            module, _, short = name.rpartition(".")
            if self.arguments and module != self.arguments[0]:
                continue
            thing = sources.resolve(name)
            said = inspect.getdoc(thing) if callable(thing) else sources.said_below(name)
            summary = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"`\1`", said.splitlines()[0])
            text.append(f"- {{py:obj}}`{short} <{name}>`: {summary}")
        node = nodes.container(classes=["public-names"])
        self.state.nested_parse(StringList(text), self.content_offset, node)
        return [node]


class Tensors(SphinxDirective):
    """A group of the model's tensors, with shapes, formulas, lines, padding and tolerances."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        group = self.arguments[0]
        tables = {"given": steps.given, "parameters": steps.parameters}
        lines = tables[group]() if group in tables else steps.table(group)
        node = nodes.container("", classes=["tensors"])
        self.state.nested_parse(StringList(lines), self.content_offset, node)
        return [node]


def accessible(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Say what Sphinx's and the theme's HTML leaves out: levels of headings, and lists that define nothing."""
    if "furo_navigation_tree" in context:
        tree = context["furo_navigation_tree"]
        context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')
    body = context.get("body", "").replace(
        '<dl>\n<dd><em class="sig-param">', '<dl role="list">\n<dd><em class="sig-param">'
    )
    body = body.replace('<dd><em class="sig-param">', '<dd role="listitem"><em class="sig-param">')
    body = re.sub("(?<=<h1>Source code for )[^<]+", lambda found: breakable(found[0]), body)
    context["toc"] = in_words(context.get("toc") or "")
    for beside in filter(None, (context.get("next"), context.get("prev"))):
        beside["title"] = in_words(beside["title"])
    if page == "genindex":
        context["genindexentries"] = index(context["genindexentries"])
    if page == "_modules/index":  # a list within a list belongs to the item before it
        body = in_words(body)
        body = body.replace("</li>\n<ul>", "<ul>").replace("</ul><li>", "</ul></li>\n<li>")
        body = body.replace("</ul></ul>", "</ul></li></ul>")
    body = re.sub(r'(?<=<span class="pre">)[^<]{23,}', lambda found: breakable(found[0]), body)
    body = re.sub("<td.*?</td>", lambda cell: MEASURE.sub("\N{NO-BREAK SPACE}", cell[0]), body, flags=re.DOTALL)
    context["body"] = body.replace('<span class="pre">-', '<span class="pre option">-')


def in_words(shown: str) -> str:
    """HTML whose long names may go on in the next line."""
    return re.sub("(?:^|(?<=>))[^<]{16,}", lambda found: breakable(found[0]), shown)


def index(entries: list[Any]) -> list[Any]:
    """The index, where modules are under their names alone, and long names may go on in the next line."""

    def wrapped(name: str) -> Markup:
        return Markup(in_words(html.escape(name)))

    return [
        (
            letter,
            [
                (wrapped(name), (links, [(wrapped(below), at) for below, at in inside], key))
                for name, (links, inside, key) in found
                if name != "module"
            ],
        )
        for letter, found in entries
    ]


MEASURE = re.compile(r"(?<=\d) (?=(?:ms|s|MB|MiB|GB|×)(?:[^\w]|$))|(?<=[≤≥]) (?=\d)|(?<=line) (?=\d)")
"""The space between a number and its unit, or a sign or the word "line" and its number, in a table."""


class BibTeX(SphinxDirective):
    """How to cite the package and the paper."""

    def run(self) -> list[nodes.Node]:
        return [highlighted(sharing.bibtex(), "bibtex", "run")]


def described(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Give a page's head what links to it show; the search what it needs from disk; and pages with formulas KaTeX."""
    if doctree is not None:
        app.env.nystrom_texts = getattr(app.env, "nystrom_texts", {}) | {page: excerpt(doctree)}
    title = html.unescape(re.sub("<[^>]+>", "", context.get("title") or "")) or app.config.project
    paragraphs = doctree.findall(nodes.paragraph) if doctree is not None else ()
    said = sharing.description(next((paragraph.astext() for paragraph in paragraphs), ""))
    context["metatags"] = context.get("metatags", "") + sharing.metatags(
        title, said, f"{page}.html", app.config.html_baseurl
    )
    if page == "search":
        app.add_js_file("excerpts.js")
    if "katex-source" in context.get("body", ""):
        app.add_css_file("katex/katex.min.css", priority=200)  # before the site's own, which sets its size
        for script in ("katex/katex.min.js", "mathematics.js"):
            app.add_js_file(script, loading_method="defer")


def excerpt(node: nodes.Node) -> str:
    """The text of a page for the search, its sections marked."""
    if isinstance(node, addnodes.desc_parameterlist):
        return f"({', '.join(map(excerpt, node.children))}) "
    if {"viewcode-link", "proofs"} & set(getattr(node, "attributes", {}).get("classes", ())):
        return ""
    if isinstance(node, nodes.Text):
        return html.escape(str(node), quote=False)
    if isinstance(node, (nodes.raw, nodes.comment)):
        return ""
    inside = "".join(excerpt(child) for child in node.children)
    if isinstance(node, nodes.section):
        return f'<section id="{node["ids"][0]}">{inside}</section>'
    return inside if isinstance(node, nodes.Inline) else f"{inside} "


def write_excerpts(app: Sphinx, error: Exception | None) -> None:
    """Write the pages' texts for the search."""
    if error is None and app.builder.format == "html":
        texts = getattr(app.env, "nystrom_texts", {})
        (Path(app.outdir) / "_static" / "excerpts.js").write_text(sharing.excerpts_script(texts), encoding="utf-8")


def lines_to_link_to(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Give each line of a module's code an anchor, ``#line-7``."""
    if not page.startswith("_modules/") or "<pre>" not in context.get("body", ""):
        return
    head, code = context["body"].split("<pre>", 1)
    kept, number, before = "", 0, ""
    for line in code.split("\n"):
        # what viewcode has put between the lines of the file
        added = line.startswith(('<div class="viewcode', '<a class="viewcode', "</div>"))
        added = added or (not line and before.endswith("</div>"))
        if line or not added:  # of its blank lines, which come on top of the file's, none is kept
            anchor = f'<span id="line-{number}"></span>' if number else ""
            kept += line if added else f"{anchor}{line}" + "\n" * (not line.endswith("</div>"))  # which ends one, too
        number, before = number + (not added), line
    context["body"] = f"{head}<pre>{kept}"


def add_proofs(app: Sphinx, doctree: nodes.document) -> None:
    """Name the tests on the pages that a command writes."""
    identities = sources.PROOFS_OF_PAGES_WRITTEN_ELSEWHERE.get(app.env.docname, ())
    if identities:
        next(iter(doctree.findall(nodes.section))).append(folded(list(identities)))


def as_written(app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: Any, returns: Any) -> Any:
    """Signatures show defaults and names; the shapes are in the docstring's parameters."""
    return (signature, None) if signature is not None else None


def documented_elsewhere(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Activations are documented among the public functions."""
    lines[:] = [line.replace("nystrom_np.activations.", "nystrom_np.functional.") for line in lines]


def straight_quotes(app: Sphinx, doctree: nodes.document) -> None:
    """In docstrings one word in quotes is a value, and keeps the quotes of code."""
    for described in doctree.findall(addnodes.desc_content):
        for text in list(described.findall(nodes.Text)):
            if "“" in text:
                text.parent.replace(text, nodes.Text(re.sub("“([^\\s”]+)”", r'"\1"', text)))


def without_long_values(app: Sphinx, doctree: nodes.document) -> None:
    """A table is described, and is read in its module: as a value it would be one long line, with paths of files."""
    for value in list(doctree.findall(addnodes.desc_annotation)):
        if len(value.astext()) > app.config.python_maximum_signature_line_length:
            value.parent.remove(value)


def said_above(app: Sphinx, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """The fields of a named tuple are described with it: what Python says of each, its number, says nothing."""
    return True if (getattr(thing, "__doc__", None) or "").startswith("Alias for field number") else None


def shapes_for_documentation(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """A definition has no docstring: its shapes, and where it is documented in full. Its page stands above them."""
    if name == "nystrom_np.definition":
        lines[:] = ["The shapes of the arguments, and of the result.", ""]
    module, _, short = name.rpartition(".")
    if module != "nystrom_np.definition" or lines:
        return
    shapes = sources.shape_comment(thing)
    lines += [escape(shapes), ""]
    if short in functional.__all__:
        lines += [f"Documented as :func:`nystrom_np.functional.{short}`.", ""]


COLUMNS = re.compile(r"\S {2,}\S.*\S {2,}\S")
"""Numbers one under the other, as a table: lines that do not wrap, in a box that scrolls where the window is narrow."""

WIDEST = 104
"""Characters of a line that the widest page shows. Longer ones wrap, columns or not."""


def visit_code(self: Any, node: nodes.literal_block) -> None:
    """Code on every page, as on the reads: lines wrap, so that none is cut on a narrow window."""
    code = node.astext()
    language = "pycon" if code.startswith(">>>") else node.get("language", "")
    if language not in LANGUAGES or node.rawsource != code:
        HTML5Translator.visit_literal_block(self, node)
        return
    rows = code.split("\n")
    columns = "output" in node["classes"] and sum(bool(COLUMNS.search(row)) for row in rows) >= 3
    columns = columns and max(map(len, rows)) <= WIDEST
    said = " ".join(["listing", *node["classes"], *(["columns"] if columns else [])])
    self.body.append(f'<div class="{said}">{box(code, language, *node["classes"])}</div>\n')
    raise nodes.SkipNode


def visit_math(self: Any, node: nodes.math) -> None:
    """Inline mathematics, which the browser's KaTeX replaces."""
    self.body.append(f'<span class="katex-source">{html.escape(node.astext())}')
    self.body.append("</span>")
    raise nodes.SkipNode


def visit_display_math(self: Any, node: nodes.math_block) -> None:
    """Mathematics on lines of its own."""
    self.body.append(f'<div class="katex-source display">{html.escape(node.astext())}')
    self.body.append("</div>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register all this with Sphinx."""
    for name, directive in {
        "python": Python,
        "console": Console,
        "source": Source,
        "gain": Gain,
        "gains": Gains,
        "proof": Proof,
        "picture": Picture,
        "exercise": Exercise,
        "sketch": Sketch,
        "diagram": Diagram,
        "public-names": PublicNames,
        "explorer": Explorer,
        "tensors": Tensors,
        "bibtex": BibTeX,
    }.items():
        app.add_directive(name, directive)
    app.add_node(nodes.literal_block, override=True, html=(visit_code, HTML5Translator.depart_literal_block))
    app.add_html_math_renderer("katex", (visit_math, None), (visit_display_math, None))
    app.connect("doctree-read", add_proofs)
    app.connect("doctree-read", straight_quotes)
    app.connect("doctree-read", without_long_values)
    app.connect("doctree-read", columns.lay_out)
    app.connect("html-page-context", lines_to_link_to)
    app.connect("html-page-context", described)
    app.connect("build-finished", write_excerpts)
    app.connect("html-page-context", accessible, priority=900)  # after the theme
    app.connect("autodoc-process-signature", as_written)
    app.connect("autodoc-skip-member", said_above)
    app.connect("autodoc-process-docstring", documented_elsewhere)
    app.connect("autodoc-process-docstring", shapes_for_documentation)
    app.add_js_file("boxes.js", loading_method="defer")
    for style in ("site.css", "read.css"):
        app.add_css_file(style)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
