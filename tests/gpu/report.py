"""What the steps found, as tables; nothing is imported that a bare machine might lack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Found = dict[str, Any]
EMPTY = "not measured"
TITLES = {
    "machine": "Device and versions",
    "smoke": "Smoke: one head against the stored reference",
    "parity": "Stored outputs of the reference",
    "laws": "The laws, few cases each",
    "profile": "One layer, kernel by kernel",
    "tests": "The other tests of a GPU",
}


def section(name: str, found: Found, dry: bool) -> str:
    """A step as Markdown: its table, its failures with their numbers, and what stopped it."""
    title = TITLES.get(name, f"Times: {name.partition('-')[2]}")
    tables = {"machine": machine, "smoke": smoke, "parity": parity, "laws": tally, "tests": tally, "profile": profile}
    parts = [f"## {title}{' (dry run: no figures)' if dry else ''}\n", tables.get(name, times)(found, dry)]
    parts += [f"- {said}" for said in problems(found)]
    return "\n".join(parts) + "\n"


def problems(found: Found) -> Iterable[str]:
    """All that did not go as it should, a line each."""
    if "error" in found:
        yield found["error"]
    for part in (found, *(value for value in found.values() if isinstance(value, dict))):
        for failure in part.get("failures", ()):
            yield failure if isinstance(failure, str) else ", ".join(f"{key} {value}" for key, value in failure.items())
    for name, case in (found.get("measured", {}).get("cases") or found.get("cases") or {}).items():
        if isinstance(case, dict) and "error" in case:
            yield f"{name}: {case['error']}"
        elif isinstance(case, dict):
            yield from (f"{name}, {who}: {why}" for who, why in case.get("failed", {}).items())
        elif isinstance(case, str) and case != "ran":
            yield f"{name}: {case}"
    for name, case in found.items():
        if isinstance(case, dict) and "error" in case:
            yield f"{name}: {case['error']}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows]) + "\n"


def machine(found: Found, dry: bool) -> str:
    lacking = [f"Missing: {name}, needed for {use}." for name, use in found.get("missing", {}).items()]
    rows = [*found.get("machine", {}).items(), *found.get("versions", {}).items()]
    return "\n".join([*lacking, "", table(("", ""), rows)])


def smoke(found: Found, dry: bool) -> str:
    if "worst" not in found:
        return EMPTY
    worst = found["worst"]
    row = (str(found["outputs"]), worst["output"], number(worst.get("difference")), number(worst.get("allowed")))
    return table(("outputs", "nearest to its limit", "difference", "allowed"), [row])


def parity(found: Found, dry: bool) -> str:
    rows = []
    for dtype in ("float64", "float32", "float16"):
        told = found.get(dtype, {})
        worst = told.get("worst") or {}
        where = f"{worst['case']}, {worst['output']}" if worst else EMPTY
        ran, failed = f"{told.get('cases', 0)} of {told.get('of', '?')}", str(len(told.get("failures", ())))
        rows.append((dtype, ran, failed, where, number(worst.get("difference")), number(worst.get("allowed"))))
    return table(("precision", "cases", "beyond", "nearest to its limit", "difference", "allowed"), rows)


def tally(found: Found, dry: bool) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in found.get("counts", {}).items()) + "\n"


def times(found: Found, dry: bool) -> str:
    """Medians and extremes; what was not measured says so."""
    measured = found.get("measured", {}).get("cases") or found.get("cases", {})
    rows = []
    for name, case in measured.items():
        if not isinstance(case, dict) or "error" in case:
            rows.append((name, *[EMPTY] * 5))
        elif "lengths" in case and "seconds" not in case:
            rows += [
                (f"attention alone, {int(length):,}, {form}", spread(entry["seconds"]), *[""] * 4)
                for length, forms in case["lengths"].items()
                for form, entry in forms.items()
            ]
        else:
            rows.append(model_row(case))
    head = ("case", "nystrom_np", "transformers", "floor", "ours / transformers", "share of the floor")
    return table(head, rows)


def model_row(case: Found) -> tuple[str, ...]:
    seconds = case["seconds"]
    shown = [spread(seconds[who]) if who in seconds else EMPTY for who in ("ours", "eager", "floor")]
    ours = seconds["ours"]["median"]
    ratio = f"{ours / seconds['eager']['median']:.2f}" if "eager" in seconds else EMPTY
    return (case["title"], *shown, ratio, f"{seconds['floor']['median'] / ours:.0%}")


def profile(found: Found, dry: bool) -> str:
    rows = []
    for name, told in found.items():
        if isinstance(told, dict):
            keys = ("queued", "done", "busy", "gaps")
            counts = (f"{told[key]:.1f}" if key in told else EMPTY for key in ("kernels", "copies"))
            rows.append((name, *counts, *(milliseconds(told.get(key)) for key in keys)))
        elif told == "ran":
            rows.append((name, *[EMPTY] * 6))
    text = table(("layer", "kernels", "copies", "queued by the host", "done", "GPU busy", "gaps"), rows)
    for name, told in found.items():
        if isinstance(told, dict) and told.get("longest"):
            lines = [(one["name"], f"{one['times']:.1f}", milliseconds(one["seconds"])) for one in told["longest"]]
            text += f"\n{name}\n\n" + table(("kernel", "times", "together"), lines)
    return text


def number(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.2g}"


def spread(seconds: Found) -> str:
    median, least, most = (milliseconds(seconds[key]) for key in ("median", "min", "max"))
    return f"{median} ({least} … {most})"


def milliseconds(seconds: float | None) -> str:
    return EMPTY if seconds is None else f"{seconds * 1e3:.3g} ms"
