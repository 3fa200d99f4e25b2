"""Drawings of matrices, blocks and threads: SVG in the page's own colours, so that they are light or dark as it is."""

import html
from collections.abc import Callable

import numpy as np

from docs.builder.pictures import model_and_inputs

__all__ = ["SKETCHES", "draw"]

WIDTH = 480
"""Units across; a phone shows them in about 350 pixels, so letters are 14 units high at least."""

Drawing = tuple[int, str, list[str]]
"""Height, what it shows in words, and its parts."""


def box(x: float, y: float, width: float, height: float, name: str = "", kind: str = "plain") -> str:
    """A rectangle with a name in its middle; the kind is a class of read.css, which gives the colour."""
    shape = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="2" class="{kind}"/>'
    return shape + (words(x + width / 2, y + height / 2 + 5, name) if name else "")


def words(x: float, y: float, said: str, anchor: str = "middle", kind: str = "") -> str:
    """A line of text, its baseline at y."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="{kind}">{html.escape(said)}</text>'


def arrow(x: float, y: float, dx: float, dy: float) -> str:
    """An arrow along one axis."""
    back = -6 if dx + dy > 0 else 6
    head = f"m{back} -4l{-back} 4l{back} 4" if dx else f"m-4 {back}l4 {-back}l4 {back}"
    return f'<path d="M{x:g} {y:g}l{dx:g} {dy:g}{head}" class="arrow"/>'


# Of the first read


def average() -> Drawing:
    """Attention of one token over five: scores, shares, and the average."""
    scores = np.array([0.5, 2.0, -1.0, 1.0, 0.0])
    shares = np.exp(scores) / np.exp(scores).sum()
    parts = [words(8, 26, "query", "start"), box(62, 8, 52, 26, "q", "second")]
    for row, name in ((70, "keys"), (106, "scores"), (152, "shares"), (212, "values")):
        parts.append(words(8, row, name, "start"))
    for place, (score, share) in enumerate(zip(scores, shares, strict=True)):
        left = 86 + 80 * place
        parts += [box(left, 52, 52, 26, f"k{place}", "first"), words(left + 26, 106, f"{score:g}")]
        parts += [box(left, 162 - 60 * share, 52, 60 * share, kind="second"), words(left + 26, 178, f"{share:.2f}")]
        parts.append(box(left, 194, 52, 26, f"v{place}", "third"))
    total = " + ".join(f"{share:.2f} v{place}" for place, share in enumerate(shares))
    parts.append(words(8, 246, f"= {total}", "start"))
    said = ", ".join(f"{share:.2f}" for share in shares)
    return 258, f"A query above five keys, a score for each, and their softmax, {said}, above five values.", parts


def factors() -> Drawing:
    """The large matrix and the three that replace it, to scale."""
    unit, top = 2.1, 34
    long, short = 64 * unit, 16 * unit
    middle = top + long / 2
    parts = [box(6, top, long, long, "S"), words(6 + long / 2, 22, "L × L"), words(158, middle + 5, "≈")]
    x = 176.0
    for name, width, height, shape, kind in (
        ("F", short, long, "L × m", "first"),
        ("A⁺", short, short, "m × m", "second"),
        ("B", long, short, "m × L", "third"),
    ):
        y = middle - height / 2
        parts += [box(x, y, width, height, name, kind), words(x + width / 2, y - 12, shape)]
        x += width + 22
    parts.append(words(WIDTH - 6, top + long - 4, "4,096 numbers ≈ 2,304", "end", "quiet"))
    said = "A square of L by L numbers, beside it a narrow F, a small A⁺ and a flat B, whose product it nearly is."
    return 180, said, parts


def corner() -> Drawing:
    """The Nyström method: three blocks are seen, the fourth follows."""
    parts = [box(90, 10, 50, 50, "A", "second"), box(140, 10, 150, 50, "B", "third")]
    parts += [box(90, 60, 50, 150, "F", "first"), box(140, 60, 150, 150, "C ≈ F A⁺ B", "idle")]
    parts += [words(80, 40, "m", "end"), words(80, 140, "L − m", "end")]
    return 220, "A square cut into a small corner A, B beside it, F below it, and a large rest C, dashed.", parts


def segments() -> Drawing:
    """Twelve tokens, four landmarks."""
    parts = []
    for token in range(12):
        kind = ("first", "third")[token // 3 % 2]
        parts.append(box(6 + 39 * token, 8, 34, 34, f"q{token}", kind))
    for mean in range(4):
        middle, kind = 6 + 117 * mean + 56, ("first", "third")[mean % 2]
        parts += [arrow(middle, 48, 0, 30), box(middle - 28, 84, 56, 34, f"q̃{mean}", kind)]
        parts.append(words(middle + 8, 68, "mean", "start", "quiet"))
    said = "Twelve queries; an arrow leads from each three neighbours to one box, their mean, a landmark."
    return 126, said, parts


def convolution() -> Drawing:
    """The learnt filter of a head of the shipped model, over nine values, and the one number that it gives."""
    model, _ = model_and_inputs()
    filters = model.nystromformer._tree["encoder"]["layer"]["0"]["attention"]["self"]["conv"]["weight"]
    taps = filters[0, 0, :, 0]
    largest = float(abs(taps).max())
    parts = [words(8, 108, "0", "start", "quiet")]
    for place, tap in enumerate(taps):
        left, height = 24 + 50 * place, 70 * abs(tap) / largest
        parts.append(box(left, 104 - height if tap > 0 else 104, 40, height, kind="first" if tap > 0 else "second"))
        parts.append(words(left + 20, 98 - height if tap > 0 else 98, f"{tap:.2f}", kind="quiet"))
        offset = place - len(taps) // 2
        name = "v(t)" if offset == 0 else f"{offset:+d}".replace("-", "−")
        parts.append(box(left, 142, 40, 28, name, "third"))
    parts += [arrow(24 + 50 * 4 + 20, 174, 0, 26), words(24 + 50 * 4 + 20, 218, "added to context(t)")]
    said = ", ".join(f"{tap:.2f}" for tap in taps)
    return (
        228,
        f"Nine learnt weights, {said}, above the values of nine neighbours; an arrow to the context.",
        parts,
    )


def residual() -> Drawing:
    """The two halves of a layer, and the two ways around them."""
    parts, y = [words(4, 55, "x", "start")], 30
    halves = (("attention", "+ convolution", "linear"), ("linear", "gelu_new", "linear"))
    for number, steps in enumerate(halves):
        left = 24 + 232 * number
        said = [words(left + 58, y + 18 + 18 * row, step) for row, step in enumerate(steps)]
        parts += [arrow(left - 8, 60, 18, 0), box(left + 12, y, 96, 62, kind=("second", "first")[number]), *said]
        parts += [arrow(left + 110, 60, 22, 0), words(left + 140, 65, "+"), arrow(left + 150, 60, 20, 0)]
        parts.append(box(left + 174, 46, 34, 30, "LN", "third"))
        parts.append(f'<path d="M{left} 60V14H{left + 140}V48" class="arrow dashed"/>')
    said = "x goes through attention, convolution and an affine map, x is added, and the sum normalised; then the same "
    return 104, said + "with two affine maps and gelu_new between them.", parts


SKETCHES: dict[str, Callable[[], Drawing]] = {
    "average": average,
    "factors": factors,
    "corner": corner,
    "segments": segments,
    "convolution": convolution,
    "residual": residual,
}


def draw(name: str) -> str:
    """The drawing as an element of a page."""
    height, said, parts = SKETCHES[name]()
    label = html.escape(said, quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
