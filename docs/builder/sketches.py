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
    halves = (("attention +", "convolution", "linear"), ("linear", "gelu_new", "linear"))
    for number, steps in enumerate(halves):
        left = 24 + 232 * number
        said = [words(left + 58, y + 18 + 18 * row, step) for row, step in enumerate(steps)]
        parts += [arrow(left - 8, 60, 18, 0), box(left + 12, y, 96, 62, kind=("second", "first")[number]), *said]
        parts += [arrow(left + 110, 60, 22, 0), words(left + 140, 65, "+"), arrow(left + 150, 60, 20, 0)]
        parts.append(box(left + 174, 46, 34, 30, "LN", "third"))
        parts.append(f'<path d="M{left} 60V14H{left + 140}V48" class="arrow dashed"/>')
    said = "x goes through attention, convolution and an affine map, x is added, and the sum normalised; then the same "
    return 104, said + "with two affine maps and gelu_new between them.", parts


# Of the second read


def passes() -> Drawing:
    """Softmax as an expression, with an array for each step, and as steps over one array."""
    steps = ("x − max", "exp", "÷ sum")
    parts = [words(8, 24, "expression: an array for each step", "start"), box(8, 36, 86, 34, "x", "first")]
    for number, step in enumerate(steps):
        left = 134 + 118 * number
        parts += [arrow(left - 38, 53, 34, 0), box(left, 36, 86, 34, step, "second")]
    parts += [words(8, 112, "twin: one array, written over", "start"), box(8, 124, 86, 34, "x", "first")]
    parts += [arrow(96, 141, 34, 0), box(134, 124, 86, 34, "y", "third")]
    parts.append('<path d="M222 132h30v18h-28m6-4l-6 4l6 4" class="arrow"/>')
    parts.append(words(262, 146, "exp, then ÷ sum", "start"))
    said = (
        "Above, x and three further arrays, one for each step of softmax. Below, x and one array that is written over."
    )
    return 168, said, parts


def chunks() -> Drawing:
    """An array in memory, one block of which goes through all steps in the cache."""
    parts = [words(8, 22, "memory", "start")]
    for block in range(9):
        kind = "third" if block < 3 else "second" if block == 3 else "plain"
        parts.append(box(8 + 52 * block, 32, 48, 30, kind=kind))
    parts += [words(84, 84, "done", kind="quiet"), words(346, 84, "still to come", kind="quiet")]
    parts += [arrow(188, 66, 0, 34), box(112, 106, 156, 62, kind="second"), words(190, 128, "cache of a core")]
    parts += [words(190, 152, "x², ·, −, · x, exp, …"), arrow(276, 137, 40, 0)]
    parts += [words(324, 142, "then the next", "start")]
    said = (
        "An array of nine blocks: three are done, the fourth is in the cache and goes through all steps, others wait."
    )
    return 178, said, parts


def tiles() -> Drawing:
    """Scores cut into blocks of queries, and pieces of keys; two threads at work."""
    parts = [words(144, 20, "keys"), words(50, 112, "queries", "end")]
    for row in range(4):
        for piece in range(4):
            kind = "second" if (row, piece) == (0, 2) else "first" if (row, piece) == (1, 1) else "idle"
            parts.append(box(56 + 44 * piece, 30 + 40 * row, 42, 38, kind=kind))
    for row, name, kind in ((0, "thread 1", "second"), (1, "thread 2", "first")):
        y = 30 + 40 * row
        parts += [arrow(236, y + 19, 26, 0), box(268, y + 2, 92, 34, "Σ w v,  Σ w", kind)]
        parts.append(words(372, y + 24, name, "start"))
    parts += [
        words(268, 138, "a block of scores lives in", "start"),
        words(268, 158, "the cache, and is gone when", "start"),
    ]
    parts.append(words(268, 178, "its sums are added", "start"))
    said = (
        "Scores as a grid of four by four blocks, of which two exist at a time, one for each thread, with their sums."
    )
    return 198, said, parts


def two() -> Drawing:
    """Nyström attention as two softmax attentions with a small product between them."""
    parts = [box(8, 20, 130, 40, "m landmarks ask", "third"), words(73, 82, "L tokens answer")]
    parts += [arrow(142, 40, 38, 0), box(186, 20, 108, 40, "A⁺ · (m, d)", "second"), words(240, 82, "small product")]
    parts += [arrow(298, 40, 38, 0), box(342, 20, 130, 40, "L tokens ask", "first")]
    parts += [words(474, 82, "m landmarks answer", "end")]
    parts += [box(48, 100, 50, 14, kind="idle"), words(73, 132, "B, never whole", kind="quiet")]
    parts += [box(400, 96, 14, 22, kind="idle"), words(407, 132, "F, never whole", kind="quiet")]
    said = "Landmarks ask and tokens answer; a small product with the inverse; tokens ask and landmarks answer."
    return 142, said, parts


