"""The documentation: every block runs, every test and name it mentions exists, and the checks of the built site work.

The site itself is built, with warnings as errors, and checked by ``python -m docs``, which CI runs.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import nystrom_np
from docs.builder import blocks, checks, explorer, read, sharing, sources
from nystrom_np import NystromformerConfig
from nystrom_np.cli import _parser
from nystrom_np.fast import on_numpy
from tests.benchmarks import twins

README = blocks.ROOT / "README.md"
PAGES = [*blocks.pages(), README]
OUTSIDE = {"sh", "text", "toml", "json", "c"}  # shown, not run here: shell is for CI (the README's), C has its own test
DIRECTIVES = {
    "source",
    "proof",
    "picture",
    "diagram",
    "public-names",
    "explorer",
    "sketch",
    "gain",
    "gains",
    "tensors",
    "bibtex",
    "toctree",
    "eval-rst",
    "list-table",
    "literalinclude",
}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_runs(page: Path, tmp_path: Path) -> None:
    namespace: dict = {"__name__": "page"}
    for block in blocks.blocks_of(page.read_text(encoding="utf-8")):
        if block.needs:
            assert block.needs == "network", f"{page.name}:{block.line} needs what no test has"
            if block.language == "python":
                compile(block.text, page.name, "exec")
            else:  # its commands and options exist
                for command in re.findall(r"^\$ nystrom-np (.+)$", block.text, re.MULTILINE):
                    _parser().parse_args(shlex.split(command))
        elif block.language == "python" and page == README:
            assert block.text in (blocks.ROOT / "nystrom_np" / "definition.py").read_text(encoding="utf-8")
        elif block.language == "python":
            with blocks.workplace(tmp_path / "work"):
                blocks.run_python(block.text, namespace)
        elif block.language == "console":
            with blocks.workplace(tmp_path / "work"):
                assert blocks.run_console(block.text)
        elif block.language == "source":
            sources.source_of(block.argument, *_options(block.text))
        elif block.language == "proof":
            for identity in block.text.removeprefix(":open:").split():
                sources.test_source(identity)
        elif block.language == "pycon":  # run by doctest, where pytest is pointed at the file
            assert page == README
        else:
            assert block.language in OUTSIDE | DIRECTIVES, f"{page.name}:{block.line}: {block.language!r} is not run"


def _options(text: str) -> list[str]:
    found = dict(re.findall(r"^:(from|to): *(.*)$", text, re.MULTILINE))
    return [found.get("from", ""), found.get("to", "")]


@pytest.mark.network
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_that_need_the_network(page: Path, tmp_path: Path) -> None:
    for block in blocks.blocks_of(page.read_text(encoding="utf-8")):
        if block.needs == "network":
            with blocks.workplace(tmp_path / "work"):
                if block.language == "python":
                    blocks.run_python(block.text, {})
                else:
                    assert blocks.run_console(block.text)


def test_times_in_the_readme_are_the_benchmarks() -> None:
    """From the least to the most that a forward pass takes beside transformers, of the pages that were measured."""
    [told] = re.findall(
        r"a forward pass takes ([\d.]+) to ([\d.]+) times the time of `transformers` (\S+)",
        README.read_text(encoding="utf-8"),
    )
    ratios: list[str] = []
    for page in ("benchmarks.md", "benchmarks-short.md"):
        measured = (blocks.ROOT / "docs" / page).read_text(encoding="utf-8")
        [section] = re.findall(r"^## A forward pass of the bare model$(.*?)^#", measured, re.DOTALL | re.MULTILINE)
        found = re.findall(r"^\| *\| transformers \|[^|]*\|[^|]*\| ([\d.]+) \|", section, re.M)
        assert found, page
        ratios += found
        assert f"| transformers | {told[2]} |" in measured
    assert told[:2] == (min(ratios, key=float), max(ratios, key=float))


def test_versions_in_the_readme() -> None:
    readme, project = (path.read_text(encoding="utf-8") for path in (README, blocks.ROOT / "pyproject.toml"))
    [oldest] = re.findall(r'^requires-python = ">=([\d.]+)"$', project, re.MULTILINE)
    assert f"(Python {oldest} or newer)" in readme
    [shown] = re.findall(r"^nystrom_np (\S+) with NumPy", readme, re.MULTILINE)
    assert shown == nystrom_np.__version__


def test_shell_commands_of_the_readme_are_those_that_ci_runs() -> None:
    shell = [block for block in blocks.blocks_of(README.read_text(encoding="utf-8")) if block.language == "sh"]
    assert [len(block.text.strip().splitlines()) for block in shell] == [1, 1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    """Links between pages and files; anchors are checked in the built site."""
    text = blocks.FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"(?<!`)\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "#", "explore:")):
            continue
        assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


def test_pages_say_which_test_proves_them() -> None:
    """All but the page that the benchmarks' command writes, to which the build adds what is named here."""
    elsewhere = sources.PROOFS_OF_PAGES_WRITTEN_ELSEWHERE
    for page in blocks.pages():
        named = [block for block in blocks.blocks_of(page.read_text(encoding="utf-8")) if block.language == "proof"]
        assert named or page.stem in elsewhere, page.name
    for identities in elsewhere.values():
        for identity in identities:
            sources.test_source(identity)


