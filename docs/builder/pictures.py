"""The pictures, drawn from the shipped checkpoint when the site is built: each for light pages and for dark ones.

A function draws on axes and returns the alternative text, whose numbers are those of the picture.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from docs.builder.blocks import DOCS, ROOT
from nystrom_np import NystromformerConfig, NystromformerForMaskedLM, NystromformerModel, NystromformerTokenizer
from nystrom_np.definition import project
from nystrom_np.functional import (
    gelu_new,
    initial_inverse,
    iterative_pinv,
    nystrom_attention_matrix,
    nystrom_kernels,
    softmax_attention_matrix,
    svd_pinv,
)

__all__ = ["BROAD", "CHECKPOINT", "FORMS", "PICTURES", "TEXT", "draw"]

CHECKPOINT = ROOT / "weights" / "masked-lm"
TEXT = (
    "The old library stood at the end of the [MASK], and every morning the same man opened its heavy door. "
    "He knew where each book was, who had written it and who had read it last. When it rained, people came in "
    "to stay dry, and many of them left with a story that they had not been looking for."
)
THEMES = {
    "light": {
        "ink": "#1c1e21",
        "faint": "#b8bcc2",
        "map": "Blues",
        "middle": "#ffffff",
        "lines": ["#1b5e9b", "#c2571a", "#4b7f2c", "#7a4fa3"],
    },
    "dark": {
        "ink": "#e3e6ea",
        "faint": "#555b63",
        "map": "magma",
        "middle": "#131416",
        "lines": ["#7db8ee", "#f2a15f", "#9ccc78", "#c9a3ec"],
    },
}
Theme = dict[str, Any]
FORMS = ("wide", "narrow")
_form = [FORMS[0]]


def draw(name: str, folder: Path) -> str:
    """Draw a picture in both themes and forms, as ``name-wide-light.svg`` and so on; return its alternative text."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot, rc_context

    folder.mkdir(parents=True, exist_ok=True)
    alt = ""
    for theme, colours in THEMES.items():
        ink = colours["ink"]
        settings = dict.fromkeys((f"{part}.color" for part in ("xtick", "ytick", "text")), ink) | {
            "axes.labelcolor": ink,
            "axes.edgecolor": ink,
            "axes.titlecolor": ink,
            "axes.titlesize": 13,
            "font.size": 13,
            "grid.color": colours["faint"],
            "grid.alpha": 0.5,
            "svg.hashsalt": "nystrom_np",
        }
        with rc_context(settings):
            for form in FORMS:
                _form[0] = form
                figure, alt = PICTURES[name](colours)
                figure.savefig(folder / f"{name}-{form}-{theme}.svg", transparent=True, metadata={"Date": None})
                pyplot.close(figure)
    return alt


@cache
def model_and_inputs() -> tuple[Any, Any]:
    """The shipped masked language model in float64, and the text as its tokenizer cuts it: 64 tokens at most."""
    tokenizer = NystromformerTokenizer.from_pretrained(CHECKPOINT)
    model = NystromformerForMaskedLM.from_pretrained(CHECKPOINT, dtype="float64")
    return model, tokenizer(TEXT, truncation=True, max_length=64, return_tensors="np")


def queries_and_keys(model: Any, ids: Any) -> list[tuple[Any, Any]]:
    """Scaled queries and keys of every layer, each (H, L, d), as they are in a forward pass."""
    body = getattr(model, "nystromformer", model)
    states = body(ids, output_hidden_states=True).hidden_states
    found = []
    for layer in range(model.config.num_hidden_layers):
        p = body._tree["encoder"]["layer"][str(layer)]
        query, key, _ = project(p["attention"]["self"], model.config, states[layer])
        found.append((query[0], key[0]))
    return found


@cache
def shipped() -> list[tuple[Any, Any]]:
    """Queries and keys of the shipped model, layer by layer."""
    model, inputs = model_and_inputs()
    return queries_and_keys(model, inputs["input_ids"])


def relative_error(exact: Any, found: Any) -> Any:
    """Distance of matrices in the Frobenius norm, relative to the exact ones'."""
    return np.linalg.norm(exact - found, axis=(-2, -1)) / np.linalg.norm(exact, axis=(-2, -1))


