"""What the recipes have in common: the model's sizes, the optimiser's schedule, and one loop over batches."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from weights.recipes.inputs import LENGTH

SIZES: dict[str, Any] = {
    "hidden_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 768,
    "max_position_embeddings": LENGTH,
    "num_landmarks": 16,
    "segment_means_seq_len": LENGTH,
    "conv_kernel_size": 9,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
CONVOLUTION_STD = 0.2
"""Of the convolution's first weights: with the usual 0.02 a small model learns nothing for a long time."""


def arguments(description: str, steps: int, peak: float, start: str = "weights/masked-lm") -> argparse.Namespace:
    """Read a recipe's command line, and set the number of threads."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="as weights/recipes/text.py says")
    parser.add_argument("--tokenizer", type=Path, default=Path("weights/tokenizer"))
    parser.add_argument("--start", type=Path, default=Path(start), help="the trained body that a head begins with")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--peak", type=float, default=peak, help="of the learning rate")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return options


def new_model(head: str, seed: int, dropout: float = 0.0, **fields: Any) -> Any:
    """Draw a model of transformers with the recipes' sizes."""
    torch.manual_seed(seed)
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    config = transformers.NystromformerConfig(**SIZES, **rates, **fields)
    model = getattr(transformers, head)(config)
    for layer in model.nystromformer.encoder.layer:
        torch.nn.init.normal_(layer.attention.self.conv.weight, std=CONVOLUTION_STD)
    return quick(model)


def quick(model: Any) -> Any:
    """Let torch compute gelu_new in one kernel: the same formula."""
    for layer in model.nystromformer.encoder.layer:
        layer.intermediate.intermediate_act_fn = torch.nn.GELU(approximate="tanh")
    return model


def train(
    model: Any,
    batches: Iterator[dict[str, np.ndarray]],
    steps: int,
    peak: float,
    loss: Callable[[Any, dict[str, torch.Tensor]], torch.Tensor],
) -> None:
    """Minimise a loss with AdamW: the rate rises to its peak over the first 5% and falls to zero in a straight line."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98), fused=True)
    warm = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda n: min((n + 1) / warm, (steps - n) / (steps - warm)))
    model.train()
    began, running, told = time.monotonic(), 0.0, max(1, steps // 40)
    for step in range(steps):
        batch = {name: torch.from_numpy(array) for name, array in next(batches).items()}
        value = loss(model, batch)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        running += value.item()
        if (step + 1) % told == 0:
            minutes = (time.monotonic() - began) / 60
            print(f"step {step + 1:6,} of {steps:,}: loss {running / told:.3f}, {minutes:.1f} min", flush=True)
            running = 0.0
    model.eval()


def load_model(head: str, folder: Path, seed: int, dropout: float, labels: Sequence[str] = ()) -> Any:
    """Load the body of a trained model under a new head."""
    torch.manual_seed(seed)
    fields: dict[str, Any] = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    if labels:
        fields |= {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    return quick(getattr(transformers, head).from_pretrained(folder, **fields))


def shuffled(arrays: dict[str, np.ndarray], size: int, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches, in a new order in each round."""
    rng = np.random.default_rng(seed)
    count = len(next(iter(arrays.values())))
    while True:
        order = rng.permutation(count)
        for start in range(0, count - size + 1, size):
            yield {name: array[order[start : start + size]] for name, array in arrays.items()}


def own_loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the loss that the head computes from its labels."""
    return model(**batch).loss
