"""Every public name says what it is, and the examples are run: those of decorated functions too."""

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import nystrom_np
from nystrom_np import activations, definition


def modules() -> list[ModuleType]:
    names = [info.name for info in pkgutil.walk_packages(nystrom_np.__path__, "nystrom_np.")]
    return [nystrom_np, *(importlib.import_module(name) for name in names if not name.endswith("__main__"))]


def public() -> Iterator[tuple[str, Any]]:
    """Public functions and classes under the module that defines them, and the public methods of classes."""
    for module in modules():
        for name in getattr(module, "__all__", ()):
            thing = inspect.unwrap(getattr(module, name)) if callable(getattr(module, name)) else None
            if thing is None or getattr(thing, "__module__", None) != module.__name__:
                continue  # data, or a name that another module defines
            yield f"{module.__name__}.{name}", thing
            if inspect.isclass(thing):
                for method, value in vars(thing).items():
                    function = getattr(value, "fget", None) or getattr(value, "__func__", value)
                    if getattr(function, "__module__", None) != module.__name__:
                        continue  # a definition that is a class's attribute
                    if inspect.isfunction(function) and (not method.startswith("_") or method == "__call__"):
                        yield f"{module.__name__}.{name}.{method}", function


PUBLIC = dict(public())


def test_modules_say_what_is_public() -> None:
    """Each module has a docstring, and an ``__all__`` without unknown or repeated names."""
    assert len(PUBLIC) > 60
    for module in modules():
        assert (module.__doc__ or "").strip(), module.__name__
        names = getattr(module, "__all__", [])
        assert len(names) == len(set(names)), module.__name__
        assert [name for name in names if not hasattr(module, name)] == [], module.__name__


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring(name: str) -> None:
    """A summary of one line that ends in a full stop; for functions of several parameters, their sections."""
    thing = PUBLIC[name]
    text = inspect.getdoc(thing) or ""
    summary, _, rest = text.partition("\n\n")
    assert summary, "no docstring"
    assert "\n" not in summary, "the summary is one line"
    assert summary.endswith((".", "?", ":", "…")), "the summary ends in a full stop"
    for section in (
        "Parameters",
        "Returns",
        "Raises",
        "Notes",
        "References",
        "Examples",
        "Attributes",
        "Yields",
    ):
        for line, underline in zip(rest.split("\n"), rest.split("\n")[1:], strict=False):
            if line == section:
                assert underline == "-" * len(section), f"{section} is not underlined"


def needs_example(name: str, thing: Any) -> bool:
    """Public functions at the top of a module; classes show theirs once, records in their base, twins in functional."""
    if name.rsplit(".", 1)[0] not in {module.__name__ for module in modules()}:
        return False
    return inspect.isfunction(thing) and not is_twin(name)


def is_twin(name: str) -> bool:
    """A faster form of a definition, whose example is its public function's."""
    short = name.rsplit(".", 1)[1]
    defined = [module for module in (definition, activations) if hasattr(module, short)]
    return name.startswith("nystrom_np.fast.on_") and bool(defined) and short != "elementwise"


@pytest.mark.parametrize("name", [name for name in PUBLIC if is_twin(name)])
def test_twins_name_their_definition(name: str) -> None:
    """A reader of a twin is told where it is defined, in its first line."""
    short = name.rsplit(".", 1)[1]
    room = "definition" if hasattr(definition, short) else "activations"
    assert f":func:`nystrom_np.{room}.{short}`" in (inspect.getdoc(PUBLIC[name]) or "").split("\n\n")[0]


@pytest.mark.parametrize("name", [name for name, thing in PUBLIC.items() if needs_example(name, thing)])
def test_functions_show_an_example(name: str) -> None:
    """Public functions of the package show how they are called, and what comes out."""
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(PUBLIC[name]) or "")
    assert examples, "no example"


def test_examples_are_collected() -> None:
    """Pytest's doctests find every example: a decorator that hides a function's origin would lose it
    silently.
    """
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = {test.name for module in modules() for test in finder.find(module) if test.examples}
    shown = {
        name for name, thing in PUBLIC.items() if doctest.DocTestParser().get_examples(inspect.getdoc(thing) or "")
    }
    assert shown <= found
    assert {"nystrom_np.activations.gelu", "nystrom_np.functional.iterative_pinv"} <= found
