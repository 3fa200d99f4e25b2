"""The reference's tokenizer, asked the calls of ``tokenizer_calls.py``: prints the answers as JSON.

It runs in the reference's own environment, from the root of the repository, and is told the tokenizer's folder, how
many calls and the seed.
"""

from __future__ import annotations

import json
import sys

import transformers

from tests.reference.tokenizer_calls import answers, calls


def main(folder: str, count: str, seed: str) -> None:
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    tokenizer = transformers.AlbertTokenizerFast.from_pretrained(folder)
    told = answers(tokenizer, calls(int(count), int(seed)))
    print(json.dumps({"transformers": transformers.__version__, "answers": told}))


if __name__ == "__main__":
    main(*sys.argv[1:])
