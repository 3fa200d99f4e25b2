"""The figures as Markdown: what the command prints, and ``docs/benchmarks.md``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tests.benchmarks.breakdown import PARTS
from tests.benchmarks.cases import MODELS, ON_A_GPU, SHORT_INPUTS
from tests.benchmarks.goals import MEBIBYTE, MEGABYTE, Verdict, gpu_verdicts, measured, verdicts
from tests.benchmarks.rivals import NAMES

Results = dict[str, Any]
WHO = {"ours": "nystrom_np", "floor": "floor", **NAMES}


def document(results: Results, short: bool = False) -> str:
    """The page of the short inputs and pipelines, or that of all else."""
    return "\n".join(part for part in sections(results, short) if part) + "\n"


def sections(results: Results, short: bool) -> Iterable[str]:
    cases = {name: case for name, case in results["cases"].items() if (name in SHORT_INPUTS) == short}
    yield "# Benchmarks of short inputs\n" if short else "# Benchmarks\n"
    command = "python -m tests.benchmarks --short --docs" if short else "python -m tests.benchmarks --docs"
    yield f"Written by `{command}`; not edited by hand.\n"
    if results["quick"]:
        yield "**A trial run with tiny models: these figures show that the benchmark works, and nothing else.**\n"
    if not results["machine"]:
        yield "Nothing has been measured on a CPU yet.\n"
    else:
        yield table(("", ""), [*results["machine"].items(), *results["versions"].items()])
    yield METHOD
    yield "## Goals\n"
    yield goal_table([verdict for verdict in verdicts(cases) if (verdict.goal.case in SHORT_INPUTS) == short])
    if not short:
        yield (
            "A goal that is missed says by how much; [where the time goes](#where-the-time-goes) says on what. Up to "
            "128 tokens, and pipelines: [benchmarks of short inputs](benchmarks-short.md).\n"
        )
    yield MODEL_NOTES
    yield model_tables([name for name in MODELS if name in cases], cases)
    yield breakdown_table(cases)
    yield heads_table(cases)
    yield pipelines_table(cases)
    yield attention_table(cases)
    yield million_table(cases)
    yield start_table(cases)
    if not short:
        yield gpu_section(results.get("gpu", {}))


METHOD = """\
Times are medians of single runs, with the shortest and the longest in brackets. Every contestant runs once
uncounted; then they take turns within one session, with a pause of 0.25 s between them, so that the threads
of one have come to rest before the next begins and a slow moment of the machine meets all of them.
transformers, torch.compile and ONNX Runtime run in a process of their own, from the same checkpoint file,
with the same inputs and as many threads. All are in float32. Outputs are compared before anything is timed.

- **floor**: the dense matrix products of a forward pass alone (queries, keys, values, output projection,
  two feed-forward products), with the model's own weights, in NumPy's BLAS with all its threads; of up to
  256 tokens as x Wᵀ or as W xᵀ, whichever is faster.
- **transformers**: `transformers` in PyTorch as it is; **torch.compile**: the same model compiled for this
  one shape; **ONNX Runtime**: the same model exported for this one shape.
"""

MODEL_NOTES = """\
## A forward pass of the bare model

The default configuration (12 layers, 768 wide, 12 heads, filter of length 65), with as many positions as
the input has tokens. The Nyström branch of transformers 5.x cannot add the mask of ones that it makes while
it is traced, so under torch.compile and in ONNX Runtime it runs here with that mask taken out; as it is, it
fails.

