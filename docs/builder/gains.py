"""What faster forms gain on their definitions: the figures of docs/twins.json, in words and as two bars."""

import json
from typing import Any

from tests.benchmarks import twins

__all__ = ["bars", "gains", "said_of"]


def gains() -> dict[str, Any]:
    """The figures of the last measurement."""
    return json.loads(twins.DOCS.read_text(encoding="utf-8"))


def _medians(name: str) -> tuple[float, float]:
    """Seconds of a definition and of its faster form."""
    case = gains()["cases"][name]
    return case["definition"]["median"], case["twin"]["median"]


def said_of(name: str) -> str:
    """One figure in words."""
    slow, fast = _medians(name)
    quotient = round(slow / fast, 1)
    if quotient > 1.0:
        said = f"**{quotient:.1f} times as fast**"
    else:
        said = "**as fast**" if quotient == 1.0 else f"**takes {fast / slow:.1f} times as long**"
    given = gains()["cases"][name]["given"].replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
    return f"`{name.partition(',')[0]}`, {given}: {said}, {unbroken(fast)} in place of {unbroken(slow)}"


def unbroken(seconds: float) -> str:
    """A time whose unit stays on the line of its number."""
    return twins.said(seconds).replace(" ", "\N{NO-BREAK SPACE}")


def bars(name: str) -> str:
    """Both times as bars, the longer one as wide as there is room; the words above say the same."""
    times = _medians(name)
    widths = (round(100 * time / max(times), 1) for time in times)
    return "".join(
        f'<span class="bar {form}" style="width: {width}%" aria-hidden="true"></span>'
        for form, width in zip(("definition", "twin"), widths, strict=True)
    )
