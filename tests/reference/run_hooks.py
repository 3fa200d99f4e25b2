"""What every module of the reference returns in one forward pass, in float64: ``python run_hooks.py FOLDER``.

FOLDER has a checkpoint and ``inputs.safetensors``; ``hooks.safetensors`` is written, under the modules' names.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

folder = Path(sys.argv[1])
head = json.loads((folder / "config.json").read_text())["architectures"][0]
model = getattr(transformers, head).from_pretrained(folder, torch_dtype=torch.float64).eval()
found = {}


def keep(name):
    def hook(module, given, returned):
        value = returned[0] if isinstance(returned, tuple) else returned
        if isinstance(value, torch.Tensor):
            found[name] = value.detach().clone().contiguous()

    return hook


for name, module in model.named_modules():
    if name:
        module.register_forward_hook(keep(name))
with torch.no_grad():
    out = model(**load_file(folder / "inputs.safetensors"))
found |= {name: out[name].clone() for name in ("loss", "logits", "start_logits", "end_logits") if name in out}
save_file({name: value.contiguous() for name, value in found.items()}, folder / "hooks.safetensors")
