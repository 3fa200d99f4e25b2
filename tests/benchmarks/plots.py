"""Log-log plots of attention alone, readable on light and dark pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

GREY = "#808080"
COLOURS = {"dense": "#d9822b", "nystrom": "#3b8fd6", "textbook": "#8f6fc2"}
LABELS = {"dense": "exact, in blocks", "nystrom": "Nyström, m=64", "textbook": "textbook, L × L"}


def draw_plots(attention: dict[str, Any], folder: Path) -> list[str]:
    """Draw time and memory against length as SVG; return the names, none without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("svg")
    folder.mkdir(parents=True, exist_ok=True)
    titles = {"time": ("seconds", 1.0, "median time, s"), "memory": ("bytes", 1e6, "peak extra memory, MB")}
    for name, (field, unit, label) in titles.items():
        lines = {form: points(attention, form, field, unit) for form in LABELS}
        draw(lines, label, folder / f"attention-{name}.svg")
    return list(titles)


def points(attention: dict[str, Any], form: str, field: str, unit: float) -> list[tuple[int, float]]:
    found = [(int(length), forms[form][field]) for length, forms in attention["lengths"].items() if form in forms]
    return [(length, (value["median"] if field == "seconds" else value) / unit) for length, value in found]


def draw(lines: dict[str, list[tuple[int, float]]], label: str, path: Path) -> None:
    from matplotlib import pyplot, rc_context

    settings = {"svg.hashsalt": "nystrom_np", "svg.fonttype": "none", "font.size": 11, "text.color": GREY}
    with rc_context(settings):
        figure, axes = pyplot.subplots(figsize=(6.4, 4.2), layout="constrained")
        for form, line in lines.items():
            if line:
                axes.loglog(*zip(*line, strict=True), "o-", color=COLOURS[form], label=LABELS[form])
        lengths = sorted({length for line in lines.values() for length, _ in line})
        axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
        axes.minorticks_off()
        axes.set_xlabel("length", color=GREY)
        axes.set_ylabel(label, color=GREY)
        axes.tick_params(colors=GREY)
        axes.grid(color=GREY, alpha=0.25)
        for spine in axes.spines.values():
            spine.set_color(GREY)
        axes.legend(frameon=False)
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})
        pyplot.close(figure)
