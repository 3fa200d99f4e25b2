"""The twins for NumPy arrays: blocks that stay in the cache, both cores, and no array that can be written over another.

Half precision is computed in float32: NumPy's own float16 arithmetic takes hundreds of times as long.
"""

from nystrom_np import definition, losses
from nystrom_np.fast.on_numpy import attention, convolution, encoder, rows
from nystrom_np.fast.on_numpy.encoder import embeddings, encode, encoder_layer, masked_lm, project, self_attention
from nystrom_np.fast.on_numpy.rows import elementwise, in_single

linear = in_single(encoder.shared_linear)
layer_norm = in_single(rows.layer_norm)
softmax = in_single(rows.softmax)
softmax_attention = in_single(attention.softmax_attention)
nystrom_attention = in_single(attention.nystrom_attention)
segment_means = in_single(attention.segment_means)
depthwise_conv = in_single(convolution.depthwise_conv)

# These are their definitions; an inverse of half precision stays in float32, since it magnifies rounding errors.
softmax_attention_matrix = in_single(definition.softmax_attention_matrix)
nystrom_kernels = in_single(definition.nystrom_kernels)
initial_inverse = in_single(definition.initial_inverse)
iterative_pinv = in_single(definition.iterative_pinv, narrow=False)
svd_pinv = in_single(definition.svd_pinv, narrow=False)
log_softmax = in_single(losses.log_softmax)
cross_entropy = in_single(losses.cross_entropy)
mean_squared_error = in_single(losses.mean_squared_error)
binary_cross_entropy_with_logits = in_single(losses.binary_cross_entropy_with_logits)

__all__ = [
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "depthwise_conv",
    "elementwise",
    "embeddings",
    "encode",
    "encoder_layer",
    "initial_inverse",
    "iterative_pinv",
    "layer_norm",
    "linear",
    "log_softmax",
    "masked_lm",
    "mean_squared_error",
    "nystrom_attention",
    "nystrom_kernels",
    "project",
    "segment_means",
    "self_attention",
    "softmax",
    "softmax_attention",
    "softmax_attention_matrix",
    "svd_pinv",
]
