"""The shipped checkpoints at work: what each head answers to real text, and how far it is from the reference.

A folder of ``weights/`` holds, beside a model and its tokenizer, real sentences, what they were tokenised to,
and what transformers 4.37.2 computed from that in float64 (``reference.json``, ``reference.safetensors``).
"""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from nystrom_np import model as models
from nystrom_np.array_module import to_numpy
from nystrom_np.files import read_json_object
from nystrom_np.functional import softmax
from nystrom_np.tokenization import NystromformerTokenizer

__all__ = [
    "HEADS",
    "Comparison",
    "Demonstration",
    "Guess",
    "demonstrate",
    "fill_mask",
    "load",
    "shipped_weights",
    "verify",
]

HEADS: dict[str, Any] = {
    "masked-lm": models.NystromformerForMaskedLM,
    "sequence-classification": models.NystromformerForSequenceClassification,
    "multiple-choice": models.NystromformerForMultipleChoice,
    "token-classification": models.NystromformerForTokenClassification,
    "question-answering": models.NystromformerForQuestionAnswering,
}
CLASSES = {cls.__name__: cls for cls in (*HEADS.values(), models.NystromformerModel)}

FLOAT32_FACTOR, FLOAT32_FLOOR = 3.0, 1e-6
"""The distance from float64 that float32 may have: in units of the reference's own, and at least."""

LONGEST_ANSWER = 15
"""Tokens that an extracted answer may have."""


@dataclass(frozen=True)
class Comparison:
    """One output of one stored case, compared with what the reference computed.

    Attributes
    ----------
    case, output : str
        What was run, and which of its outputs this is: ``"logits"``, ``"hidden_states.0"``, …;
        ``"input_ids"`` stands for what our tokenizer made of the text.
    dtype : str
        What it was computed in.
    difference : float
        The largest absolute difference; infinite if the output is missing or its shape is another one.
    allowed : float
        In float64 what the file says (1e-10), in float32 three times the reference's own distance from its
        float64 result, at least 1e-6.
    """

    case: str
    output: str
    dtype: str
    difference: float
    allowed: float

    @property
    def agrees(self) -> bool:
        """Whether the difference is as small as it must be; not so if it is NaN."""
        return self.difference <= self.allowed


@dataclass(frozen=True)
class Guess:
    """A token that the masked language model puts in the place of a mask.

    Attributes
    ----------
    token, token_id : str, int
        The token, as text, and its id.
    probability : float
        What the model gives it.
    sequence : str
        The text with the token in its place.
    """

    token: str
    token_id: int
    probability: float
    sequence: str


@dataclass(frozen=True)
class Demonstration:
    """What a shipped checkpoint answers, and how far it is from the reference.

    Attributes
    ----------
    head : str
        ``"masked-lm"``, …
    text, answer : str
        A real sentence, or several, and what the model makes of it.
    seconds : float
        From the text to the answer.
    comparisons : tuple of Comparison
        Every stored output of the checkpoint.
    """

    head: str
    text: str
    answer: str
    seconds: float
    comparisons: tuple[Comparison, ...]


def shipped_weights() -> Path:
    """Return the folder of the checkpoints that come with the package.

    Returns
    -------
    Path
        Inside the installed package, or ``weights/`` beside it in a clone.

    Raises
    ------
    FileNotFoundError
        If there is neither.

    Examples
    --------
    >>> (shipped_weights() / "masked-lm" / "config.json").exists()
    True
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "_weights", package.parent / "weights"):
        if (folder / "masked-lm").is_dir():
            return folder
    raise FileNotFoundError(f"the shipped checkpoints are neither in {package / '_weights'} nor beside {package}")


def load(head: Any, folder: Path, dtype: str = "float32", device: str = "cpu") -> Any:
    """Load a model, and refuse a head whose parameters are not in the file.

    Parameters
    ----------
    head : class
        One of the package's models.
    folder : Path
        A checkpoint.
    dtype, device : str
        As for ``from_pretrained``.

    Returns
    -------
    model

    Raises
    ------
    OSError, ValueError
        As ``from_pretrained``, and if it would have to make up parameters: what a random head says means
        nothing.

    Examples
    --------
    >>> load(HEADS["question-answering"], shipped_weights() / "masked-lm")
    Traceback (most recent call last):
    ...
    ValueError: ...masked-lm holds no NystromformerForQuestionAnswering: ... are missing
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it warns of what is an error here
        model = head.from_pretrained(folder, dtype=dtype, device=device)
    if model.initialised:
        raise ValueError(f"{folder} holds no {head.__name__}: {', '.join(model.initialised)} are missing")
    return model


