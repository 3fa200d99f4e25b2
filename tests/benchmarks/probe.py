"""One measurement in a process of its own, by either package: ``probe.py load|cold PACKAGE FOLDER``.

Prints one line: what loading took, or the first answer of a process that was just started.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

sys.path.pop(0)  # the modules beside this one are not for every environment

TEXT = "The capital of France is [MASK]."
HEAD = "NystromformerForMaskedLM"


def resident() -> int:
    """Bytes of this process that are in memory now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("this system does not say how much memory a process has")


def load(package: str, folder: str) -> dict:
    """Seconds and resident growth of loading a checkpoint, above the import of the model's class."""
    head = getattr(importlib.import_module(package), HEAD)
    before, start = resident(), time.perf_counter()
    model = head.from_pretrained(folder)
    return {
        "seconds": time.perf_counter() - start,
        "bytes": resident() - before,
        "parameters": model.num_parameters(),
    }


def cold(package: str, folder: str) -> dict:
    """The best guess for a masked word, from nothing."""
    module = importlib.import_module(package)
    if package == "transformers":
        import torch

        tokenizer, kind = module.AutoTokenizer.from_pretrained(folder), "pt"
        torch.set_grad_enabled(False)
    else:
        tokenizer, kind = module.NystromformerTokenizer.from_pretrained(folder), "np"
    inputs = tokenizer(TEXT, return_tensors=kind)
    logits = getattr(module, HEAD).from_pretrained(folder)(**inputs).logits
    place = inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)
    return {"answer": tokenizer.decode([int(logits[0, place].argmax())]).strip()}


if __name__ == "__main__":
    print(json.dumps({"load": load, "cold": cold}[sys.argv[1]](*sys.argv[2:])), flush=True)
