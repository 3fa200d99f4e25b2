"""What nystrom-attention 0.0.14 computes in float64: ``python run_ports.py FOLDER PACKAGES``.

FOLDER has ``inputs.safetensors``, with ``CASE/hidden`` (B, L, D), ``CASE/qkv``, ``CASE/out``, ``CASE/bias``,
``CASE/conv`` and perhaps ``CASE/mask``, and ``cases.json``, with the heads and landmarks of each. PACKAGES is where the
port is installed. ``outputs.safetensors`` is written: the output and the kernels of each case.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

sys.path.append(sys.argv[2])
from nystrom_attention import NystromAttention

folder = Path(sys.argv[1])
given, found = load_file(folder / "inputs.safetensors"), {}
for number, case in json.loads((folder / "cases.json").read_text()).items():
    x, qkv, out, bias, conv = (given[f"{number}/{name}"] for name in ("hidden", "qkv", "out", "bias", "conv"))
    port = NystromAttention(
        x.shape[-1], x.shape[-1] // case["heads"], case["heads"], case["landmarks"], residual_conv_kernel=conv.shape[2]
    )
    port = port.double().eval()
    weights = {"to_qkv.weight": qkv, "to_out.0.weight": out, "to_out.0.bias": bias, "res_conv.weight": conv}
    port.load_state_dict(weights)
    mask = given.get(f"{number}/mask")
    with torch.no_grad():
        answer, kernels = port(x, mask=None if mask is None else mask.bool(), return_attn_matrices=True)
    found[f"{number}/output"] = answer
    found |= {f"{number}/{name}": value for name, value in zip(("F", "pinv", "B"), kernels, strict=True)}
save_file({name: value.contiguous() for name, value in found.items()}, folder / "outputs.safetensors")