def new_figure(columns: int, width: float, height: float) -> tuple[Any, Any]:
    """A figure with axes side by side, or for phones one under the other."""
    from matplotlib import pyplot

    if _form[0] == "narrow":
        size = (5.0, 5.0 * columns * height * columns / width if columns > 1 else 4.2)
        figure, axes = pyplot.subplots(columns, 1, figsize=size, layout="constrained", squeeze=False)
        return figure, axes.T
    return pyplot.subplots(1, columns, figsize=(width, height), layout="constrained", squeeze=False)


def diverging(theme: Theme) -> Any:
    """Colours about zero, which looks like the page."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("difference", [theme["lines"][0], theme["middle"], theme["lines"][1]])


def attention(theme: Theme) -> tuple[Any, str]:
    """Softmax attention of a real text, its approximation, and their difference, for a head of middling error."""
    model, _ = model_and_inputs()
    landmarks = model.config.num_landmarks
    choices = []
    for layer, (query, key) in enumerate(shipped()):
        exact, near = softmax_attention_matrix(query, key), nystrom_attention_matrix(query, key, landmarks)
        errors = relative_error(exact, near)
        choices += [(errors[head], layer, head, exact[head], near[head]) for head in range(len(errors))]
    error, layer, head, exact, near = sorted(choices, key=lambda choice: choice[0])[len(choices) // 2]
    figure, axes = new_figure(3, 10.5, 3.9)
    top = float(np.quantile(exact, 0.995))
    largest = float(abs(exact - near).max())
    panels = (
        ("softmax attention", exact, theme["map"], 0.0, top),
        (f"Nyström, {landmarks} landmarks", near, theme["map"], 0.0, top),
        ("difference", near - exact, diverging(theme), -largest, largest),
    )
    for axis, (title, matrix, colours, low, high) in zip(axes[0], panels, strict=True):
        shown = axis.imshow(matrix, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
        axis.set_title(title)
        axis.set_xlabel("key position")
        figure.colorbar(shown, ax=axis, orientation="horizontal", shrink=0.8, pad=0.02)
    axes[0, 0].set_ylabel("query position")
    length = exact.shape[0]
    return figure, (
        f"Three heat maps of {length} by {length} positions, layer {layer + 1}, head {head + 1} of the shipped model: "
        f"softmax attention, its Nyström approximation with {landmarks} landmarks, and their difference. The two "
        f"differ by {error:.0%} in the Frobenius norm; the largest single difference is {largest:.3f}."
    )


def random_models() -> Iterator[tuple[str, Any]]:
    """The shipped model's twins with random weights: as freshly initialised, and so wide that attention is peaked."""
    model, _ = model_and_inputs()
    for label, spread in (("random, std 0.02", 0.02), ("random, std 0.3", 0.3)):
        fields = model.config.to_dict() | {"initializer_range": spread, "id2label": None, "label2id": None}
        yield label, NystromformerModel(NystromformerConfig.from_dict(fields), seed=0, dtype="float64")


@cache
def errors_by_landmarks() -> tuple[list[int], dict[str, tuple[Any, Any]]]:
    """Median relative error of all heads for each number of landmarks, by weights: six steps, and the exact inverse."""
    _, inputs = model_and_inputs()
    length = inputs["input_ids"].shape[1]
    numbers = [m for m in (2, 4, 8, 16, 32, 64) if m <= length]
    found = {}
    for label, pairs in (
        ("shipped weights", shipped()),
        *((label, queries_and_keys(twin, inputs["input_ids"])) for label, twin in random_models()),
    ):
        curves = []
        for pinv in (partial(iterative_pinv, initial="matrix"), svd_pinv):
            errors = [
                np.median(
                    np.concatenate(
                        [
                            relative_error(softmax_attention_matrix(q, k), nystrom_attention_matrix(q, k, m, pinv=pinv))
                            for q, k in pairs
                        ]
                    )
                )
                for m in numbers
            ]
            curves.append(np.array(errors))
        found[label] = (curves[0], curves[1])
    return numbers, found


