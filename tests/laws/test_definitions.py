"""The switch between definitions and twins: what is shut out, for whom, and for how long."""

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from nystrom_np import NystromformerForMaskedLM, definition, functional
from nystrom_np.fast import definitions, elementwise, on_device, on_numpy, twins_of
from nystrom_np.functional import ACTIVATIONS, softmax
from tests.backends import Backend
from tests.laws.test_every_function import CALLS
from tests.models import Elsewhere, build_once, inputs_for


class Called(Exception):
    """A twin ran."""


def room_of(backend: Backend) -> ModuleType:
    return on_numpy if backend.name == "numpy" else on_device


@pytest.fixture
def traps(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every twin of the backend raises an exception."""

    def trap(name: str) -> Any:
        def twin(*arguments: Any, **named: Any) -> Any:
            raise Called(name)

        return twin

    for name in set(room_of(backend).__all__) - {"elementwise"}:
        monkeypatch.setattr(room_of(backend), name, trap(name))


def arguments_of(name: str, backend: Backend) -> Any:
    """Some arguments of a function: those of the laws in test_every_function, undrawn."""
    random = np.random.default_rng(0)
    q, k, v = random.standard_normal((3, 2, 3, 6, 2))
    mask = np.ones((2, 1, 1, 6))
    given: dict[str, tuple[Any, ...]] = {
        "binary_cross_entropy_with_logits": (q[0, 0], k[0, 0]),
        "cross_entropy": (q[0, 0], np.array([0, 1, 1, 0, -100, 1])),
        "depthwise_conv": (q, random.standard_normal((3, 1, 3, 1))),
        "initial_inverse": (np.eye(3),),
        "iterative_pinv": (np.eye(3),),
        "layer_norm": (q, np.ones(2), np.zeros(2)),
        "linear": (q, np.ones((4, 2)), np.ones(4)),
        "mean_squared_error": (q, k),
        "segment_means": (q,),
        "svd_pinv": (np.eye(3),),
    }
    attention = (q, k, v, mask)
    return tuple(
        backend.array(x) for x in given.get(name, attention if "attention" in name or "kern" in name else (q,))
    )


FUNCTIONS = [name for name in CALLS if name not in {f.__name__ for f in ACTIVATIONS.values()}]


@pytest.mark.usefixtures("traps")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_twin_is_shut_out(name: str, backend: Backend) -> None:
    """Inside the block a function is its definition all the way down; before and after, a twin runs."""
    arguments = arguments_of(name, backend)
    with pytest.raises(Called):
        CALLS[name][1](*arguments)
    with definitions():
        CALLS[name][1](*arguments)
    with pytest.raises(Called):
        CALLS[name][1](*arguments)


@pytest.mark.usefixtures("traps")
def test_no_twin_runs_in_a_model(backend: Backend) -> None:
    """Nor does one in a forward pass."""
    model = build_once(NystromformerForMaskedLM)
    there = model if backend.name == "numpy" else Elsewhere(model, backend)
    inputs = inputs_for(NystromformerForMaskedLM)
    with pytest.raises(Called):
        there(**inputs)
    with definitions():
        out = there(**inputs, output_attentions=True)
    assert np.isfinite(out.loss)


def test_elementwise_is_shut_out(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A formula runs as it is written, on the whole array at once."""
    made = []
    monkeypatch.setattr(
        room_of(backend), "elementwise", lambda formula: made.append(formula) or (lambda x: -formula(x))
    )

    def square(x: Any) -> Any:
        return x * x

    x = backend.array(np.array([3.0]))
    form = elementwise(square)
    with definitions():
        assert backend.numpy(form(x)) == 9.0
        assert twins_of(x) is None
    assert made == []
    assert backend.numpy(form(x)) == -9.0
    assert backend.numpy(form(x)) == -9.0
    assert made == [square]  # once


def test_gelu_as_it_is_written() -> None:
    """On NumPy ``gelu_new`` has another form; in the block it is the formula with the hyperbolic tangent."""
    x = np.linspace(-9.0, 9.0, 1001)
    u = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)
    expected = 0.5 * x * (1.0 + np.tanh(u))
    with definitions():
        np.testing.assert_array_equal(functional.gelu_new(x), expected)
    assert (functional.gelu_new(x) != expected).any()


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin of softmax on NumPy gives numbers that no softmax does."""
    monkeypatch.setattr(on_numpy, "softmax", lambda x, axis=-1: np.full(x.shape, -1.0))


def by_twin() -> bool:
    return bool((softmax(np.zeros(2)) == -1.0).all())


@pytest.mark.usefixtures("marked")
def test_exceptions_undo_it() -> None:
    """The block ends with an exception as with anything else, and one inside another leaves the outer as it was."""
    with pytest.raises(KeyError), definitions():
        raise KeyError
    assert by_twin()
    with definitions():
        with pytest.raises(KeyError), definitions():
            assert not by_twin()
            raise KeyError
        assert not by_twin()
    assert by_twin()


@pytest.mark.usefixtures("marked")
def test_other_threads_and_contexts() -> None:
    """The block is this thread's and its context's: another thread keeps its twins, unless it is given this context,
    and so does a task that began before.
    """
    outside = copy_context()
    with definitions(), ThreadPoolExecutor(1) as other:
        assert other.submit(by_twin).result()
        assert not other.submit(copy_context().run, by_twin).result()
        assert outside.run(by_twin)
        assert not by_twin()
    assert by_twin()

    async def twice() -> list[bool]:
        inside = asyncio.Event()
        done = asyncio.Event()

        async def beside() -> bool:
            await inside.wait()
            found = by_twin()
            done.set()
            return found

        async def within() -> bool:
            with definitions():
                inside.set()
                await done.wait()
                return by_twin()

        return list(await asyncio.gather(beside(), within()))

    with ThreadPoolExecutor(1) as other:  # this thread may have a loop, that of the browser's tests
        assert other.submit(lambda: asyncio.run(twice())).result() == [True, False]


def test_arrays_of_no_room() -> None:
    """Where an array module has no twins, definitions run."""

    class Foreign:
        """An array of a module without a room."""

        def __array_namespace__(self) -> Any:
            return ModuleType("elsewhere")

    assert twins_of(Foreign()) is None
    assert twins_of(np.zeros(1)) is on_numpy


@pytest.mark.usefixtures("marked")
def test_the_first_array_decides() -> None:
    """By position or by name, after arguments that are no arrays; the definition itself stays at hand."""
    x = np.zeros(2)
    assert (definition.softmax(x=x, axis=-1) == -1.0).all()
    assert (definition.softmax(axis=-1, x=x) == -1.0).all()
    np.testing.assert_array_equal(definition.softmax.__wrapped__(x), [0.5, 0.5])
