"""Models to compare with: every parameter has an influence, so that a port that forgets one is found."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nystrom_np.array_module import to_numpy
from nystrom_np.config import NystromformerConfig
from nystrom_np.model import NystromformerModel

__all__ = ["peaked", "random_model", "refuse_trivial"]


def random_model(
    config: NystromformerConfig, seed: int = 0, head: Any = NystromformerModel, dtype: Any = "float64"
) -> Any:
    """Return a model in which no parameter is trivial and attention is far from uniform.

    A freshly drawn or a published model is no model to compare with: biases that are 0, gains that are 1 and the zeroed
    row of the padding token hide a port that ignores them, and nearly uniform attention hides a wrong inverse.

    Parameters
    ----------
    config : NystromformerConfig
        Its ``initializer_range`` is not used.
    seed : int
        From 0; the same seed gives the same model with every version of NumPy.
    head : class
        :class:`nystrom_np.NystromformerModel`, or that of one of the five heads.
    dtype : {"float64", "float32", "float16"}
        Of the parameters.

    Returns
    -------
    model

    Examples
    --------
    >>> config = NystromformerConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2, num_landmarks=4)
    >>> model = random_model(config, seed=1)
    >>> sum(bool((value == 0).any()) for value in model.state_dict().values())
    0
    """
    length = min(2 * config.num_landmarks, config.max_position_embeddings)
    return head(config, parameters=peaked(config, head.parameter_shapes(config), length, seed), dtype=dtype)


def peaked(
    config: NystromformerConfig, shapes: Mapping[str, tuple], length: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Draw parameters in float64, wide enough that attention over a sequence of a length is far from uniform.

    The scores of landmarks are of means over a segment, and so much smaller than those of tokens.

    Examples
    --------
    >>> drawn = peaked(NystromformerConfig(), {"dense.bias": (2,)}, length=8)
    >>> drawn["dense.bias"].shape
    (2,)
    """
    segment = length / config.num_landmarks if config.uses_nystrom_attention else length / 16
    sharpness = 2.0 * max(1.0, segment) if config.uses_nystrom_attention else 3.0 + 2.5 * segment
    drawn = {}
    for name, shape in shapes.items():
        own = sum(i * byte for i, byte in enumerate(name.encode(), start=1)) + 1_000_003 * seed
        noise = np.random.RandomState(own % 2**31).standard_normal(shape)  # whose stream NumPy never changes
        if name.endswith("LayerNorm.weight"):
            drawn[name] = 1.0 + 0.2 * noise
        elif name.endswith("bias"):
            drawn[name] = 0.2 * noise
        elif "embeddings" in name:
            drawn[name] = noise
        elif name.endswith("conv.weight"):
            drawn[name] = noise / math.sqrt(shape[2])
        elif name.endswith(("query.weight", "key.weight")):
            drawn[name] = noise * math.sqrt(sharpness / shape[1])
        else:
            drawn[name] = noise / math.sqrt(shape[-1])
    return drawn


def refuse_trivial(model: Any) -> None:
    """Refuse a model with which a port that ignores parameters would agree.

    Raises
    ------
    ValueError
        In one sentence that names them.

    Examples
    --------
    >>> refuse_trivial(NystromformerModel(NystromformerConfig(num_hidden_layers=0, hidden_size=12)))
    Traceback (most recent call last):
    ValueError: a port could ignore parameters of this model: embeddings.word_embeddings.weight[1] is all 0, ...
    """
    if found := list(_trivial(model)):
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise ValueError(
            f"a port could ignore parameters of this model: {', '.join(found[:3])}{more}; "
            "compare with random_model(config), or say allow_trivial=True"
        )


def _trivial(model: Any) -> Iterator[str]:
    padding = model.config.pad_token_id
    for name, value in model.state_dict().items():
        host = to_numpy(value)
        for number in (0, 1):
            if (host == number).all():
                yield f"{name} is all {number}"
        if name.endswith("word_embeddings.weight") and padding is not None and not host[padding].any():
            yield f"{name}[{padding}] is all 0"
