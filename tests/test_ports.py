"""Other people's ports, compared with this package: what the table in docs/howto-port.md says of them."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from nystrom_np.functional import depthwise_conv, iterative_pinv, nystrom_kernels
from tests.reference.client import ROOT, run_inside
from tests.reference.environment import ReferenceUnavailable

pytestmark = pytest.mark.reference

HEADS, DIM, LANDMARKS = 2, 3, 4
PORT = ("nystrom-attention==0.0.14", "einops==0.8.2")
LENGTHS = {"equal": 12, "unequal": 11, "ones": 12, "padded": 12}
STEPS = ("F", "pinv", "B", "output")


def drawn(length: int) -> dict[str, np.ndarray]:
    draw, inner = np.random.default_rng(length), HEADS * DIM
    shapes = {
        "hidden": (2, length, inner),
        "qkv": (3 * inner, inner),
        "out": (inner, inner),
        "bias": (inner,),
        "conv": (HEADS, 1, 5, 1),
    }
    return {name: draw.standard_normal(shape) for name, shape in shapes.items()}


def by_definition(given: dict[str, np.ndarray], padded: int = 0) -> dict[str, np.ndarray]:
    """The same attention from this package's functions, over a sequence that begins with some zeros."""
    hidden = np.pad(given["hidden"], ((0, 0), (padded, 0), (0, 0)))
    q, k, v = (
        x.reshape(*x.shape[:-1], HEADS, DIM).swapaxes(1, 2) for x in np.split(hidden @ given["qkv"].T, 3, axis=-1)
    )
    f, a, b = nystrom_kernels(q / DIM**0.25, k / DIM**0.25, LANDMARKS)
    inverse = iterative_pinv(a)
    context = f @ inverse @ (b @ v) + depthwise_conv(v, given["conv"])
    output = context.swapaxes(1, 2).reshape(hidden.shape) @ given["out"].T + given["bias"]
    return {"F": f, "pinv": inverse, "B": b, "output": output[:, padded:]}


@pytest.fixture(scope="module")
def cases() -> dict[str, dict[str, np.ndarray]]:
    found = {name: drawn(length) for name, length in LENGTHS.items()}
    found["ones"]["mask"] = np.ones((2, 12))
    found["padded"]["mask"] = np.repeat([[1.0] * 9 + [0.0] * 3], 2, axis=0)
    return found


@pytest.fixture(scope="module")
def lucidrains(cases: dict[str, dict[str, np.ndarray]], tmp_path_factory: Any) -> dict[str, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("ports")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder / "packages")]
    done = subprocess.run([*install, *PORT], capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"{PORT[0]} cannot be installed: {done.stderr.strip()[-200:]}")
    save_file({f"{case}/{name}": x for case, given in cases.items() for name, x in given.items()},
              folder / "inputs.safetensors")  # fmt: skip
    (folder / "cases.json").write_text(json.dumps({case: {"heads": HEADS, "landmarks": LANDMARKS} for case in cases}))
    try:
        run_inside("4.37.2", ROOT / "tests" / "reference" / "run_ports.py", folder, folder / "packages")
    except ReferenceUnavailable as error:
        pytest.skip(str(error))
    outputs = load_file(folder / "outputs.safetensors")
    return {case: {step: outputs[f"{case}/{step}"] for step in STEPS} for case in cases}


def first_wrong(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> str | None:
    return next((step for step in STEPS if not np.allclose(found[step], expected[step], rtol=0, atol=1e-10)), None)


@pytest.mark.parametrize("case", ["equal", "ones"])
def test_lucidrains_agrees_on_segments_of_one_length(case: str, cases: Any, lucidrains: Any) -> None:
    assert first_wrong(lucidrains[case], by_definition(cases[case])) is None


def test_lucidrains_fills_sequences_up_in_front(cases: Any, lucidrains: Any) -> None:
    """Where the landmarks do not divide the length, its segments are others: zeros count as tokens."""
    found, expected = lucidrains["unequal"], by_definition(cases["unequal"])
    assert abs(found["F"][:, :, 1:] - expected["F"]).max() > 1e-2
    assert abs(found["output"] - expected["output"]).max() > 1e-2
    assert first_wrong(found, by_definition(cases["unequal"], padded=1)) is None


def test_lucidrains_leaves_padding_out_of_the_landmarks(cases: Any, lucidrains: Any) -> None:
    """With padding its landmarks are means of real tokens, and F is 0 where a landmark has none."""
    found, expected = lucidrains["padded"], by_definition(cases["padded"])
    assert first_wrong(found, expected) == "F"
    np.testing.assert_allclose(found["F"][:, :, :9, 3], 0.0)  # the fourth segment is padding
    assert expected["F"][:, :, :9, 3].min() > 0.0
