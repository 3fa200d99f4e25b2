"""The reference's pipelines, asked what ``pipeline_cases.py`` says: prints the answers as JSON.

It runs in the reference's own environment, from the root of the repository, and is told the folder of checkpoints.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import torch
import transformers

from tests.reference.pipeline_cases import CASES, PipelineCase


def run(case: PipelineCase, checkpoints: Path) -> object:
    folder = str(checkpoints / case.folder)
    if case.task == "multiple-choice":
        return choose(folder, *case.args, **case.options)
    pipe = transformers.pipeline(case.task, model=folder, framework="pt", **case.made_with)
    for name, value in case.config.items():
        setattr(pipe.model.config, name, value)
    return pipe(*case.args, **case.options) if case.branch == "dense" else padded(pipe, case)


def padded(pipe, case: PipelineCase) -> object:
    """Call a pipeline that pads each input to the length that the Nyström branch computes."""
    length = pipe.model.config.segment_means_seq_len
    pad = {"padding": "max_length", "max_length": length}
    if case.task == "token-classification":  # which passes the arguments of a call to no tokenizer
        pipe.tokenizer.model_max_length = length
        pipe._preprocess_params["tokenizer_params"] = {"padding": "max_length"}
        return pipe(*case.args, **case.options)
    if case.task == "feature-extraction":
        answers = pipe(*case.args, **case.options, tokenize_kwargs=pad)
        counts = [len(ids) for ids in pipe.tokenizer(*case.args)["input_ids"]]
        return [[answer[0][:count]] for answer, count in zip(answers, counts, strict=True)]
    named = {
        "fill-mask": {"tokenizer_kwargs": pad},
        "question-answering": {"padding": "max_length", "max_seq_len": length},
    }
    return pipe(*case.args, **case.options, **named.get(case.task, pad))


def choose(folder: str, told: dict, top_k: int) -> list[dict]:
    """Rank the choices, each computed by itself on the dense branch, at the one length on the other."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForMultipleChoice.from_pretrained(folder).eval()
    pairs = [[told["prompt"]] * len(told["choices"]), told["choices"]]
    nystrom = model.config.num_landmarks != model.config.segment_means_seq_len
    with torch.no_grad():
        if nystrom:
            rows = tokenizer(*pairs, padding="max_length", max_length=model.config.segment_means_seq_len)
            logits = model(**{name: torch.tensor([row]) for name, row in rows.items()}).logits[0]
        else:
            alone = [tokenizer(*pair, return_tensors="pt") for pair in zip(*pairs, strict=True)]
            logits = torch.cat([model(**{name: row[None] for name, row in one.items()}).logits[0] for one in alone])
    scores = logits.softmax(-1).tolist()
    order = sorted(range(len(scores)), key=lambda index: -scores[index])[:top_k]
    return [{"score": scores[index], "index": index, "choice": told["choices"][index]} for index in order]


def main(checkpoints: Path) -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    answers = [{"task": case.task, "name": case.name, "answer": run(case, checkpoints)} for case in CASES]
    print(json.dumps({"transformers": transformers.__version__, "answers": answers}, default=lambda x: x.item()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