@pytest.mark.parametrize("name", read.READS)
def test_a_read_as_a_script(name: str, tmp_path: Path) -> None:
    """It runs from top to bottom, wherever it lies, and prints the sources that the page shows."""
    path = tmp_path / f"{name}.py"
    path.write_text(read.script(name), encoding="utf-8")
    command = [sys.executable, "-W", "error", str(path)]
    environment = {"PYTHONPATH": str(blocks.ROOT), "PYTHONIOENCODING": "utf-8", "PATH": ""}
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env=environment, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    for block in blocks.blocks_of(read.page(name)):
        if block.language == "source":
            assert sources.source_of(block.argument, *_options(block.text))[0].splitlines()[-1] in done.stdout
    assert "np.False_" not in done.stdout
    if name == "annotated":
        assert "np.True_" in done.stdout  # the comparison of the page with the model
        assert "blind:" in done.stdout


def test_the_read_goes_through_the_page_from_top_to_bottom() -> None:
    """Every line of the definition's functions is in a box, nothing else is, and a later one never comes first."""
    shown: dict[str, list[str]] = {}
    for block in blocks.blocks_of(read.page("annotated")):
        if block.language == "source":
            helpers = re.search(r"^:with: *(.*)$", block.text, re.MULTILINE)
            for name in (block.argument, *(helpers.group(1).split() if helpers else [])):
                options = _options(block.text) if name == block.argument else ["", ""]
                code = sources.source_of(name, *options)[0]
                shown.setdefault(name, []).extend(line.strip() for line in code.splitlines())
    page = (blocks.ROOT / "nystrom_np" / "definition.py").read_text(encoding="utf-8")
    defined = [f"nystrom_np.definition.{name}" for name in re.findall(r"^def (\w+)", page, re.MULTILINE)]
    assert list(shown) == defined
    for name, lines in shown.items():
        assert lines == [line.strip() for line in sources.source_of(name)[0].splitlines()], name


def test_the_read_says_how_long_it_takes() -> None:
    """Words of its prose at 120 a minute, and ten seconds for a line of the definition: within a tenth."""
    text = read.page("annotated").partition("## Every public name")[0]
    [(minutes, words, lines)] = re.findall(
        r"about (\d+) minutes: ([\d,]+) words at 120 a minute,\s+and ten seconds for each of the (\d+) lines", text
    )
    prose = re.sub(r"````\{exercise\}.*?^````$", "", text, flags=re.MULTILINE | re.DOTALL)
    counted = sum(len(part.split()) for kind, part in read.cells(prose) if kind == "prose")
    page = (blocks.ROOT / "nystrom_np" / "definition.py").read_text(encoding="utf-8")
    code = [line for line in page.partition("# 1.")[2].splitlines() if line.strip() and not line.startswith(("@", "#"))]
    assert int(words.replace(",", "")) == pytest.approx(counted, rel=0.1)
    assert int(lines) == pytest.approx(len(code), rel=0.1)
    assert int(minutes) == pytest.approx(counted / 120 + len(code) / 6, rel=0.1)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_to_the_explorer_name_settings_that_it_has(page: Path) -> None:
    """A browser opens each of them in another test."""
    config = NystromformerConfig.from_json_file(str(blocks.ROOT / "weights" / "masked-lm" / "config.json"))
    allowed = {
        "text": range(1, len(explorer.TEXTS) + 1),
        "layer": range(1, config.num_hidden_layers + 1),
        "head": range(1, config.num_attention_heads + 1),
        "view": ("exact", "nystrom", "difference"),
        "m": range(2, 65),
        "steps": (*range(11), "exact"),
        "masking": ("transformers", "original", "invariant"),
        "token": range(64),
    }
    for link in re.findall(r"\(explore:([^)]*)\)", page.read_text(encoding="utf-8")):
        for name, value in (part.split("=") for part in link.split("&")):
            assert value in map(str, allowed[name]), link


