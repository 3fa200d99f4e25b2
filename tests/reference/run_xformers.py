"""What xformers' Nyström attention computes in float64, step by step: ``python run_xformers.py FOLDER PACKAGES``.

FOLDER has ``inputs.safetensors``, with ``CASE/q``, ``CASE/k`` and ``CASE/v`` (B, H, L, d), ``CASE/conv`` and perhaps
``CASE/mask`` (B, L), and ``cases.json``, with the arguments of each case. PACKAGES is where the port is installed.
``outputs.safetensors`` is written: ``CASE/STEP``.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

sys.path.append(sys.argv[2])
from xformers.components.attention import NystromAttention, SparseCS, core, nystrom

ITERATIONS = 6
folder = Path(sys.argv[1])
given, found, kernels = load_file(folder / "inputs.safetensors"), {}, []
softmax, iterative_pinv = core.scaled_query_key_softmax, nystrom.iterative_pinv


def kept_softmax(*arguments, **named):
    kernels.append(softmax(*arguments, **named))
    return kernels[-1]


core.SparseCS = SparseCS  # without its compiled extension it forgets to import this, and any mask raises a NameError
core.scaled_query_key_softmax = nystrom.scaled_query_key_softmax = kept_softmax
for case, arguments in json.loads((folder / "cases.json").read_text()).items():
    q, k, v = (given[f"{case}/{name}"] for name in ("q", "k", "v"))
    conv, mask = given[f"{case}/conv"], given.get(f"{case}/mask")
    port = NystromAttention(0.0, q.shape[1], conv_kernel_size=conv.shape[2], **arguments).double().eval()
    port.skip_connection.weight.data = conv
    kernels.clear()
    with torch.no_grad():
        one_by_one = [x.flatten(0, 1) for x in (q, k, v)]  # each head of each sequence
        unseen = None if mask is None else torch.zeros_like(mask).masked_fill(mask == 0, float("-inf"))
        answer, convolved = port(*one_by_one, key_padding_mask=unseen), port.skip_connection(v).flatten(0, 1)
        steps = {"conv": convolved, "context": answer, "context_before_conv": answer - convolved}
        if len(kernels) == 3:
            steps |= dict(zip(("F", "A", "B"), kernels, strict=True))
            for n in range(ITERATIONS + 1):
                steps[f"pinv.{n}"] = iterative_pinv(steps["A"], n, port.pinverse_original_init)
    found |= {f"{case}/{name}": x.reshape(*q.shape[:2], *x.shape[1:]).contiguous() for name, x in steps.items()}
save_file(found, folder / "outputs.safetensors")