The ragged batch goes through `predict`, which computes no padding. Its outputs are compared with those of
transformers for each sequence alone and unpadded; transformers is timed on the padded batch, and the floor
is that of the real tokens. "Difference" is the largest between any two numbers in the output, of
transformers' and ours; in brackets those of transformers and its other forms. GFLOP/s are those of the floor's
products.
"""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def goal_table(found: list[Verdict]) -> str:
    rows = []
    for verdict in found:
        goal = verdict.goal
        sign = "≥" if goal.at_least else "≤"
        rows.append(
            (
                goal.text,
                "not measured" if verdict.value is None else f"{number(verdict.value)} {goal.unit}",
                f"{sign} {goal.must:g} {goal.unit}",
                verdict.says(goal.must),
                "" if goal.aim is None else f"{sign} {goal.aim:g} {goal.unit}",
                verdict.says(goal.aim),
            )
        )
    return table(("case", "measured", "must", "reached", "aim", "reached"), rows)


def model_tables(names: Sequence[str], cases: Results) -> str:
    parts = [
        row for name in names for row in ([failure(name, cases)] if failed(cases, name) else model_rows(cases[name]))
    ]
    if not parts:
        return "Not measured.\n"
    head = (
        "case",
        "who",
        "median (min … max)",
        "runs",
        "ours / theirs",
        "GFLOP/s",
        "difference",
    )
    return table(head, parts) + "\n" + "".join(f"- {text}\n" for text in absences(names, cases))


def model_rows(case: Results) -> list[tuple[str, ...]]:
    ours = case["seconds"]["ours"]["median"]
    rows = []
    for who, seconds in case["seconds"].items():
        apart = case["difference"] if who == "eager" else case["differences_of_rivals"].get(who)
        shown = "" if apart is None or who in ("ours", "floor") else f"{apart:.1e}"
        rows.append(
            (
                case["title"] if who == "ours" else "",
                WHO[who],
                times(seconds),
                str(len(seconds["samples"])),
                "" if who == "ours" else f"{ours / seconds['median']:.2f}",
                f"{case['flops'] / seconds['median'] / 1e9:.0f}" if who in ("ours", "floor") else "",
                shown if who == "eager" or not shown else f"({shown})",
            )
        )
    return rows


def absences(names: Sequence[str], cases: Results) -> Iterable[str]:
    for name in names:
        for who, reason in cases[name].get("failed", {}).items():
            yield f"{cases[name].get('title', name)}, {WHO[who]}: not measured. {reason}"


def breakdown_table(cases: Results) -> str:
    names = [
        name for name in ("dense-512", "ragged", "nystrom-4096") if measured(cases, name) and cases[name]["breakdown"]
    ]
    if not names:
        return ""
    rows = []
    for name in names:
        case = cases[name]
        shares = case["breakdown"]
        floor = case["seconds"]["floor"]["median"] / case["seconds"]["ours"]["median"]
        rows.append((case["title"], *(f"{shares[part]:.1%}" for part in PARTS), f"{floor:.1%}"))
    return (
        "### Where the time goes\n\nShares of all threads' time in a run. Projection: the four products that keep the "
        "width, with their biases; feed-forward: the other two; elementwise: activation, residual sums, layer "
        "normalisation and embeddings; rest: cutting and joining heads, scaling, handing out work, and "
        "threads that wait. "
        "Beside them what the floor's time is of the whole: it is the first two parts as fast as they can be.\n\n"
        + table(("case", *PARTS, "floor"), rows)
    )


def heads_table(cases: Results) -> str:
    if "heads" not in cases:
        return ""
    title = "## The heads\n"
    if failed(cases, "heads"):
        return f"{title}\n{cases['heads']['error']}\n"
    case = cases["heads"]
    bare = case["heads"]["NystromformerModel"]["seconds"]
    rows = []
    for head, told in case["heads"].items():
        cells = []
        for who in ("ours", "eager"):
            seconds = told["seconds"].get(who)
            cells += [times(seconds), signed(seconds["median"] - bare[who]["median"])] if seconds else ["", ""]
        apart = "" if told["difference"] is None else f"{told['difference']:.1e}"
        rows.append((head.removeprefix("Nystromformer").removeprefix("For"), *cells, apart))
    return (
        f"{title}\nOver one encoder layer, B=1, L={case['length']}; the extra time is above the bare model's. Where a "
        "head costs less than the runs vary, the difference says no more than that.\n\n"
        + table(("head", "nystrom_np", "extra, ms", "transformers", "extra, ms", "difference"), rows)
    )


def pipelines_table(cases: Results) -> str:
    if "pipelines" not in cases:
        return ""
    title = "## Pipelines\n"
    if failed(cases, "pipelines"):
        return f"{title}\n{cases['pipelines']['error']}\n"
    case = cases["pipelines"]
    ways = {
        "None": "one call a text",
        "1": "list, batches of 1",
        "32": "list, batches of 32",
        "256": "list, batches of 256",
    }
    rows = []
    for way, says in {**ways, "iterator": "iterator, as it is"}.items():
        told = [case["seconds_a_text"].get(f"{who}/{way}") for who in ("dense/ours", "dense/eager", "nystrom/ours")]
        rows.append((says, *("" if one is None else f"{1 / one['median']:.0f}" for one in told)))
    return (
        f"{title}\nTexts a second of `text-classification`, {case['texts']:,} texts of 3 to 21 words, tokenising "
        "included: a model of the shipped size (3 layers of 192) with exact attention, and the shipped checkpoint "
        "with landmarks, on which each text is filled up to 64 tokens. transformers cannot run texts that are shorter "
        "on that branch. Answers are compared before anything is timed.\n\n"
        + table(("how", "nystrom_np, exact", "transformers, exact", "nystrom_np, landmarks"), rows)
    )


def attention_table(cases: Results) -> str:
    if "attention" not in cases:
        return ""
    title = "## Attention alone\n"
    if failed(cases, "attention"):
        return f"{title}\n{cases['attention']['error']}\n"
    case = cases["attention"]
    rows = []
    for length, forms in case["lengths"].items():
        for form, told in forms.items():
            rows.append(
                (
                    f"{int(length):,}" if form == "dense" else "",
                    {"dense": "exact, in blocks", "nystrom": "Nyström", "textbook": "textbook, L × L"}[form],
                    times(told["seconds"]),
                    size(told["bytes"]),
                )
            )
    return (
        f"{title}\n{case['heads']} heads of 64, m={case['landmarks']}. Extra memory is the most that arrays beyond "
        "queries, keys, values and the context hold at once, each measured in a process of its own. The textbook form "
        "holds the whole matrix and is left out where it does not fit into half of the free memory. "
        "Largest difference from "
        f"the textbook forms: exact {case['difference']['dense']:.1e}, Nyström {case['difference']['nystrom']:.1e}.\n\n"
        + table(("length", "form", "median (min … max)", "extra memory"), rows)
        + "\n[The annotated read](annotated.md#what-attention-costs) draws both.\n"
    )


def million_table(cases: Results) -> str:
    if "million" not in cases:
        return ""
    title = "## Nyström attention over very many tokens\n"
    if failed(cases, "million"):
        return f"{title}\n{cases['million']['error']}\n"
    case = cases["million"]
    first = next(iter(case["lengths"].values()))["nystrom"]["seconds"]["median"]
    rows = [
        (
            f"{int(length):,}",
            times(told["nystrom"]["seconds"]),
            f"{told['nystrom']['seconds']['median'] / first:.2f} ×",
            "" if told["nystrom"]["fresh"] is None else times(told["nystrom"]["fresh"]),
            "" if told["nystrom"]["bytes"] is None else size(told["nystrom"]["bytes"]),
        )
        for length, told in case["lengths"].items()
    ]
    left = [f"{length:,}" for length in case["left_out"]]
    return (
        f"{title}\n{case['heads']} heads of 64, m={case['landmarks']}. The context is written to memory that is there "
        "already (`out=`), as the encoder does it; the time into a fresh array depends on how fast the system "
        "hands out pages.\n\n"
        + table(("tokens", "median (min … max)", "time / shortest", "into a fresh array", "extra memory"), rows)
        + (f"\nNot measured, too little free memory: {', '.join(left)}.\n" if left else "")
    )


def start_table(cases: Results) -> str:
    rows = []
    if measured(cases, "load"):
        case = cases["load"]
        for who, seconds in case["seconds"].items():
            grown = case["bytes"][who]["median"]
            rows.append(
                (
                    f"load {case['file_bytes'] / MEGABYTE:.0f} MB",
                    WHO[who],
                    times(seconds),
                    f"{size(grown)} resident",
                )
            )
    if measured(cases, "cold-start"):
        for who, seconds in cases["cold-start"]["seconds"].items():
            rows.append(("process start to first answer", WHO[who], times(seconds), ""))
    if measured(cases, "size"):
        case = cases["size"]
        parts = ", ".join(f"{name} {value / MEBIBYTE:.0f}" for name, value in case["largest"].items())
        rows.append(("installed dependencies", WHO["ours"], "", f"{case['ours'] / MEBIBYTE:.0f} MiB ({parts})"))
        if "eager" in case:
            rows.append(("", WHO["eager"], "", f"{case['eager'] / MEBIBYTE:.0f} MiB"))
    errors = [f"- {name}: {cases[name]['error']}\n" for name in ("load", "cold-start", "size") if failed(cases, name)]
    if not rows and not errors:
        return ""
    return (
        "## Before the first forward pass\n\nLoading is above the import of the package and before a forward pass. The "
        "first answer is that of `tests/checkpoints/masked-lm-dense` for a masked word. Files are in the system's "
        "cache. Installed "
        "sizes are sums of file sizes, `.pyc` included, without pip and setuptools.\n\n"
        + table(("what", "who", "median (min … max)", "memory or disk"), rows)
        + "".join(errors)
    )


def gpu_section(gpu: Results) -> str:
    title = f"## On a GPU\n\n{GPU_NOTES}"
    if not gpu:
        cases = "; ".join([*(case.title for case in ON_A_GPU.values()), "attention alone, to n=131,072"])
        return (
            f"{title}\nNot measured: no GPU was at hand. `python -m tests.gpu --output FOLDER` measures it within nine "
            "minutes, and adds it to the figures above if they are in `FOLDER/benchmarks.json`: float32 without TF32, "
            "float16, and TF32. `python -m tests.benchmarks --json FOLDER/benchmarks.json --resume --docs` then fills "
            f"this in, for these cases: {cases}.\n"
        )
    parts = [title]
    for precision, told in gpu.items():
        cases = told["cases"]
        parts.append(f"### {precision}\n")
        parts.append(table(("", ""), [*told["machine"].items(), *told["versions"].items()]))
        parts.append(table(ON_A_GPU_HEAD, [gpu_row(cases[name]) for name in ON_A_GPU if measured(cases, name)]))
        parts.append(model_tables([name for name in ON_A_GPU if name in cases], cases))
        if found := gpu_verdicts(precision, cases):
            parts.append(goal_table(found))
        if measured(cases, "attention"):
            rows = [
                (f"{int(length):,}", form, times(entry["seconds"]), size(entry["bytes"] or 0))
                for length, forms in cases["attention"]["lengths"].items()
                for form, entry in forms.items()
            ]
            parts.append(table(("length", "form", "median (min … max)", "pool growth"), rows))
            if left := cases["attention"]["left_out"]:
                parts.append(f"Not measured, too little memory: {', '.join(left)}.\n")
        elif "attention" in cases:
            parts.append(f"Attention alone: {cases['attention']['error']}\n")
    return "\n".join(parts)


GPU_NOTES = """\
Kernels are launched one by one. A CUDA graph of a forward pass cannot be replayed: CuPy (14.2) refuses to capture the
matrix products of cuBLAS ([cupy issue 6290](https://github.com/cupy/cupy/issues/6290)). TF32 is on only where the
environment says `CUPY_TF32=1`, as in the run of that name.
"""
ON_A_GPU_HEAD = ("case", "nystrom_np", "transformers", "torch.compile", "share of the floor")


def gpu_row(case: Results) -> tuple[str, ...]:
    medians = {who: seconds["median"] for who, seconds in case["seconds"].items()}
    shown = (duration(medians[who]) if who in medians else "not measured" for who in ("ours", "eager", "compile"))
    return (case["title"], *shown, f"{medians['floor'] / medians['ours']:.0%}")


def failed(cases: Results, name: str) -> bool:
    return "error" in cases.get(name, {})


def failure(name: str, cases: Results) -> tuple[str, ...]:
    return (name, cases[name]["error"], *[""] * 5)


def times(seconds: Results) -> str:
    """Median, least and most, with their unit written once."""
    unit, scale = ("s", 1.0) if seconds["max"] >= 1 else ("ms", 1e3)
    median, least, most = (f"{seconds[name] * scale:.3g}" for name in ("median", "min", "max"))
    return f"{median} ({least} … {most}) {unit}"


def duration(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def signed(seconds: float) -> str:
    return f"{seconds * 1e3:+.3g}".replace("-", "−")


def size(count: float) -> str:
    return f"{count / MEGABYTE:,.3g} MB" if count < 1e9 else f"{count / 1e9:,.3g} GB"


def number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