def test_boxes_have_formulas_alone() -> None:
    """The mark of a faster form is a link on the page; the docstring is the reference's."""
    code, place = sources.source_of("nystrom_np.definition.softmax")
    assert code.startswith("def softmax(x, axis=-1):  # any shape")
    assert place.startswith("nystrom_np/definition.py, line ")
    assert sources.shape_comment(sources.resolve("nystrom_np.definition.softmax")).startswith("any shape → the same")
    assert sources.shape_comment(sources.resolve("nystrom_np.definition.encode")).startswith("ids (B, L)")
    assert "softmax" in sources.faster_names()


def test_every_twin_is_explained_and_measured() -> None:
    """A section of the chapter for each faster form of NumPy, and a figure; but for those of half precision alone."""
    functions = {name for name in on_numpy.__all__ if name != "elementwise"}
    same = {
        name
        for name in functions
        if getattr(on_numpy, name).__module__ in ("nystrom_np.definition", "nystrom_np.losses")
    }
    measured = {name.partition(",")[0] for name in json.loads(twins.DOCS.read_text(encoding="utf-8"))["cases"]}
    assert functions - same <= sources.faster_names()
    assert functions - same <= measured
    text = sources.FASTER.read_text(encoding="utf-8")
    shown = {name for block in blocks.blocks_of(text) if block.language == "gain" for name in block.text.splitlines()}
    assert (
        shown == set(twins.cases(length=8, long=8)) == set(json.loads(twins.DOCS.read_text(encoding="utf-8"))["cases"])
    )


def test_twins_are_measured_against_their_definitions() -> None:
    """Every case runs as both, at a small size."""
    found = twins.measure(1, rest=0.0, length=64, long=64)
    assert all(case["definition"]["median"] > 0 and case["twin"]["median"] > 0 for case in found.values())
    assert twins.table(found).count("\n") == len(found) + 1
    assert twins.restless({"f": {form: {"min": 1.0, "median": 1.0, "max": 1.6} for form in ("definition", "twin")}})


