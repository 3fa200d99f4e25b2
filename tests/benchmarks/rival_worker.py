"""Runs the rivals in their own environment: transformers as it is, under torch.compile, and in ONNX Runtime.

A request is a line of JSON on standard input, an answer one on standard output:

- ``{"do": "prepare", "name", "head", "folder", "inputs", "outputs", "contestants", "alone", "device",
  "precision"}`` loads a checkpoint, runs each contestant once, and writes what the plain model computes to the
  file ``outputs`` (with ``alone``, for each sequence without its padding and without the others). The answer
  tells who is ready and how far its output is from the plain model's, and why the others are not.
- ``{"do": "run", "name", "contestant"}`` runs once and answers with the seconds.
- ``{"do": "classify", "folder", "texts", "batch_size"}`` runs the pipeline text-classification over a list of texts, or
  with the batch size null over one after the other, and answers with the seconds and the answers.
- ``{"do": "forget"}`` gives the memory back.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

sys.path.pop(0)  # the modules beside this one are not for this environment

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file
from transformers.models.nystromformer import modeling_nystromformer

torch.set_grad_enabled(False)
with_mask = getattr(modeling_nystromformer, "create_bidirectional_mask", None)


def without_mask(*arguments, **keywords):
    """Stands in for the mask of ones that 5.x makes when traced, and which its Nyström branch cannot add."""


def named(output) -> dict[str, torch.Tensor]:
    return {name: value for name, value in output.items() if torch.is_tensor(value)}


def arrays(output) -> dict[str, np.ndarray]:
    return {name: value.float().cpu().contiguous().numpy() for name, value in named(output).items()}


def difference(output: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(output[name] - expected[name]).max()) for name in expected)


def reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"[:300]


class Prepared:
    """A model with its inputs, and the contestants that can run it."""

    def __init__(self, request: dict) -> None:
        self.device = request["device"]
        dtype = torch.float16 if request["precision"] == "float16" else torch.float32
        torch.backends.cuda.matmul.allow_tf32 = request["precision"] == "tf32"
        torch.backends.cudnn.allow_tf32 = request["precision"] == "tf32"
        head = getattr(transformers, request["head"])
        inputs = {name: torch.from_numpy(array) for name, array in load_file(request["inputs"]).items()}
        masked = "attention_mask" in inputs
        modeling_nystromformer.create_bidirectional_mask = with_mask if masked else without_mask
        self.runs, self.failed, self.differences = {}, {}, {}
        try:
            self.model = head.from_pretrained(request["folder"], dtype=dtype).eval().to(self.device)
            self.inputs = {name: tensor.to(self.device) for name, tensor in inputs.items()}
            plain = arrays(self.model(**self.inputs))
        except Exception as error:
            self.failed = dict.fromkeys(request["contestants"], reason(error))
            save_file({}, request["outputs"])
            return
        for contestant in request["contestants"]:
            try:
                self.runs[contestant] = getattr(self, contestant)()
                self.differences[contestant] = self.warm_up(contestant, plain)
            except Exception as error:  # noqa: PERF203 (a rival that cannot run is part of the result)
                self.failed[contestant] = reason(error)
        save_file(self.each_alone() if request["alone"] else plain, request["outputs"])

    def warm_up(self, contestant: str, plain: dict[str, np.ndarray]) -> float:
        """Run once, and return how far the output is from the plain model's, which has just run."""
        if contestant == "eager":
            return 0.0
        output = self.runs[contestant]()
        return difference(output if contestant == "onnx" else arrays(output), plain)

    def eager(self):
        return lambda: self.model(**self.inputs)

    def compile(self):
        torch._dynamo.reset()
        compiled = torch.compile(self.model, dynamic=False)
        return lambda: compiled(**self.inputs)

    def onnx(self):
        import onnxruntime

        model, names = self.model, list(self.inputs)

        class Positional(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, *tensors):
                return tuple(named(self.model(**dict(zip(names, tensors, strict=True)))).values())

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            torch.onnx.export(Positional().eval(), tuple(self.inputs.values()), path, input_names=names, dynamo=True)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            options.add_session_config_entry("session.force_spinning_stop", "1")  # after a run, not within
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        fed = {
            entry.name: tensor.numpy() for entry, tensor in zip(session.get_inputs(), self.inputs.values(), strict=True)
        }
        outputs = list(named(model(**self.inputs)))
        return lambda: dict(zip(outputs, session.run(None, fed), strict=True))

    def each_alone(self) -> dict[str, np.ndarray]:
        """What the model computes for each sequence by itself, under ``<number>/<name>``."""
        results = {}
        for number, mask in enumerate(self.inputs["attention_mask"].bool()):
            alone = {
                name: tensor[number][mask][None] for name, tensor in self.inputs.items() if name != "attention_mask"
            }
            results.update({f"{number}/{name}": array for name, array in arrays(self.model(**alone)).items()})
        return results

    def seconds(self, contestant: str) -> float:
        run = self.runs[contestant]
        self.synchronize()
        start = time.perf_counter()
        run()
        self.synchronize()
        return time.perf_counter() - start

    def synchronize(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize(self.device)


@cache
def classifier(folder: str):
    return transformers.pipeline("text-classification", model=folder, tokenizer=folder, device="cpu")


def classify(folder: str, texts: list[str], batch_size: int | None) -> dict:
    pipe = classifier(folder)
    start = time.perf_counter()
    answers = [pipe(text)[0] for text in texts] if batch_size is None else pipe(texts, batch_size=batch_size)
    return {"seconds": time.perf_counter() - start, "answers": answers}


def versions() -> dict[str, str]:
    told = {"transformers": transformers.__version__, "torch": torch.__version__}
    if torch.cuda.is_available():
        told["GPU of torch"], told["CUDA of torch"] = torch.cuda.get_device_name(), torch.version.cuda
    try:
        import onnxruntime

        told["onnxruntime"] = onnxruntime.__version__
    except ImportError:
        pass
    return told


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not stand between the answers
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    prepared: dict[str, Prepared] = {}

    def answer(told: dict) -> None:
        print(json.dumps(told), file=answers, flush=True)

    answer({"versions": versions()})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "prepare":
                made = prepared[request["name"]] = Prepared(request)
                answer({"difference": made.differences, "failed": made.failed})
            elif request["do"] == "run":
                answer({"seconds": prepared[request["name"]].seconds(request["contestant"])})
            elif request["do"] == "classify":
                answer(classify(request["folder"], request["texts"], request["batch_size"]))
            else:
                prepared.clear()
                gc.collect()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()  # the GPU is shared with the other process
                answer({})
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {error}"[:1000]})


if __name__ == "__main__":
    main()