def verify(folder: Path, dtypes: Sequence[str] = ("float64", "float32"), device: str = "cpu") -> Iterator[Comparison]:
    """Run a folder's stored inputs and compare with its stored outputs.

    Parameters
    ----------
    folder : Path
        A checkpoint with ``reference.json`` and ``reference.safetensors``.
    dtypes : sequence of {"float64", "float32"}
        What to compute in.
    device : str
        Where.

    Yields
    ------
    Comparison
        One for each output of each case; and one for each text, if the folder has a tokenizer: the ids are
        compared too.

    Raises
    ------
    FileNotFoundError
        If the folder has no stored outputs.
    ValueError
        If they are not in the form expected.

    Examples
    --------
    >>> comparisons = list(verify(shipped_weights() / "masked-lm", dtypes=["float64"]))
    >>> all(comparison.agrees for comparison in comparisons)
    True
    """
    head, cases = _stored_cases(folder)
    if (folder / "tokenizer.json").is_file():
        tokenizer = NystromformerTokenizer.from_pretrained(folder)
        yield from (_compare_ids(tokenizer, case) for case in cases if "input_ids" in case.inputs)
    for dtype in dtypes:
        model = load(head, folder, dtype, device)
        for case in cases:
            yield from _compare(model, dtype, case)


def fill_mask(model: Any, tokenizer: NystromformerTokenizer, text: str, top_k: int = 5) -> list[list[Guess]]:
    """Guess the masked tokens of a text.

    Parameters
    ----------
    model : NystromformerForMaskedLM
    tokenizer : NystromformerTokenizer
    text : str
        With one ``[MASK]`` or more.
    top_k : int
        How many guesses to make for each.

    Returns
    -------
    list of list of Guess
        For each mask, the likeliest tokens, the likeliest first.

    Raises
    ------
    ValueError
        If there is no mask in the text, or the tokenizer has none.

    Examples
    --------
    >>> folder = shipped_weights() / "masked-lm"
    >>> model = load(HEADS["masked-lm"], folder)
    >>> tokenizer = NystromformerTokenizer.from_pretrained(folder)
    >>> [[best]] = fill_mask(model, tokenizer, "Paris is the [MASK] of France.", top_k=1)
    >>> best.sequence.startswith("paris is the") and 0 < best.probability < 1
    True
    """
    encoding = tokenizer(text)
    places = [i for i, index in enumerate(encoding.input_ids) if index == tokenizer.mask_token_id]
    if not places:
        raise ValueError(f"the text has no {tokenizer.mask_token or 'mask, nor has the tokenizer'}: {text[:60]!r}")
    logits = to_numpy(model(**_batch_of_one(encoding)).logits)[0, places]
    guesses = []
    for place, row in zip(places, softmax(logits.astype(np.float64)), strict=True):
        best = np.argsort(-row, kind="stable")[:top_k]
        guesses.append([_guess(tokenizer, encoding.input_ids, place, int(index), float(row[index])) for index in best])
    return guesses


