"""Runs inside the reference's environment: the loading info of ``from_pretrained``, for the cases of a JSON file."""

from __future__ import annotations

import json
import sys

import transformers

if __name__ == "__main__":
    transformers.utils.logging.set_verbosity_error()
    answers = []
    for head, folder, options in json.loads(sys.argv[1]):
        _, info = getattr(transformers, head).from_pretrained(folder, output_loading_info=True, **options)
        answers.append({key: sorted(value) for key, value in info.items()})
    print(json.dumps(answers))
