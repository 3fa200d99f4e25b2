"""The textbook: pure functions, arrays in and arrays out, one idea each, named as in the paper.

Arrays are (..., length, dim) with any leading axes, of NumPy or CuPy alike; no function writes to its arguments.
"""

from nystrom_np.functional.activations import (
    ACTIVATIONS,
    gelu,
    gelu_10,
    gelu_fast,
    gelu_new,
    get_activation,
    laplace,
    leaky_relu,
    linear_activation,
    mish,
    quick_gelu,
    relu,
    relu2,
    relu6,
    selu,
    sigmoid,
    silu,
    tanh,
)
from nystrom_np.functional.attention import (
    additive_mask,
    attention_scores,
    softmax_attention,
    softmax_attention_matrix,
)
from nystrom_np.functional.convolution import depthwise_conv, shifted_sum_conv
from nystrom_np.functional.linear import embedding, linear
from nystrom_np.functional.losses import binary_cross_entropy_with_logits, cross_entropy, mean_squared_error
from nystrom_np.functional.normalization import layer_norm, log_softmax, softmax, widen
from nystrom_np.functional.nystrom import (
    initial_inverse,
    iterative_pinv,
    nystrom_attention,
    nystrom_attention_matrix,
    nystrom_kernels,
    segment_means,
    svd_pinv,
)

__all__ = [
    "ACTIVATIONS",
    "additive_mask",
    "attention_scores",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "depthwise_conv",
    "embedding",
    "gelu",
    "gelu_10",
    "gelu_fast",
    "gelu_new",
    "get_activation",
    "initial_inverse",
    "iterative_pinv",
    "laplace",
    "layer_norm",
    "leaky_relu",
    "linear",
    "linear_activation",
    "log_softmax",
    "mean_squared_error",
    "mish",
    "nystrom_attention",
    "nystrom_attention_matrix",
    "nystrom_kernels",
    "quick_gelu",
    "relu",
    "relu2",
    "relu6",
    "segment_means",
    "selu",
    "shifted_sum_conv",
    "sigmoid",
    "silu",
    "softmax",
    "softmax_attention",
    "softmax_attention_matrix",
    "svd_pinv",
    "tanh",
    "widen",
]
