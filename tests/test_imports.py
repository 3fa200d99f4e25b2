"""What importing the package loads, and which of its rooms may import which."""

import ast
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nystrom_np import NystromformerForMaskedLM, definition
from nystrom_np import model as models

PACKAGE = Path(__file__).resolve().parent.parent / "nystrom_np"

LOADED_WHEN_USED = (
    "scipy",
    "cupy",
    "tokenizers",
    "huggingface_hub",
    "jaxtyping",
    "filelock",
    "matplotlib",
    "tqdm",
    "threadpoolctl",
    "dask",
    "distributed",
    "fsspec",
    "pyarrow",
    "hypothesis",
    "torch",
    "transformers",
)

SELDOM_USED = ("asyncio", "email", "http", "importlib.metadata", "multiprocessing", "socket", "ssl", "unittest", "xml")
"""Of Python's own library, what takes long to import."""

ROOMS = [
    "shapes",
    "array_module",
    "fast",
    "activations",
    "losses",
    "definition",
    "progress",
    "files",
    "origins",
    "growing",
    "hub_guard",
    "saving",
    "hub",
    "config",
    "fast.toeplitz",
    "fast.skip",
    "fast.on_numpy",
    "fast.on_device",
    "functional",
    "outputs",
    "checkpoint",
    "torch_pickle",
    "torch_legacy",
    "torch_archive",
    "model",
    "rewrite",
    "trace",
    "causes",
    "compare",
    "trace_file",
    "tokenization",
    "collators",
    "auto",
    "convert",
    "pipelines",
    "text_vectors",
    "embed",
    "cluster",
    "plot",
    "explore",
    "testing",
    "demo",
    "cli",
    "__main__",
]
"""From the ground up: each imports from those before it. ``__init__`` is the door and holds no code.

The switch for speed, ``fast``, knows its rooms by name alone: the twins in them stand on the definitions.
"""


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "_weights" not in path.parts)


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield each module that a file imports, and whether it does so when it is imported itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    typing = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        at_once = id(node) not in inside | typing
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports by a relative name"
            module = node.module or ""
            yield module, at_once
            yield from ((f"{module}.{alias.name}", at_once) for alias in node.names)


def room(module: str) -> str | None:
    """Return the room of ``nystrom_np.room.…``; None for what is not one."""
    parts = module.split(".")
    names = [".".join(parts[1:3]), ".".join(parts[1:2])] if parts[0] == "nystrom_np" else []
    return next((name for name in names if name in ROOMS), None)


def loaded_by(code: str) -> set[str]:
    """Return the modules in a fresh process that has run the code."""
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=PACKAGE.parent,
    )
    return set(json.loads(ended.stdout))


def test_importing_the_package_loads_nothing_that_is_only_sometimes_needed() -> None:
    loaded = loaded_by("import nystrom_np")
    assert "nystrom_np" in loaded
    assert loaded.isdisjoint({*LOADED_WHEN_USED, *SELDOM_USED})


def test_a_first_answer_loads_what_it_needs() -> None:
    loaded = loaded_by("""
from nystrom_np import NystromformerForSequenceClassification, NystromformerTokenizer
folder = "weights/sequence-classification"
model = NystromformerForSequenceClassification.from_pretrained(folder)
model(**NystromformerTokenizer.from_pretrained(folder)("A wonderful film.", return_tensors="np"))
""")
    needed = {"tokenizers", "threadpoolctl"}
    assert needed <= loaded
    assert loaded.isdisjoint({*LOADED_WHEN_USED, *SELDOM_USED} - needed)