@pytest.mark.parametrize("name", read.READS)
def test_a_read_as_a_notebook(name: str) -> None:
    """All of the page's code and prose, in order, in the format's required fields, with no link that leads nowhere."""
    book = json.loads(read.notebook(name))
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    code = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
    assert [block.text.strip() for block in blocks.blocks_of(read.page(name)) if block.language == "python"] == [
        cell for cell in code[1:] if not cell.startswith("show_source(")
    ]
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
    for cell in book["cells"]:
        if cell["cell_type"] == "markdown":
            assert not re.search(r"\]\((?!https?:)|\{[\w:]+\}`|explore:|^\(faster-", cell["source"], re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("name", read.READS)
def test_a_notebook_runs_from_top_to_bottom(name: str, tmp_path: Path) -> None:
    """In a kernel, as its readers run it; a cell that raises is one that says so."""
    pytest.importorskip("nbclient", reason="nbclient is not installed: pip install '.[docs]'")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install '.[docs]'")
    path = tmp_path / f"{name}.ipynb"
    path.write_text(read.notebook(name), encoding="utf-8")
    run = f"""import nbclient, nbformat
book = nbformat.read({str(path)!r}, 4)
nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
nbformat.write(book, {str(path)!r})"""
    command = [sys.executable, "-c", run]
    environment = os.environ | {"PYTHONPATH": str(blocks.ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in cells)


def test_bibtex_is_that_of_the_citation_file() -> None:
    """Every name, title and version of ``CITATION.cff`` is in the entries, in BibTeX's form."""
    software, paper = sharing.bibtex().split("\n\n")
    assert software.startswith("@software{nystrom_np,\n  author = {{The authors of nystrom_np}},")
    assert f"version = {{{nystrom_np.__version__}}}" in software
    assert paper.startswith("@inproceedings{xiong2021,\n  author = {Xiong, Yunyang and Zeng, Zhanpeng and")
    assert "title = {{Nyströmformer: A Nyström-based algorithm for approximating self-attention}}" in paper
    assert paper.count("{") == paper.count("}")


def test_descriptions_are_short_and_whole() -> None:
    """A first paragraph longer than what is shown of it ends with a word; what HTML would read is escaped."""
    said = sharing.description("a <b>\nword, " * 40)
    assert said.rpartition(" ")[0].endswith(("a", "<b>", "word"))
    assert len(said) <= sharing.LONGEST + 2
    assert sharing.description("One\nline.") == "One line."
    tags = sharing.metatags("A & B", said, "a.html", "https://example.org/docs/")
    assert 'property="og:title" content="A &amp; B"' in tags
    assert 'property="og:image" content="https://example.org/docs/_static/preview.png"' in tags
    assert "<b>" not in tags
    assert 'content="_static/preview.png"' in sharing.metatags("A", "", "a.html", "")


def test_a_block_is_run_as_a_session_would() -> None:
    namespace: dict = {}
    assert blocks.run_python("a = 2\nprint('two')\na + 1", namespace) == "two\n3\n"
    assert blocks.run_python("b = a\nNone", namespace) == ""
    assert blocks.run_python("[][a]  # raises IndexError", namespace) == "IndexError: list index out of range\n"
    with pytest.raises(IndexError):
        blocks.run_python("[][a]", namespace)
    with pytest.raises(AssertionError, match="should raise KeyError"):
        blocks.run_python("a  # raises KeyError", namespace)


def test_a_command_that_fails_is_no_example(tmp_path: Path) -> None:
    with blocks.workplace(tmp_path / "work"):
        with pytest.raises(AssertionError, match="exit code 2"):
            blocks.run_console("$ nystrom-np inspect nowhere")
        assert "nowhere" in blocks.run_console("# exits with 2\n$ nystrom-np inspect nowhere")[1][1]


def test_what_is_not_there_is_an_error() -> None:
    with pytest.raises(LookupError, match="no such test"):
        sources.test_source("test_docs.py::test_nothing")
    with pytest.raises(LookupError, match="no line of the source"):
        sources.source_of("nystrom_np.functional.softmax", first="no such line")
    assert '"""' not in sources.source_of("nystrom_np.functional.softmax")[0]


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<img src="a.svg">', "no alternative text"),
        ('<svg role="img"></svg>', "no alternative text"),
        ('<a href="nowhere.html">x</a>', "broken link"),
        ('<a href="#nowhere">x</a>', "broken link"),
        ('<script src="https://example.org/a.js"></script>', "from another host"),
        ('<link rel="stylesheet" href="//example.org/a.css">', "from another host"),
        ('<script src="missing.js"></script>', "not there"),
        ('<img src="big.png" alt="a picture of very many bytes">', "bytes"),
        ("", "no link to nystrom_np.functional.softmax"),
    ],
)
def test_a_fault_of_the_site_is_found(tmp_path: Path, body: str, fault: str) -> None:
    good = "".join(f'<a id="{name}" href="#{name}">x</a>' for name in sources.public_names())
    page = tmp_path / checks.READ
    (tmp_path / "a.svg").write_text("<svg/>")
    (tmp_path / "big.png").write_bytes(bytes(checks.MOST_BYTES))
    proof = '<details class="proof"></details>'
    page.write_text(good + proof, encoding="utf-8")
    assert checks.faults(tmp_path) == []
    page.write_text((good if body else "") + proof + body, encoding="utf-8")
    assert any(fault in found for found in checks.faults(tmp_path))
    page.write_text(good, encoding="utf-8")
    assert checks.faults(tmp_path) == [f"{checks.READ}: names no test that proves what it says"]


def test_a_style_that_fetches_from_elsewhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("@import 'https://fonts.example.org/a.css'; b { src: url(fonts/b.woff2) }")
    assert [fault for fault in checks.faults(tmp_path) if "a.css" in fault] == [
        "a.css: loads https://fonts.example.org/a.css from another host"
    ]