def error(theme: Theme) -> tuple[Any, str]:
    """Approximation error against the number of landmarks, for the shipped weights and for random ones."""
    numbers, found = errors_by_landmarks()
    figure, axes = new_figure(1, 7.2, 4.4)
    axis = axes[0, 0]
    floor = 1e-6  # what is below is rounding
    for colour, (label, (steps, exact)) in zip(theme["lines"], found.items(), strict=False):
        axis.loglog(numbers, np.maximum(steps, floor), "o-", color=colour, label=f"{label}, six steps")
        axis.loglog(numbers, np.maximum(exact, floor), "s:", color=colour, label=f"{label}, exact inverse", alpha=0.8)
    axis.set_xticks(numbers, [str(number) for number in numbers])
    axis.minorticks_off()
    axis.set_xlabel("landmarks m")
    axis.set_ylabel("relative error, median of heads")
    axis.grid(True)
    axis.legend(frameon=False, fontsize=10)
    said = "; ".join(
        f"{label}: {steps[0]:.2g} at {numbers[0]} landmarks, {steps[-1]:.2g} at {numbers[-1]} (exact inverse "
        f"{max(exact[-1], floor):.1g} or less)"
        for label, (steps, exact) in found.items()
    )
    return figure, f"Log-log plot of the relative error of the approximated attention against landmarks. {said}."


def initial_values(a: Any) -> dict[str, Any]:
    """First guesses of the inverse, for matrices (heads, m, m)."""
    norm = np.linalg.norm(a, axis=(-2, -1), keepdims=True)
    return {
        "batch: largest column sum of all heads": initial_inverse(a, "batch"),
        "matrix: largest column sum of each": initial_inverse(a, "matrix"),
        "Aᵀ / ‖A‖²F": a.swapaxes(-1, -2) / norm**2,
    }


def residuals(a: Any, z: Any, steps: int) -> list[float]:
    """The median over matrices of ‖I − A Z‖₂, before the first step and after each."""
    identity = np.eye(a.shape[-1])
    found = []
    for _ in range(steps + 1):
        az = a @ z
        found.append(float(np.median(np.linalg.norm(identity - az, 2, axis=(-2, -1)))))
        z = 0.25 * z @ (13 * identity - az @ (15 * identity - az @ (7 * identity - az)))
    return found


@cache
def landmark_matrices() -> Any:
    """The kernels A of all layers and heads of the shipped model."""
    model, _ = model_and_inputs()
    return np.concatenate([nystrom_kernels(q, k, model.config.num_landmarks)[1] for q, k in shipped()])


def convergence(theme: Theme) -> tuple[Any, str]:
    """Convergence of the iteration from each initial value, and the spectrum of A Z₀ that explains it."""
    a, steps = landmark_matrices(), 24
    figure, axes = new_figure(2, 10.5, 4.3)
    left, right = axes[0]
    said = []
    for colour, mark, (label, z) in zip(theme["lines"], "os^", initial_values(a).items(), strict=False):
        line = residuals(a, z, steps)
        left.semilogy(range(steps + 1), np.maximum(line, 1e-16), f"{mark}-", color=colour, label=label, markersize=4)
        spectrum = np.median(np.sort(np.abs(np.linalg.eigvals(a @ z)), axis=-1)[:, ::-1], axis=0)
        right.semilogy(range(1, len(spectrum) + 1), spectrum, f"{mark}-", color=colour, markersize=4)
        within = next((str(step) for step, value in enumerate(line) if value < 0.01), f"more than {steps}")
        said.append(f"{label}: {line[6]:.2g} after six steps, below 0.01 after {within}, smallest {spectrum[-1]:.1g}")
    left.axvline(6, color=theme["faint"], linestyle="--")
    left.set_xlabel("steps")
    left.set_ylabel("‖I − A Z‖₂, median of heads")
    left.set_title("residual")
    right.axhline(3.25**-6, color=theme["faint"], linestyle="--")
    right.set_xlabel("index")
    right.xaxis.get_major_locator().set_params(integer=True)
    right.set_title("eigenvalues of A Z₀ (dashed: 3.25⁻⁶)")
    for axis in (left, right):
        axis.grid(True)
    left.set_ylim(bottom=1e-20)  # room for the legend, below the lines
    left.legend(frameon=False, fontsize=10, loc="lower left")
    return figure, (
        "Left: the residual of the iteration against the number of steps, from three initial values. Right: the "
        f"eigenvalues of A times the initial value, from the largest to the smallest. {'; '.join(said)}."
    )


