"""The parameters of a Nyströmformer: their names and shapes, first values, and the tree the layers read."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from nystrom_np.array_module import Array
from nystrom_np.config import NystromformerConfig

__all__ = ["body_shapes", "draw", "scoped", "tree"]

Shapes = dict[str, tuple[int, ...]]


def scoped(prefix: str, shapes: Shapes) -> Shapes:
    """Put a prefix before every name.

    Examples
    --------
    >>> scoped("cls.", {"bias": (3,)})
    {'cls.bias': (3,)}
    """
    return {prefix + name: shape for name, shape in shapes.items()}


def dense_shapes(name: str, inputs: int, outputs: int) -> Shapes:
    """Name and shape the parameters of an affine map."""
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm_shapes(name: str, width: int) -> Shapes:
    """Name and shape the parameters of a layer normalisation."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def layer_shapes(config: NystromformerConfig) -> Shapes:
    """Names and shapes of one encoder layer, under their state-dict names."""
    width, inner = config.hidden_size, config.intermediate_size
    shapes: Shapes = {}
    for name in ("query", "key", "value"):
        shapes |= dense_shapes(f"attention.self.{name}", width, width)
    if config.conv_kernel_size is not None:
        shapes["attention.self.conv.weight"] = (config.num_attention_heads, 1, config.conv_kernel_size, 1)
    shapes |= dense_shapes("attention.output.dense", width, width) | norm_shapes("attention.output.LayerNorm", width)
    shapes |= dense_shapes("intermediate.dense", width, inner)
    return shapes | dense_shapes("output.dense", inner, width) | norm_shapes("output.LayerNorm", width)


def body_shapes(config: NystromformerConfig) -> Shapes:
    """Names and shapes of the bare model, under their state-dict names.

    Examples
    --------
    >>> shapes = body_shapes(NystromformerConfig(num_hidden_layers=1))
    >>> shapes["embeddings.position_embeddings.weight"], shapes["encoder.layer.0.intermediate.dense.bias"]
    ((512, 768), (3072,))
    """
    width = config.hidden_size
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (config.vocab_size, width),
        "embeddings.position_embeddings.weight": (config.max_position_embeddings + 2, width),
        "embeddings.token_type_embeddings.weight": (config.type_vocab_size, width),
    }
    shapes |= norm_shapes("embeddings.LayerNorm", width)
    for layer in range(config.num_hidden_layers):
        shapes |= scoped(f"encoder.layer.{layer}.", layer_shapes(config))
    return shapes


def draw(
    config: NystromformerConfig, shapes: Shapes, seed: Any, names: Iterable[str] | None = None
) -> dict[str, Array]:
    """Draw first values: weights normal with standard deviation ``initializer_range``, biases 0, LayerNorm 1 and 0.

    The values of one, in float32, do not depend on which others are drawn; those of the ``names`` are, all by default.

    References
    ----------
    ``NystromformerPreTrainedModel._init_weights`` in transformers 4.37.2; the row of the padding token is 0.

    Raises
    ------
    ValueError
        If the seed is not an integer from 0.

    Examples
    --------
    >>> config = NystromformerConfig()
    >>> draw(config, {"classifier.bias": (2,)}, seed=0)
    {'classifier.bias': array([0., 0.], dtype=float32)}
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed must be an integer from 0; found {seed!r}")
    values = {}
    for name in shapes if names is None else names:
        if name.endswith("bias"):
            value = np.zeros(shapes[name], np.float32)
        elif "LayerNorm" in name:
            value = np.ones(shapes[name], np.float32)
        else:
            stream = name.removeprefix("nystromformer.").encode()  # its own for each name, the same under each head
            generator = np.random.default_rng([seed, *stream])
            value = generator.standard_normal(shapes[name], np.float32) * np.float32(config.initializer_range)
            if name.endswith("word_embeddings.weight") and config.pad_token_id is not None:
                value[config.pad_token_id] = 0.0
        values[name] = value
    return values


def tree(parameters: Mapping[str, Array]) -> dict[str, Any]:
    """Split names at their dots into nested dictionaries, so that ``linear(x, **p["dense"])`` reads well.

    Examples
    --------
    >>> tree({"dense.weight": 1, "dense.bias": 2})
    {'dense': {'weight': 1, 'bias': 2}}
    """
    root: dict[str, Any] = {}
    for name, value in parameters.items():
        *path, leaf = name.split(".")
        node = root
        for step in path:
            node = node.setdefault(step, {})
        node[leaf] = value
    return root
