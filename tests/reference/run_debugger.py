"""What the debugger of transformers 5 writes of one forward pass, in float64: ``python run_debugger.py FOLDER``.

FOLDER has a checkpoint and ``inputs.safetensors``; the folder ``debugger`` in it is written.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers.model_debugging_utils import model_addition_debugger_context

folder = Path(sys.argv[1])
head = json.loads((folder / "config.json").read_text())["architectures"][0]
model = getattr(transformers, head).from_pretrained(folder, dtype=torch.float64).eval()
with model_addition_debugger_context(model, debug_path=str(folder / "debugger"), use_repr=False):
    model.forward(**load_file(folder / "inputs.safetensors"))
