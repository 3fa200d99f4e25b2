"""The pipelines' commands: text in, answers out."""

import argparse
import json
import textwrap
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from nystrom_np.cli.common import AGREES, Commands, add_options, add_overrides, overrides, positive
from nystrom_np.cli.inputs import Inputs, records_of, texts_given, texts_of, whole_text
from nystrom_np.pipelines import pipeline

TEXTS = "a line each of --file or of standard input by default"


def add_fill_mask(commands: Commands) -> None:
    """Register ``fill-mask``."""
    fill = _add(commands, "fill-mask", "guess the masked words of a text")
    fill.add_argument("text", nargs="*", help=f'with a [MASK] or more: "Paris is the [MASK] of France."; {TEXTS}')
    fill.add_argument("--top-k", type=positive, default=5, metavar="N", help="guesses for each mask (5)")
    fill.add_argument("--target", action="append", metavar="WORD", help="choose among these; may be repeated")
    fill.set_defaults(chosen=lambda options: {"top_k": options.top_k, "targets": options.target})


def add_text_classification(commands: Commands) -> None:
    """Register ``text-classification``."""
    classify = _add(commands, "text-classification", "label a text")
    classify.add_argument("text", nargs="*", help=TEXTS)
    classify.add_argument("--top-k", type=positive, metavar="N", help="labels to show; the best by default")
    classify.add_argument("--truncate", action="store_true", help="cut texts that are too long")
    classify.set_defaults(
        chosen=lambda options: {"truncation": options.truncate} | ({"top_k": options.top_k} if options.top_k else {})
    )


def add_token_classification(commands: Commands) -> None:
    """Register ``token-classification``."""
    tag = _add(commands, "token-classification", "label the words of a text")
    tag.add_argument("text", nargs="*", help=TEXTS)
    tag.add_argument(
        "--aggregation",
        choices=("none", "simple", "first", "average", "max"),
        default="first",
        help="how the labels of word pieces become those of words and entities (first)",
    )
    tag.set_defaults(chosen=lambda options: {"aggregation_strategy": options.aggregation})


def add_question_answering(commands: Commands) -> None:
    """Register ``question-answering``."""
    answer = _add(commands, "question-answering", "find the answer to a question in a text")
    answer.add_argument("question", nargs="?", help='by default JSON Lines with "question" and "context" are read')
    answer.add_argument("context", nargs="?", help="the text; all of --file or of standard input by default")
    answer.add_argument("--top-k", type=positive, default=1, metavar="N", help="answers to show (1)")
    answer.set_defaults(chosen=lambda options: {"top_k": options.top_k}, inputs=_questions)


def add_multiple_choice(commands: Commands) -> None:
    """Register ``multiple-choice``."""
    choose = _add(commands, "multiple-choice", "choose what goes on from a text")
    choose.add_argument("prompt", nargs="?", help='by default JSON Lines with "prompt" and "choices" are read')
    choose.add_argument("choice", nargs="*", help="what may go on from it")
    choose.add_argument("--top-k", type=positive, metavar="N", help="choices to show; all by default")
    choose.set_defaults(chosen=lambda options: {"top_k": options.top_k}, inputs=_prompts)


def add_feature_extraction(commands: Commands) -> None:
    """Register ``feature-extraction``."""
    extract = _add(commands, "feature-extraction", "turn a text into vectors, one a token")
    extract.add_argument("text", nargs="*", help=TEXTS)
    extract.add_argument("--truncate", action="store_true", help="cut texts that are too long")
    extract.set_defaults(chosen=lambda options: {"truncation": options.truncate})


