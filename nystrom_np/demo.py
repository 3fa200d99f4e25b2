"""The shipped checkpoints at work: what each head answers to real text, and how far it is from the reference.

A folder of ``weights/`` holds, beside a model and its tokenizer, real sentences, their token ids, and what
transformers 4.37.2 computed from those in float64 (``reference.json``, ``reference.safetensors``).
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from nystrom_np.array_module import to_numpy
from nystrom_np.files import read_json_object
from nystrom_np.model import NystromformerModel
from nystrom_np.pipelines import SHIPPED, TASKS, load_whole, pipeline, shipped_weights
from nystrom_np.tokenization import NystromformerTokenizer

__all__ = [
    "HEADS",
    "Comparison",
    "Demonstration",
    "demonstrate",
    "verify",
]

FLOAT32_FACTOR, FLOAT32_FLOOR = 3.0, 1e-6
"""The error allowed in float32: so many times the reference's own, and at least so much."""

STORY = "Mary went to the kitchen. John picked up the apple. Mary moved to the garden. John walked to the office."
SHOWN: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "fill-mask": ({"top_k": 3}, ("The violin is a musical [MASK] with strings.",)),
    "text-classification": ({}, ("A wonderful film, full of life.", "A dull and lifeless story.")),
    "multiple-choice": (
        {"top_k": None},
        ({"prompt": f"What did John take last? {STORY}", "choices": ["book", "apple", "letter", "football"]},),
    ),
    "token-classification": ({"aggregation_strategy": "first"}, ("The old man reads a good book",)),
    "question-answering": ({}, ({"question": "Where is Mary?", "context": STORY},)),
}
"""What each head is shown with: the options and inputs of its pipeline."""

HEADS: dict[str, Any] = {SHIPPED[TASKS[task]]: TASKS[task].head for task in SHOWN}
"""The folder of each shipped checkpoint, and the class that loads it."""

CLASSES = {cls.__name__: cls for cls in (NystromformerModel, *HEADS.values())}


@dataclass(frozen=True)
class Comparison:
    """One output of one stored case, compared with what the reference computed.

    Attributes
    ----------
    case, output : str
        What was run, and which of its outputs was compared: ``"logits"``, ``"hidden_states.0"``, …; or
        ``"input_ids"``, what this package's tokenizer made of the text.
    dtype : str
        What it was computed in.
    difference : float
        The largest absolute difference; infinite if the output is missing or has another shape.
    allowed : float
        In float64 what the file says (1e-10); in float32 three times the distance of the reference's own float32
        result from its float64 result, and at least 1e-6.
    """

    case: str
    output: str
    dtype: str
    difference: float
    allowed: float

    @property
    def agrees(self) -> bool:
        """Whether the difference is within what is allowed; False if it is NaN."""
        return self.difference <= self.allowed


@dataclass(frozen=True)
class Demonstration:
    """What a shipped checkpoint answers, and how far it is from the reference.

    Attributes
    ----------
    head : str
        ``"masked-lm"``, …, the name of its folder.
    pipeline : Pipeline
        What answered.
    inputs, answers : tuple
        The texts or other inputs of the pipeline, and its answer to each.
    seconds : float
        From the first text to the last answer.
    comparisons : tuple of Comparison
        Every stored output of the checkpoint.
    """

    head: str
    pipeline: Any
    inputs: tuple[Any, ...]
    answers: tuple[Any, ...]
    seconds: float
    comparisons: tuple[Comparison, ...]


def verify(folder: Path, dtypes: Sequence[str] = ("float64", "float32"), device: str = "cpu") -> Iterator[Comparison]:
    """Run a folder's stored inputs and compare with its stored outputs.

    Parameters
    ----------
    folder : Path
        A checkpoint with ``reference.json`` and ``reference.safetensors``.
    dtypes : sequence of {"float64", "float32"}
        What to compute in.
    device : str
        Where to compute.

    Yields
    ------
    Comparison
        One for each output of each case; and if the folder has a tokenizer, one for the token ids of each case.

    Raises
    ------
    FileNotFoundError
        If the folder has no stored outputs.
    ValueError
        If the stored outputs are not in the expected form.

    Examples
    --------
    >>> from nystrom_np.pipelines import shipped_weights
    >>> comparisons = list(verify(shipped_weights() / "masked-lm", dtypes=["float64"]))
    >>> all(comparison.agrees for comparison in comparisons)
    True
    """
    head, cases = _stored_cases(folder)
    if (folder / "tokenizer.json").is_file():
        tokenizer = NystromformerTokenizer.from_pretrained(folder)
        yield from (_compare_ids(tokenizer, case) for case in cases if "input_ids" in case.inputs)
    for dtype in dtypes:
        model = load_whole(head, folder, dtype, device)
        for case in cases:
            yield from _compare(model, dtype, case)