def windows() -> Drawing:
    """A band of the filter, and the overlapping windows that it multiplies."""
    parts = [words(8, 20, "one matrix for all windows", "start")]
    for row in range(8):
        parts.append(box(8, 30 + 12 * row, 150, 12, kind="idle"))
        parts.append(box(8 + 10 * row, 30 + 12 * row, 80, 12, kind="second"))
    parts += [words(83, 146, "64 × (64 + k − 1)", kind="quiet"), words(174, 84, "×")]
    parts += [box(200, 36, 268, 20, kind="first"), words(334, 26, "values of the sequence")]
    for number in range(3):
        parts.append(box(196 + 76 * number, 66 + 22 * number, 120, 16, f"window {number}", "third"))
    said = "A matrix whose rows are the filter, each one place further right, and three overlapping windows."
    return 156, said, parts


def threads() -> Drawing:
    """What two cores do in time: step after step, and rows shared."""
    parts = [words(8, 20, "one step after the other", "start")]
    places = ((64, 90, "W x"), (200, 70, "W₁ x"), (332, 70, "W₂ x"))
    for left, width, name in places:
        parts += [box(left, 30, width, 26, name, "first"), box(left, 60, width, 26, name, "first")]
    for left, width, name in ((156, 42, "LN"), (272, 58, "gelu"), (404, 42, "LN")):
        parts += [box(left, 30, width, 26, name, "second"), box(left, 60, width, 26, "idle", "idle")]
    parts += [words(8, 48, "core 1", "start", "quiet"), words(8, 78, "core 2", "start", "quiet")]
    parts.append(words(8, 116, "rows shared: a thread takes its rows through all steps", "start"))
    for row, y in enumerate((126, 156)):
        parts.append(words(8, y + 18, f"core {row + 1}", "start", "quiet"))
        for left, width, name, kind in ((64, 90, "W x", "first"), (156, 24, "LN", "second")):
            parts.append(box(left, y, width, 26, name, kind))
        for left, width, name in ((182, 70, "W₁ x"), (298, 70, "W₂ x")):
            parts.append(box(left, y, width, 26, name, "first"))
        parts += [box(254, y, 42, 26, "gelu", "second"), box(370, y, 24, 26, "LN", "second")]
    said = "Two timelines of two cores. Above, the second is idle in all steps but products. Below, both are busy."
    return 192, said, parts


def packed() -> Drawing:
    """Three texts with padding, and end to end."""
    lengths, kinds = (180, 110, 60), ("first", "second", "third")
    parts = [words(8, 20, "padded", "start")]
    for row, (length, kind) in enumerate(zip(lengths, kinds, strict=True)):
        y = 28 + 26 * row
        parts.append(box(8, y, length, 22, f"text {row + 1}", kind))
        if length < 180:
            parts.append(box(8 + length, y, 180 - length, 22, "padding" if row else "", "idle"))
    parts.append(words(8, 130, "end to end: one product for all rows, attention for each text", "start"))
    left = 8
    for row, (length, kind) in enumerate(zip(lengths, kinds, strict=True)):
        parts.append(box(left, 140, length, 26, f"text {row + 1}", kind))
        parts.append(f'<path d="M{left + 3} 172v6h{length - 6}v-6" class="arrow"/>')
        left += length
    said = (
        "Above, three texts of different lengths filled up with padding. Below, the same texts in one row, without it."
    )
    return 186, said, parts


def kernels() -> Drawing:
    """Softmax on a device: fused steps."""
    parts = [words(8, 20, "a kernel for each operation", "start")]
    for number, name in enumerate(("max", "−", "exp", "sum", "÷")):
        parts.append(box(8 + 94 * number, 30, 62, 30, name, "second"))
        if number:
            parts.append(arrow(8 + 94 * number - 30, 45, 28, 0))
    parts.append(words(8, 96, "fused: what is between two sums is one kernel", "start"))
    for left, width, name, kind in (
        (8, 62, "max", "second"),
        (102, 156, "−, exp", "third"),
        (290, 62, "sum", "second"),
    ):
        parts.append(box(left, 106, width, 30, name, kind))
    parts += [
        arrow(72, 121, 28, 0),
        arrow(260, 121, 28, 0),
        arrow(354, 121, 28, 0),
        box(384, 106, 62, 30, "÷", "third"),
    ]
    said = (
        "Five kernels in a row, each with an array in memory between; below, subtraction and exponential as one kernel."
    )
    return 146, said, parts


SKETCHES: dict[str, Callable[[], Drawing]] = {
    "average": average,
    "factors": factors,
    "corner": corner,
    "segments": segments,
    "convolution": convolution,
    "residual": residual,
    "passes": passes,
    "chunks": chunks,
    "tiles": tiles,
    "two": two,
    "windows": windows,
    "threads": threads,
    "packed": packed,
    "kernels": kernels,
}


def draw(name: str) -> str:
    """The drawing as an element of a page."""
    height, said, parts = SKETCHES[name]()
    label = html.escape(said, quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
