"""Other people's ports, compared with this package: what the table in docs/howto-port.md says of them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from nystrom_np.compare import Report, compare
from nystrom_np.functional import depthwise_conv, iterative_pinv, nystrom_kernels
from nystrom_np.trace import Trace, trace
from tests.models import BASE, BODY, build_another, token_ids
from tests.reference.client import ROOT, run_inside
from tests.reference.environment import ReferenceUnavailable

pytestmark = pytest.mark.reference

HEADS, DIM, LANDMARKS = 2, 3, 4
LUCIDRAINS = ("nystrom-attention==0.0.14", "einops==0.8.2")
XFORMERS = ("xformers==0.0.28.post3",)
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


def answers(folder: Path, script: str, port: tuple[str, ...], given: dict, cases: dict[str, dict]) -> dict:
    """What a script computes with a port, installed for it alone, by case and step."""
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target"]
    done = subprocess.run([*install, str(folder / "packages"), *port], capture_output=True, text=True, timeout=600)
    if done.returncode:
        pytest.skip(f"{port[0]} cannot be installed: {done.stderr.strip()[-200:]}")
    save_file({f"{case}/{name}": np.ascontiguousarray(x) for case in given for name, x in given[case].items()},
              folder / "inputs.safetensors")  # fmt: skip
    (folder / "cases.json").write_text(json.dumps(cases))
    try:
        run_inside("4.37.2", ROOT / "tests" / "reference" / script, folder, folder / "packages")
    except ReferenceUnavailable as error:
        pytest.skip(str(error))
    outputs = load_file(folder / "outputs.safetensors")
    return {
        case: {name.removeprefix(f"{case}/"): x for name, x in outputs.items() if name.startswith(f"{case}/")}
        for case in cases
    }


@pytest.fixture(scope="module")
def lucidrains(cases: dict[str, dict[str, np.ndarray]], tmp_path_factory: Any) -> dict[str, dict[str, np.ndarray]]:
    arguments = {case: {"heads": HEADS, "landmarks": LANDMARKS} for case in cases}
    return answers(tmp_path_factory.mktemp("lucidrains"), "run_ports.py", LUCIDRAINS, cases, arguments)


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


SELF = "encoder.layer.0.attention.self."
SHORT, LONG = np.array([[1, 1, 1], [1, 1, 0]]), np.array([[1] * 12, [1] * 9 + [0] * 3])
SCALED_IN_BATCH, DEFAULT = {"pinverse_original_init": True}, {"pinverse_original_init": False}
COMPARED: dict[str, tuple[int, Any, dict, dict]] = {  # length, mask, the port's arguments, the configuration
    "equal": (12, None, SCALED_IN_BATCH, {}),
    "unequal": (11, None, SCALED_IN_BATCH, {}),
    "ones": (12, np.ones((2, 12)), SCALED_IN_BATCH, {}),
    "short": (3, None, SCALED_IN_BATCH, {}),
    "each matrix": (12, None, DEFAULT, {"inv_coeff_init_option": True}),
    "default": (12, None, DEFAULT, {}),
    "padded": (12, LONG, SCALED_IN_BATCH, {}),
    "padded, as the authors": (12, LONG, SCALED_IN_BATCH, {"masking": "original"}),
    "short, padded, as the authors": (3, SHORT, SCALED_IN_BATCH, {"masking": "original"}),
}


def traced(case: str) -> Trace:
    length, mask, _, fields = COMPARED[case]
    model = build_another(BODY, length=12, **fields)
    return trace(model, input_ids=token_ids(2, length), **({} if mask is None else {"attention_mask": mask}))


@pytest.fixture(scope="module")
def xformers(tmp_path_factory: Any) -> dict[str, Report]:
    """The reports of comparing its first layer's attention, given this one's queries, keys and values."""
    expected, given = {case: traced(case) for case in COMPARED}, {}
    for case, (length, mask, *_) in COMPARED.items():
        steps, split = expected[case].numpy, (2, length, BASE["num_attention_heads"], -1)
        given[case] = {x: steps[SELF + name].reshape(split).swapaxes(1, 2)
                       for x, name in (("q", "query"), ("k", "key"))}  # fmt: skip
        given[case] |= {"v": steps[SELF + "v"], "conv": expected[case].model.state_dict()[f"{SELF}conv.weight"]}
        if mask is not None:
            given[case]["mask"] = mask.astype("float64")
    arguments = {case: {"num_landmarks": LANDMARKS, **own} for case, (_, _, own, _) in COMPARED.items()}
    found = answers(tmp_path_factory.mktemp("xformers"), "run_xformers.py", XFORMERS, given, arguments)
    return {
        case: compare(expected[case], {SELF + step: x for step, x in steps.items()}) for case, steps in found.items()
    }


@pytest.mark.parametrize("case", ["equal", "unequal", "ones", "each matrix", "short"])
def test_xformers_agrees_without_padding(case: str, xformers: Any) -> None:
    """The kernels, every iterate of the inverse and the context; where it is exact, what it returns."""
    assert len(xformers[case].steps) == (3 if case == "short" else 13)
    assert xformers[case].agrees, str(xformers[case])


def test_xformers_starts_the_inverse_from_each_matrix(xformers: Any) -> None:
    report = xformers["default"]
    assert report.first.name == f"{SELF}pinv.0"
    assert report.cause == "the initial inverse is that of each matrix"


def test_xformers_blanks_padding_as_the_authors_do(xformers: Any) -> None:
    report = xformers["padded"]
    assert report.first.name == f"{SELF}F"
    assert report.cause == "masking is the authors' own"


@pytest.mark.parametrize("case", ["padded, as the authors", "short, padded, as the authors"])
def test_xformers_convolves_over_padding(case: str, xformers: Any) -> None:
    wrong = {name for name, step in xformers[case].steps.items() if not step.agrees}
    assert wrong == {f"{SELF}conv", f"{SELF}context"}
