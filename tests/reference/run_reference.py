"""Runs the reference on what a folder asks, inside its environment: ``python run_reference.py FOLDER``.

``FOLDER/request.json`` is a list of items; ``FOLDER/request.safetensors`` holds their arrays as
``<n>/inputs/<name>`` and ``<n>/weights/<name>``. An item has

- ``head``: the class's name;
- ``config`` (with weights among the arrays) or ``folder`` (a checkpoint to load, in the dtype of the run);
- ``flags``: further arguments of the call;
- ``measured``: the dtypes whose distance from float64 is asked for, of "float32" and "float16";
- ``save``: optional ``{"folder", "dtype", "max_shard_size"}``, to write the model with ``save_pretrained``.

``FOLDER/response.json`` answers each item with the outputs' names in order, the reference's own distance to each
in the dtypes that it can run, and the median row maximum of each layer's attention between landmarks; or with
``error``.
``FOLDER/response.safetensors`` holds the float64 outputs as ``<n>/<name>``.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file

RUNS = 8
TIED = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}


def build(item: dict, weights: dict[str, np.ndarray], dtype: torch.dtype) -> torch.nn.Module:
    """Make the model of an item in eval mode."""
    head = getattr(transformers, item["head"])
    if "folder" in item:
        return head.from_pretrained(item["folder"], torch_dtype=dtype).eval()
    model = head(transformers.NystromformerConfig(**item["config"]))
    state = {name: torch.from_numpy(array) for name, array in weights.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or set(missing) - TIED:
        raise KeyError(f"missing {sorted(missing)}, unexpected {unexpected}")
    model.tie_weights()
    return model.to(dtype).eval()


def call(
    model: torch.nn.Module, inputs: dict[str, np.ndarray], flags: dict, dtype: torch.dtype
) -> dict[str, np.ndarray]:
    """Run one forward pass and name every array that it returns, in order."""
    tensors = {name: torch.from_numpy(array.copy()) for name, array in inputs.items()}
    floating = {name: tensor.to(dtype) for name, tensor in tensors.items() if tensor.is_floating_point()}
    with torch.no_grad():
        output = model(**{**tensors, **floating}, **flags)
    pairs = enumerate(output) if isinstance(output, tuple) else output.items()
    named = {}
    for name, value in pairs:
        entries = {f"{name}": value} if torch.is_tensor(value) else {f"{name}.{i}": v for i, v in enumerate(value)}
        named.update({key: tensor.to(torch.float64).contiguous().numpy() for key, tensor in entries.items()})
    return named


class Peaks:
    """Watches the queries and keys of every layer, and measures how peaked the landmarks' attention is."""

    def __init__(self, model: torch.nn.Module):
        self.queries, self.keys, self.config = [], [], model.config
        for name, module in model.named_modules():
            if name.endswith("attention.self.query"):
                module.register_forward_hook(lambda m, i, output: self.queries.append(output))
            if name.endswith("attention.self.key"):
                module.register_forward_hook(lambda m, i, output: self.keys.append(output))

    def medians(self) -> list[float]:
        """Return each layer's median row maximum of softmax(q̃ k̃ᵀ), or of softmax(q kᵀ) if dense."""
        pairs = zip(map(self.landmarks, self.queries), map(self.landmarks, self.keys), strict=True)
        scores = [query @ key.transpose(-1, -2) for query, key in pairs]
        return [torch.softmax(score, -1).max(-1).values.quantile(0.5).item() for score in scores]

    def landmarks(self, mixed: torch.Tensor) -> torch.Tensor:
        heads, m = self.config.num_attention_heads, self.config.num_landmarks
        batch, length, hidden = mixed.shape
        split = mixed.reshape(batch, length, heads, -1).transpose(1, 2) / (hidden // heads) ** 0.25
        dense = m == self.config.segment_means_seq_len
        return split if dense else split.reshape(batch, heads, m, -1, hidden // heads).mean(-2)


def reorder(model: torch.nn.Module, seed: int) -> None:
    """Put the neurons of each layer in another order, which changes no output but by rounding."""
    state = np.random.RandomState(seed)
    heads = model.config.num_attention_heads
    for name, layer in model.named_modules():
        if name.endswith("attention"):
            query_key, value = (_within_heads(layer.self.query.out_features, heads, state) for _ in range(2))
            for linear, order in (
                (layer.self.query, query_key),
                (layer.self.key, query_key),
                (layer.self.value, value),
            ):
                _reorder_rows(linear, order)
            layer.output.dense.weight.data = layer.output.dense.weight.data[:, value]
        elif hasattr(layer, "intermediate"):
            order = torch.from_numpy(state.permutation(layer.intermediate.dense.out_features))
            _reorder_rows(layer.intermediate.dense, order)
            layer.output.dense.weight.data = layer.output.dense.weight.data[:, order]


def _within_heads(hidden: int, heads: int, state: np.random.RandomState) -> torch.Tensor:
    size = hidden // heads
    return torch.from_numpy(np.concatenate([head * size + state.permutation(size) for head in range(heads)]))


def _reorder_rows(linear: torch.nn.Linear, order: torch.Tensor) -> None:
    linear.weight.data, linear.bias.data = linear.weight.data[order], linear.bias.data[order]


def distances(item: dict, weights: dict, inputs: dict, exact: dict[str, np.ndarray], dtype: str) -> dict[str, float]:
    """Return by output the reference's own distance, in another dtype, to its float64 result.

    One run may come near by luck, above all where an output is a few numbers. So it is the largest distance
    of RUNS runs, each with the neurons in another order.
    """
    model = build(item, weights, getattr(torch, dtype))
    farthest = dict.fromkeys(exact, 0.0)
    for run in range(RUNS):
        if run > 0:
            reorder(model, seed=run)
        found = call(model, inputs, item.get("flags", {}), getattr(torch, dtype))
        farthest = {name: max(farthest[name], _distance(exact[name], found[name])) for name in exact}
    return farthest


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest difference, NaN being equal to NaN."""
    if not np.array_equal(np.isnan(one), np.isnan(other)):
        raise ValueError("NaN in one dtype only")
    return float(np.nan_to_num(np.abs(one - other)).max(initial=0.0))


def answer(item: dict, weights: dict, inputs: dict) -> tuple[dict, dict[str, np.ndarray]]:
    """Compute one item in float64, and how far other dtypes are from it."""
    model = build(item, weights, torch.float64)
    peaks = Peaks(model)
    exact = call(model, inputs, item.get("flags", {}), torch.float64)
    save(item, weights)
    outputs: dict[str, dict[str, float]] = {name: {} for name in exact}
    for dtype in item["measured"]:
        try:
            found = distances(item, weights, inputs, exact, dtype)
        except RuntimeError:
            if dtype == "float32":
                raise
            continue  # the Nyström branch does not run in float16
        for name, distance in found.items():
            outputs[name][f"{dtype}_distance"] = distance
    return {"outputs": outputs, "median_row_max": peaks.medians()}, exact


def save(item: dict, weights: dict) -> None:
    """Write the model as the reference writes it, if that is asked."""
    if "save" in item:
        wanted = dict(item["save"])
        model = build(item, weights, getattr(torch, wanted.pop("dtype", "float32")))
        model.save_pretrained(wanted.pop("folder"), **wanted)


def parts(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}


def main(folder: Path) -> None:
    torch.set_num_threads(1)  # one order of summation
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    items = json.loads((folder / "request.json").read_text())
    arrays = load_file(folder / "request.safetensors")
    by_item: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        number, _, rest = name.partition("/")
        by_item.setdefault(number, {})[rest] = array
    answers, outputs = [], {}
    for number, item in enumerate(items):
        own = by_item.get(str(number), {})
        try:
            told, exact = answer(item, parts(own, "weights/"), parts(own, "inputs/"))
        except Exception as error:  # told to the asker, who knows whether it is expected
            told, exact = {"error": f"{type(error).__name__}: {error}"}, {}
        answers.append(told)
        outputs.update({f"{number}/{name}": array for name, array in exact.items()})
    save_file(outputs, folder / "response.safetensors")
    versions = {"transformers": transformers.__version__, "torch": torch.__version__.partition("+")[0]}
    (folder / "response.json").write_text(json.dumps({**versions, "answers": answers}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