def test_shapes_are_checked_where_jaxtyping_is_there_first() -> None:
    """Elsewhere, since importing it takes a third of a first answer, they are there to be read."""
    code = "from nystrom_np.functional import linear; assert '*batch inputs' in str(linear.__annotations__['x'])"
    assert "jaxtyping" not in loaded_by(code)
    loaded_by(f"import jaxtyping; {code}; assert 'jaxtyping' in linear.__annotations__['x'].__module__")


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_imports_a_framework(path: Path) -> None:
    assert {module.split(".")[0] for module, _ in imports(path)}.isdisjoint(
        {"torch", "transformers", "tensorflow", "jax"}
    )


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_those_below_it(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts == ("__init__",):
        return
    here = room(".".join(("nystrom_np", *parts)))
    assert here is not None, f"{path.name} has no place in the order of rooms"
    for module, _ in imports(path):
        there = room(module)
        if there is not None and there != here:
            assert ROOMS.index(there) < ROOMS.index(here), f"{here} imports {module}"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_is_heavy_is_imported_where_it_is_used(path: Path) -> None:
    at_once = {module.split(".")[0] for module, at_import in imports(path) if at_import}
    assert at_once.isdisjoint(LOADED_WHEN_USED)


def test_the_page_is_a_page() -> None:
    """The definition is read in ten minutes, and knows nothing but formulas: no module by name, no class, no buffer."""
    text = (PACKAGE / "definition.py").read_text(encoding="utf-8")
    tree = ast.parse(text)
    documented = {line for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
                  for line in range(node.lineno, node.end_lineno + 1)}  # fmt: skip
    lines = text.splitlines()
    code = [line for number, line in enumerate(lines, 1) if number not in documented and line.split("#")[0].strip()]
    assert len(lines) <= 270
    assert len(code) <= 170
    words = {node.id if isinstance(node, ast.Name) else node.attr for node in ast.walk(tree)
             if isinstance(node, ast.Name | ast.Attribute)}  # fmt: skip
    assert words.isdisjoint(
        {"np", "numpy", "cupy", "jax", "astype", "parallel_map", "float32", "float16", "isinstance"}
    )
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert not [
        word for node in ast.walk(tree) if isinstance(node, ast.Call) for word in node.keywords if word.arg == "out"
    ]


BRANCHES = r"\bis (not )?np\b|module\.__name__ [!=]=|_is_cupy\("


def test_few_branches_on_the_module_of_an_array() -> None:
    """What is fast somewhere is chosen by the switch; what is left is about where arrays lie."""
    found = [(path.relative_to(PACKAGE).as_posix(), line) for path in sources()
             for line in path.read_text(encoding="utf-8").splitlines()
             if re.search(BRANCHES, line) and not line.startswith(("if __name__", "def "))]  # fmt: skip
    assert len(found) <= 7, found
    assert {place for place, _ in found}.isdisjoint({"definition.py", "functional.py", "model/heads.py"})


def test_only_one_file_knows_cupy() -> None:
    knowing = {
        path.name for path in sources() if any(module.split(".")[0].startswith("cupy") for module, _ in imports(path))
    }
    assert knowing <= {"array_module.py"}


def test_a_reader_is_soon_at_the_softmax() -> None:
    """From a head to softmax(q kᵀ): four functions, each of which calls the next, in two files and at most 90 lines."""
    way = [NystromformerForMaskedLM.__call__, definition.encode, definition.encoder_layer,
           definition.self_attention, definition.softmax_attention_matrix]  # fmt: skip
    sources = [inspect.getsource(inspect.unwrap(step)) for step in way]
    for source, following in zip(sources, way[1:], strict=False):
        assert f"{following.__name__}(" in source
    assert "softmax(scores)" in sources[-1]
    assert len({inspect.getsourcefile(inspect.unwrap(step)) for step in way}) == 2
    assert sum(len(source.splitlines()) for source in sources) <= 90


ARGUMENTS = ["input_ids", "attention_mask", "token_type_ids", "position_ids", "head_mask", "inputs_embeds"]
FLAGS = ["output_attentions", "output_hidden_states", "return_dict"]


@pytest.mark.parametrize("name", models.__all__)
def test_every_argument_has_its_place(name: str) -> None:
    """What a head takes, in the order of transformers 4.37.2, is what ``help`` shows of it."""
    own = {"NystromformerModel": [], "NystromformerForQuestionAnswering": ["start_positions", "end_positions"]}
    signature = inspect.signature(getattr(models, name).__call__)
    assert list(signature.parameters) == ["self", *ARGUMENTS, *own.get(name, ["labels"]), *FLAGS]