def demonstrate(dtypes: Sequence[str], device: str = "cpu") -> Iterator[Demonstration]:
    """Run every shipped checkpoint on the first of its stored texts, and verify it.

    Parameters
    ----------
    dtypes : sequence of {"float64", "float32"}
        What to verify in; the answer is computed in the last.
    device : str
        Where.

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
    weights = shipped_weights()
    for name, head in HEADS.items():
        folder = weights / name
        comparisons = tuple(verify(folder, dtypes, device))
        model = load(head, folder, dtypes[-1], device)
        tokenizer = NystromformerTokenizer.from_pretrained(folder)
        text = read_json_object(folder / "reference.json")["cases"][0]["text"][0]
        start = time.perf_counter()
        answer = ANSWERS[name](model, tokenizer, text)
        seconds = time.perf_counter() - start
        yield Demonstration(name, _shown(text), answer, seconds, comparisons)


@dataclass(frozen=True)
class _Case:
    """A stored case: texts, the arrays made of them, the outputs, and how near to be, by dtype."""

    name: str
    text: list[Any]
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    allowed: dict[str, dict[str, float]]


def _stored_cases(folder: Path) -> tuple[Any, list[_Case]]:
    """Read a folder's stored cases, and the class of the model that they are for."""
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
    single = {
        name: max(FLOAT32_FACTOR * float(told["float32_distance"]), FLOAT32_FLOOR)
        for name, told in case["outputs"].items()
    }
    return _Case(
        name=case["name"],
        text=list(case["text"]),
        inputs={name: tensors[f"{case['name']}/inputs/{name}"] for name in case["inputs"]},
        outputs={name: tensors[f"{case['name']}/outputs/{name}"] for name in single},
        allowed={"float64": dict.fromkeys(single, exact), "float32": single},
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
    asked = {
        f"output_{kind}": any(name.startswith(kind) for name in case.outputs)
        for kind in ("hidden_states", "attentions")
    }
    outputs = _flat(model(**inputs, **asked))
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


def _batch_of_one(encoding: Any) -> dict[str, Any]:
    return {name: [values] for name, values in encoding.items() if name != "offset_mapping"}


def _guess(tokenizer: NystromformerTokenizer, ids: list[int], place: int, index: int, probability: float) -> Guess:
    frame = set(tokenizer.all_special_ids) - {tokenizer.mask_token_id}
    filled = [index if i == place else old for i, old in enumerate(ids) if old not in frame]
    return Guess(tokenizer.decode(index), index, probability, tokenizer.decode(filled))


def _fill(model: Any, tokenizer: NystromformerTokenizer, text: str) -> str:
    guesses = fill_mask(model, tokenizer, text, top_k=1)
    return ", ".join(f"[MASK] = {best.token!r} ({best.probability:.0%})" for [best] in guesses)


def _classify(model: Any, tokenizer: NystromformerTokenizer, text: Any) -> str:
    logits = to_numpy(model(**_batch_of_one(tokenizer(text))).logits)[0]
    best = int(logits.argmax())
    return f"{model.config.id2label[best]} ({softmax(logits)[best]:.0%})"


def _choose(model: Any, tokenizer: NystromformerTokenizer, pairs: list[list[str]]) -> str:
    encoding = tokenizer([tuple(pair) for pair in pairs], padding=True)
    logits = to_numpy(model(**_batch_of_one(encoding)).logits)[0]
    best = int(logits.argmax())
    return f"{pairs[best][1]!r} ({softmax(logits)[best]:.0%})"


def _label_tokens(model: Any, tokenizer: NystromformerTokenizer, text: str) -> str:
    encoding = tokenizer(text)
    best = to_numpy(model(**_batch_of_one(encoding)).logits)[0].argmax(axis=-1)
    pieces = tokenizer.convert_ids_to_tokens(encoding.input_ids)
    labelled = [
        (piece.strip("▁"), model.config.id2label[int(label)]) for piece, label in zip(pieces, best, strict=True)
    ]
    return " ".join(f"{piece}/{label}" for piece, label in labelled[1:-1] if piece)


def _extract(model: Any, tokenizer: NystromformerTokenizer, pair: list[str]) -> str:
    question, context = pair
    encoding = tokenizer(question, context, return_offsets_mapping=True)
    out = model(**_batch_of_one(encoding))
    start, end = (softmax(to_numpy(logits)[0].astype(np.float64)) for logits in (out.start_logits, out.end_logits))
    offsets = encoding.offset_mapping
    inside = [i for i, kind in enumerate(encoding.token_type_ids) if kind == 1 and offsets[i][1] > offsets[i][0]]
    spans = [(start[i] * end[j], i, j) for i in inside for j in inside if i <= j < i + LONGEST_ANSWER]
    score, first, last = max(spans)
    return f"{context[offsets[first][0] : offsets[last][1]].strip()!r} ({score:.0%})"


def _shown(text: Any) -> str:
    """Return a text, a pair of texts, or the pairs of a multiple choice as one line."""
    if isinstance(text, str):
        return text
    if isinstance(text[0], str):
        return " | ".join(text)
    return " | ".join([text[0][0], *(choice for _, choice in text)])


ANSWERS: dict[str, Callable[[Any, NystromformerTokenizer, Any], str]] = {
    "masked-lm": _fill,
    "sequence-classification": _classify,
    "multiple-choice": _choose,
    "token-classification": _label_tokens,
    "question-answering": _extract,
}