def demonstrate(dtypes: Sequence[str], device: str = "cpu") -> Iterator[Demonstration]:
    """Run every shipped checkpoint on a few texts, and verify it.

    Parameters
    ----------
    dtypes : sequence of {"float64", "float32"}
        What to verify in; the answers are computed in the last.
    device : str
        Where to compute.

    Yields
    ------
    Demonstration
        For each head.

    Examples
    --------
    >>> first = next(demonstrate(["float64"]))
    >>> first.head, all(comparison.agrees for comparison in first.comparisons)
    ('masked-lm', True)
    """
    for head, (task, (options, inputs)) in zip(HEADS, SHOWN.items(), strict=True):
        comparisons = tuple(verify(shipped_weights() / head, dtypes, device))
        pipe = pipeline(task, device=device, dtype=dtypes[-1], **options)
        start = time.perf_counter()
        answers = tuple(pipe(iter(inputs)))
        yield Demonstration(head, pipe, inputs, answers, time.perf_counter() - start, comparisons)


@dataclass(frozen=True)
class _Case:
    """A stored case: its texts, inputs and outputs, and the differences allowed by dtype and output."""

    name: str
    text: list[Any]
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    allowed: dict[str, dict[str, float]]


def _stored_cases(folder: Path) -> tuple[Any, list[_Case]]:
    """Read the class of a folder's model, and its stored cases."""
    path = folder / "reference.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no stored outputs: there is no {path.name}")
    reference, tensors = read_json_object(path), _read_tensors(folder / "reference.safetensors")
    try:
        head = CLASSES[reference["head"]]
        exact = float(reference["tolerance"]["float64"])
        return head, [_stored_case(case, exact, tensors, head) for case in reference["cases"]]
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} and its tensors are not stored outputs: {error!r}") from error


def _stored_case(case: Any, exact: float, tensors: dict[str, np.ndarray], head: Any) -> _Case:
    for name in case["inputs"]:
        if name not in signature(head.__call__).parameters:
            raise ValueError(f"{head.__name__} takes no {name}")
    float32 = {
        name: max(FLOAT32_FACTOR * float(stored["float32_distance"]), FLOAT32_FLOOR)
        for name, stored in case["outputs"].items()
    }
    return _Case(
        name=case["name"],
        text=list(case["text"]),
        inputs={name: tensors[f"{case['name']}/inputs/{name}"] for name in case["inputs"]},
        outputs={name: tensors[f"{case['name']}/outputs/{name}"] for name in float32},
        allowed={"float64": dict.fromkeys(float32, exact), "float32": float32},
    )


def _read_tensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} holds no stored outputs: there is no {path.name}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error


def _compare(model: Any, dtype: str, case: _Case) -> Iterator[Comparison]:
    inputs = {name: x.astype(dtype) if x.dtype.kind == "f" else x for name, x in case.inputs.items()}
    wanted = {
        f"output_{kind}": any(name.startswith(kind) for name in case.outputs)
        for kind in ("hidden_states", "attentions")
    }
    outputs = _flat(model(**inputs, **wanted))
    for name, expected in case.outputs.items():
        difference = _difference(outputs.get(name), expected)
        yield Comparison(case.name, name, dtype, difference, case.allowed[dtype][name])


def _compare_ids(tokenizer: NystromformerTokenizer, case: _Case) -> Comparison:
    expected = case.inputs["input_ids"]
    texts = [pair for choices in case.text for pair in choices] if expected.ndim == 3 else case.text
    length = expected.shape[-1]
    ids = tokenizer(texts, padding="max_length", max_length=length, truncation=True).input_ids
    difference = _difference(np.array(ids), expected.reshape(-1, length))
    return Comparison(case.name, "input_ids", "int64", difference, 0.0)


def _flat(record: Any) -> dict[str, np.ndarray]:
    flat: dict[str, np.ndarray] = {}
    for name, value in record.items():
        if isinstance(value, tuple):
            flat |= {f"{name}.{i}": to_numpy(part) for i, part in enumerate(value)}
        else:
            flat[name] = to_numpy(value)
    return flat


def _difference(found: np.ndarray | None, expected: np.ndarray) -> float:
    # A loss, which has no axes, may be stored as one number.
    if found is None or np.atleast_1d(found).shape != np.atleast_1d(expected).shape:
        return float("inf")
    return float(np.max(np.abs(found.astype(np.float64) - expected.astype(np.float64)), initial=0.0))