def shrinking(theme: Theme) -> tuple[Any, str]:
    """What one step of the iteration does to an eigenvalue of A Z."""
    figure, axes = new_figure(1, 6.4, 3.8)
    axis = axes[0, 0]
    s = np.linspace(0, 1, 200)
    axis.plot(s, s, color=theme["faint"], linestyle="--", label="unchanged")
    axis.plot(s, 0.25 * s * (13 - s * (15 - s * (7 - s))), color=theme["lines"][0], label="after one step")
    axis.set_xlabel("eigenvalue s of A Z before the step")
    axis.set_ylabel("after it")
    axis.grid(True)
    axis.legend(frameon=False)
    return figure, (
        "The curve s times (13 − 15 s + 7 s² − s³) over 4 on the interval from 0 to 1: it rises from 0 with slope "
        "3.25, lies above the diagonal everywhere, and meets it flatly at 1."
    )


def bend(theme: Theme) -> tuple[Any, str]:
    """The activation between the two affine maps of a layer's second half."""
    figure, axes = new_figure(1, 6.4, 3.4)
    axis = axes[0, 0]
    x = np.linspace(-4, 3, 200)
    axis.plot(x, np.maximum(x, 0), color=theme["faint"], linestyle="--", label="max(x, 0)")
    axis.plot(x, gelu_new(x), color=theme["lines"][0], label="gelu_new")
    axis.set_xlabel("x")
    axis.set_ylabel("act(x)")
    axis.grid(True)
    axis.legend(frameon=False)
    return figure, (
        f"The curve of gelu_new from -4 to 3: nearly 0 on the left, down to {gelu_new(x).min():.2f} left of 0, and "
        "nearly x on the right, beside the corner of max(x, 0)."
    )


def benchmark_table() -> dict[str, list[tuple[int, float, float]]]:
    """Length, seconds and megabytes of attention alone, by form, as docs/benchmarks.md has them."""
    text = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    section = text.split("## Attention alone")[1].split("\n## ")[0]
    found: dict[str, list[tuple[int, float, float]]] = {}
    length = 0
    for cells in re.findall(
        r"^\| *([\d,]*) *\| ([^|]+?) *\| ([\d.]+) \([^|]* (ms|s) *\| ([\d.]+) (MB|GB) *\|$", section, re.M
    ):
        length = int(cells[0].replace(",", "")) if cells[0] else length
        seconds = float(cells[2]) * (0.001 if cells[3] == "ms" else 1.0)
        megabytes = float(cells[4]) * (1000.0 if cells[5] == "GB" else 1.0)
        found.setdefault(cells[1], []).append((length, seconds, megabytes))
    if not found:
        raise LookupError("docs/benchmarks.md has no table of attention alone that can be read")
    return found


def cost(theme: Theme) -> tuple[Any, str]:
    """Time and memory of attention alone against the length, from the benchmarks' page."""
    found = benchmark_table()
    figure, axes = new_figure(2, 10.5, 4.2)
    for colour, mark, (form, rows) in zip(theme["lines"], "os^D", found.items(), strict=False):
        lengths, seconds, megabytes = zip(*rows, strict=True)
        axes[0, 0].loglog(lengths, seconds, f"{mark}-", color=colour, label=form)
        axes[0, 1].loglog(lengths, megabytes, f"{mark}-", color=colour, label=form)
    every = sorted({length for rows in found.values() for length, _, _ in rows})
    for axis, title in zip(axes[0], ("seconds", "extra memory, MB"), strict=True):
        axis.set_xticks(every, [f"{length:,}" for length in every], rotation=30)
        axis.minorticks_off()
        axis.set_title(title)
        axis.set_xlabel("length L")
        axis.grid(True)
    axes[0, 0].legend(frameon=False)
    said = "; ".join(
        f"{form}: {rows[-1][1]:.3g} s and {rows[-1][2]:,.3g} MB at {rows[-1][0]:,} tokens"
        for form, rows in found.items()
    )
    return figure, f"Two log-log plots of attention alone against the length, time and extra memory. {said}."


PICTURES: dict[str, Callable[[Theme], tuple[Any, str]]] = {
    "attention": attention,
    "error": error,
    "convergence": convergence,
    "shrinking": shrinking,
    "cost": cost,
    "bend": bend,
}

BROAD = {"attention", "convergence", "cost"}
"""Pictures of more than one panel, which need the width of the page."""