def _add(commands: Commands, task: str, what: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(task, help=what)
    command.set_defaults(task=task, inputs=_texts)
    command.add_argument(
        "--model",
        metavar="FOLDER",
        help="a checkpoint, or owner/name on the Hugging Face Hub; a shipped one by default",
    )
    command.add_argument("--file", metavar="FILE", help="where the input is; - is standard input")
    add_overrides(command)
    add_options(command, _answer, ("float32", "float64", "float16"))
    return command


def _texts(options: argparse.Namespace) -> Inputs:
    return texts_given(options.text) if options.text else texts_of(options.file)


def _questions(options: argparse.Namespace) -> Inputs:
    if options.question is None:
        return records_of(options.file)
    context = whole_text(options.file) if options.context is None else options.context
    return Inputs([("the question", {"question": options.question, "context": context})])


def _prompts(options: argparse.Namespace) -> Inputs:
    if options.prompt is None:
        return records_of(options.file)
    return Inputs([("the choice", {"prompt": options.prompt, "choices": options.choice})])


def _answer(options: argparse.Namespace) -> int:
    """Print the answer to each input; with ``--json``, what the pipeline returns, one line each."""
    pipe = pipeline(
        options.task,
        options.model,
        device=options.device,
        dtype=options.dtype or "float32",
        model_kwargs=overrides(options),
    )
    inputs = options.inputs(options)
    for number, (item, answer) in enumerate(_answers(pipe, inputs, options.chosen(options))):
        if options.json:
            print(json.dumps(answer, ensure_ascii=False, allow_nan=False))
            continue
        if inputs.several and options.task != "text-classification":  # its answers show the text beside the label
            print(("\n" if number else "") + textwrap.shorten(in_full(item), 100, placeholder=" …"))
        print("\n".join(described(pipe, item, answer)))
    return AGREES


def _answers(pipe: Any, inputs: Inputs, chosen: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield each input with its answer."""
    if chosen.get("aggregation_strategy", "none") != "none":
        chosen["stride"] = pipe.longest // 4  # windows, so that all of a long text is labelled
    waiting: deque[Any] = deque()

    def remembered() -> Iterator[Any]:
        for item in inputs:
            waiting.append(item)
            yield item

    answers = pipe(remembered(), **chosen)
    while True:
        try:
            answer = next(answers, None)
        except (ValueError, TypeError, IndexError) as error:
            if not inputs.several or inputs.place is None:
                raise
            raise ValueError(f"{inputs.place}: {error}") from error  # a pipeline refuses an input when it reads it
        if answer is None:
            return
        yield waiting.popleft(), answer


def described(pipe: Any, item: Any, answer: Any) -> list[str]:
    """Return an answer of a pipeline as lines of text."""
    return DESCRIBE[pipe.task](pipe, item, answer)


def _guesses(pipe: Any, item: Any, answer: Any) -> list[str]:
    masks = answer if isinstance(answer[0], list) else [answer]
    return [f"{one['score']:6.1%}  {one['token_str']:<16} {one['sequence']}" for guesses in masks for one in guesses]


def _labels(pipe: Any, item: Any, answer: Any) -> list[str]:
    text = textwrap.shorten(in_full(item), 80, placeholder=" …")
    return [f"{one['score']:6.1%}  {one['label']:<16} {text}" for one in _list(answer)]


def _entities(pipe: Any, item: Any, answer: Any) -> list[str]:
    return [
        f"{one['score']:6.1%}  {one.get('entity_group', one.get('entity')):<8} "
        f"{item[one['start'] : one['end']].strip()}"
        for one in answer
    ]


def _spans(pipe: Any, item: Any, answer: Any) -> list[str]:
    return [f"{one['score']:6.1%}  {one['answer'].strip()}  ({one['start']} to {one['end']})" for one in _list(answer)]


def _choices(pipe: Any, item: Any, answer: Any) -> list[str]:
    return [f"{one['score']:6.1%}  {one['choice']}" for one in _list(answer)]


def _vectors(pipe: Any, item: Any, answer: Any) -> list[str]:
    [vectors] = answer
    ids = pipe.tokenizer(item).input_ids[: len(vectors)]
    tokens = pipe.tokenizer.convert_ids_to_tokens(ids)
    rows = zip(tokens, vectors, strict=True)
    return [f"{token:<16} {' '.join(f'{x: .4f}' for x in vector[:6])} … ({len(vector)})" for token, vector in rows]


DESCRIBE: dict[str, Callable[[Any, Any, Any], list[str]]] = {
    "fill-mask": _guesses,
    "text-classification": _labels,
    "token-classification": _entities,
    "question-answering": _spans,
    "multiple-choice": _choices,
    "feature-extraction": _vectors,
}


SHOWN = ("text", "text_pair", "question", "context", "prompt")


def _list(answer: Any) -> list[dict[str, Any]]:
    return answer if isinstance(answer, list) else [answer]


def in_full(item: Any) -> str:
    """Return the texts of an input as one, without what a record has beside, and choices: the answer shows those."""
    if isinstance(item, str):
        return item
    return " | ".join(text for name, text in item.items() if name in SHOWN and isinstance(text, str))
