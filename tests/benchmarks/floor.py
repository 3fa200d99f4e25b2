"""The floor: a forward pass's dense matrix products alone, with the model's own weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nystrom_np import NystromformerConfig
from nystrom_np.array_module import get_array_module
from tests.benchmarks.timing import timed

Product = tuple[str, int, int]

FEW = 256
"""Tokens up to which the second form may be the faster one."""

SAME_WIDTH = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")


def products(config: NystromformerConfig) -> list[Product]:
    """Name, inputs and outputs of every dense product of the encoder, in order."""
    width, inner = config.hidden_size, config.intermediate_size
    of_a_layer = [(name, width, width) for name in SAME_WIDTH]
    of_a_layer += [("intermediate.dense", width, inner), ("output.dense", inner, width)]
    return [
        (f"encoder.layer.{layer}.{name}.weight", inputs, outputs)
        for layer in range(config.num_hidden_layers)
        for name, inputs, outputs in of_a_layer
    ]


def flops(config: NystromformerConfig, tokens: int) -> int:
    """Floating-point operations of the floor: two for each weight and token."""
    return 2 * tokens * sum(inputs * outputs for _, inputs, outputs in products(config))


def gemm_floor(config: NystromformerConfig, parameters: Mapping[str, Any], tokens: int) -> Callable[[], None]:
    """Make a function that computes x Wᵀ for every product, or W xᵀ if that is faster, and nothing else.

    All threads of the library's own are used, and results are written to memory that is there already.
    """
    weights = [parameters[name] for name, _, _ in products(config)]
    xp = get_array_module(*weights)
    dtype = weights[0].dtype
    inputs = {size: xp.ones((tokens, size), dtype) / size for _, size, _ in products(config)}
    outputs = {size: xp.empty((tokens, size), dtype) for _, _, size in products(config)}

    transposed = {size: xp.empty((size, tokens), dtype) for size in outputs}

    def x_wt() -> None:
        for weight in weights:
            xp.matmul(inputs[weight.shape[1]], weight.T, out=outputs[weight.shape[0]])

    def w_xt() -> None:
        for weight in weights:
            xp.matmul(weight, inputs[weight.shape[1]].T, out=transposed[weight.shape[0]])

    if xp is not np or tokens > FEW:
        return x_wt
    return min((x_wt, w_xt), key=lambda form: min(timed(form)() for _ in range(3)))
