"""What ports of the model are known to do otherwise, each as a line of the definition that reads otherwise."""

from dataclasses import dataclass, field
from typing import Any

from nystrom_np.rewrite import Change

__all__ = ["CAUSES", "Cause"]


@dataclass(frozen=True)
class Cause:
    """A known difference: how the definition has to read to compute what such a port computes.

    Attributes
    ----------
    name : str
        A few words.
    changes : tuple of Change
        Of the page's lines.
    config : dict
        Of the configuration's fields.

    Examples
    --------
    >>> [cause.name for cause in CAUSES if cause.config.get("masking")]
    ['masking is that of transformers', "masking is the authors' own", 'padding is left out, as if it were not there']
    """

    name: str
    changes: tuple[Change, ...] = ()
    config: dict[str, Any] = field(default_factory=dict, hash=False)


def _line(name: str, function: str, old: str, new: str) -> Cause:
    return Cause(name, (Change(function, old, new),))


_SCALED = 'return heads("query") / d**0.25, heads("key") / d**0.25, heads("value")'
_SEGMENTS = "[size] * (num_landmarks - longer) + [size + 1] * longer"
_LANDMARKS = "query_landmarks, key_landmarks = segment_means(query, num_landmarks), segment_means(key, num_landmarks)"
_F = "softmax_attention_matrix(query, key_landmarks)"
_B = "softmax_attention_matrix(query_landmarks, key, mask)"
_NORM = "(x - mean) / xp.sqrt(variance + eps)"
_VARIANCE = "xp.mean((x - mean) ** 2, axis=-1, keepdims=True)"
_REAL = "(x * transposed(mask))"

CAUSES: tuple[Cause, ...] = (
    _line("scores are not divided by √d", "project", _SCALED, 'return heads("query"), heads("key"), heads("value")'),
    _line(
        "scores are divided by √d twice",
        "project",
        _SCALED,
        'return heads("query") / d**0.5, heads("key") / d**0.5, heads("value")',
    ),
    _line(
        "the query alone is divided by √d, which leaves the scores as they are",
        "project",
        _SCALED,
        'return heads("query") / d**0.5, heads("key"), heads("value")',
    ),
    _line(
        "the shorter segments come last",
        "segment_means",
        _SEGMENTS,
        "[size + 1] * longer + [size] * (num_landmarks - longer)",
    ),
    _line(
        "landmarks are means of what is left where padding is blanked",
        "nystrom_kernels",
        _LANDMARKS,
        "query_landmarks, key_landmarks = (segment_means(x if mask is None else x * transposed(mask), num_landmarks)"
        " for x in (query, key))",
    ),
    _line(
        "landmarks are means over real tokens alone",
        "nystrom_kernels",
        _LANDMARKS,
        "query_landmarks, key_landmarks = (segment_means(x, num_landmarks) if mask is None else "
        "segment_means(x * transposed(mask), num_landmarks) / "
        "(segment_means(1.0 * transposed(mask) + 0.0 * x[..., :1], num_landmarks) + 1e-9) for x in (query, key))",
    ),
    _line("the mask is missing in B", "nystrom_kernels", _B, "softmax_attention_matrix(query_landmarks, key)"),
    _line(
        "the mask is added in F",
        "nystrom_kernels",
        _F,
        "softmax_attention_matrix(query, key_landmarks, None if mask is None else transposed(mask))",
    ),
    _line(
        "rows of padding are blanked in F",
        "nystrom_kernels",
        _F,
        "softmax_attention_matrix(query, key_landmarks) * (1.0 if mask is None else transposed(mask))",
    ),
    _line(
        "the mask is missing in exact attention",
        "self_attention",
        "matrix(query, key, mask)  #",
        "matrix(query, key)  #",
    ),
    Cause("the initial inverse is that of each matrix", config={"inv_coeff_init_option": True}),
    Cause("the initial inverse is that of the batch", config={"inv_coeff_init_option": False, "pinv_initial": "batch"}),
    Cause(
        "the initial inverse is that of each sequence",
        config={"inv_coeff_init_option": False, "pinv_initial": "sequence"},
    ),
    Cause("masking is that of transformers", config={"masking": "transformers"}),
    Cause("masking is the authors' own", config={"masking": "original"}),
    Cause("padding is left out, as if it were not there", config={"masking": "invariant"}),
    _line("the filter is flipped", "depthwise_conv", "weight[:, :, s]", "weight[:, :, taps - 1 - s]"),
    Cause(
        "the filter runs along the wrong axis",
        (
            Change("depthwise_conv", "padded[..., s : s + length, :]", "padded[..., s : s + d]"),
            Change("depthwise_conv", "(*outer, taps // 2, d)", "(*outer, length, taps // 2)"),
            Change("depthwise_conv", "[edge, value, edge], axis=-2", "[edge, value, edge], axis=-1"),
        ),
    ),
    _line("positions are not offset by 2", "embeddings", "positions[position_ids]", "positions[position_ids - 2]"),
    _line(
        "the row of the padding token is zero at look-up",
        "embeddings",
        'p["word_embeddings"]["weight"][words]',
        'p["word_embeddings"]["weight"][words] * 1.0 * (words != config.pad_token_id)[..., None]',
    ),
    _line("token types are left out", "embeddings", " + types[token_type_ids]", " + 0.0 * types[token_type_ids]"),
    Cause("the activation is the exact gelu", config={"hidden_act": "gelu"}),
    Cause("the activation is gelu_new, by tanh", config={"hidden_act": "gelu_new"}),
    Cause("the activation is relu", config={"hidden_act": "relu"}),
    _line("ε is outside the root", "layer_norm", _NORM, "(x - mean) / (xp.sqrt(variance) + eps)"),
    Cause("ε is 1e-12", config={"layer_norm_eps": 1e-12}),
    Cause("ε is 1e-5", config={"layer_norm_eps": 1e-5}),
    _line(
        "the variance is divided by n − 1",
        "layer_norm",
        _VARIANCE,
        "xp.sum((x - mean) ** 2, axis=-1, keepdims=True) / (x.shape[-1] - 1)",
    ),
    _line(
        "attention is approximated where there are as many landmarks as tokens",
        "is_exact",
        "length <= config.num_landmarks",
        "length < config.num_landmarks",
    ),
    _line("attention is exact at every length", "is_exact", "length <= config.num_landmarks", "True"),
    _line(
        "attention is exact up to segment_means_seq_len",
        "is_exact",
        "length <= config.num_landmarks",
        "length <= config.segment_means_seq_len",
    ),
    _line("head_mask is ignored", "self_attention", "context * head_mask[:, None, None]", "context * 1.0"),
)
"""Those that are tried; one of a configuration that is the model's own is not another."""
