"""Nyströmformer, defined: from token ids to the logits of each head, in formulas alone.

Read it from top to bottom, or from a head at the end upwards. Nothing here is about speed or about where arrays lie:
where a function marked ``@accelerated`` has a faster form, of the same name in :mod:`nystrom_np.fast`, that form runs
in its place and computes the same numbers. ``xp`` is the module of the arrays at hand: NumPy, CuPy, JAX, …

Equations are those of Xiong et al. (2021), arXiv 2102.03902. A comment after ``→`` is the shape of the result, in::

    B sequences of a batch   L tokens   D width   H heads   d = D / H   m landmarks   k taps   V words   C labels

``p`` is a part of the parameters, a tree with the names of the state dict, so that ``linear(x, **p["dense"])``
multiplies by ``p["dense"]["weight"]`` and adds ``p["dense"]["bias"]``.
"""

from functools import partial
from itertools import accumulate, pairwise

from nystrom_np.activations import get_activation, relu
from nystrom_np.array_module import get_array_module
from nystrom_np.fast import accelerated

# 1. Four formulas that every transformer has


@accelerated
def linear(x, weight, bias=0.0):  # (..., inputs), (outputs, inputs), (outputs,) → (..., outputs)
    return x @ weight.T + bias


@accelerated
def layer_norm(x, weight, bias, eps=1e-5):  # (..., D), (D,), (D,) → (..., D)
    xp = get_array_module(x)
    mean = xp.mean(x, axis=-1, keepdims=True)  # (..., 1)
    variance = xp.mean((x - mean) ** 2, axis=-1, keepdims=True)
    return (x - mean) / xp.sqrt(variance + eps) * weight + bias


@accelerated
def softmax(x, axis=-1):  # any shape → the same: positive, with sum 1 along the axis
    xp = get_array_module(x)
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))  # the maximum cancels; without it eˣ could overflow
    return e / xp.sum(e, axis=axis, keepdims=True)


@accelerated
def softmax_attention_matrix(query, key, mask=None):  # (..., n, d), (..., l, d) → (..., n, l): equation 2
    xp, scores = get_array_module(query), query @ transposed(key)
    if mask is not None:  # (..., 1 or n, l), 1 for real keys; if none is real, all of them weigh the same
        scores = xp.where(mask, scores, xp.finfo(scores.dtype).min)
    return softmax(scores)


@accelerated
def softmax_attention(query, key, value, mask=None):  # (..., n, d), (..., l, d), (..., l, d) → (..., n, d)
    return softmax_attention_matrix(query, key, mask) @ value


def transposed(x):  # (..., n, l) → (..., l, n)
    return get_array_module(x).moveaxis(x, -1, -2)


# 2. What makes it a Nyströmformer: softmax(q kᵀ) ≈ F A⁺ B


@accelerated
def segment_means(x, num_landmarks):  # (..., L, d) → (..., m, d): landmarks, equation 10
    xp, (size, longer) = get_array_module(x), divmod(x.shape[-2], num_landmarks)
    sizes = [size] * (num_landmarks - longer) + [size + 1] * longer  # the shorter segments come first
    segments = pairwise(accumulate(sizes, initial=0))
    return xp.stack([xp.mean(x[..., start:stop, :], axis=-2) for start, stop in segments], axis=-2)


@accelerated
def nystrom_kernels(query, key, num_landmarks, mask=None):  # (..., L, d) twice → F, A, B: equation 9
    query_landmarks, key_landmarks = segment_means(query, num_landmarks), segment_means(key, num_landmarks)
    f = softmax_attention_matrix(query, key_landmarks)  # (..., L, m)
    a = softmax_attention_matrix(query_landmarks, key_landmarks)  # (..., m, m)
    b = softmax_attention_matrix(query_landmarks, key, mask)  # (..., m, L); padding still weighs in the landmarks
    return f, a, b


@accelerated
def initial_inverse(a, initial="batch"):  # (..., m, m) → (..., m, m): Aᵀ over its largest column sum
    xp = get_array_module(a)
    columns = xp.sum(a, axis=-2)  # (..., heads, m); the largest of all, of each sequence's heads, or of each matrix:
    axes = {"batch": None, "sequence": (-2, -1), "matrix": -1}[initial]
    return transposed(a) / xp.max(columns, axis=axes, keepdims=True)[..., None]


@accelerated
def iterative_pinv(a, iterations=6, initial="batch"):  # (..., m, m) → (..., m, m): A⁺ by products alone, equation 11
    i = get_array_module(a).eye(a.shape[-1], dtype=a.dtype)
    z = initial_inverse(a, initial)
    for _ in range(iterations):
        az = a @ z
        z = z @ (13.0 * i - az @ (15.0 * i - az @ (7.0 * i - az))) / 4.0
    return z


@accelerated
def svd_pinv(a):  # (..., m, m) → (..., m, m): A⁺ itself, which the iteration approximates
    xp = get_array_module(a)
    return xp.linalg.pinv(a, max(a.shape[-2:]) * xp.finfo(a.dtype).eps)


def nystrom_attention_matrix(query, key, num_landmarks, mask=None, pinv=iterative_pinv):  # → (..., L, L)
    f, a, b = nystrom_kernels(query, key, num_landmarks, mask)
    return f @ pinv(a) @ b


@accelerated
def nystrom_attention(query, key, value, num_landmarks, mask=None, pinv=iterative_pinv):  # → (..., L, d): algorithm 1
    f, a, b = nystrom_kernels(query, key, num_landmarks, mask)
    return f @ pinv(a) @ (b @ value)


@accelerated
def depthwise_conv(value, weight):  # (..., H, L, d), (H, 1, k, 1) → (..., H, L, d): Σₛ w[s] v[t + s − k//2]
    xp, taps, (*outer, length, d) = get_array_module(value), weight.shape[-2], value.shape
    edge = xp.zeros((*outer, taps // 2, d), dtype=value.dtype)  # outside the sequence the values are 0
    padded = xp.concatenate([edge, value, edge], axis=-2)
    return sum(weight[:, :, s] * padded[..., s : s + length, :] for s in range(taps))


# 3. A layer


def is_exact(config, length):  # the reference's rule; and as many landmarks as tokens leave nothing to approximate
    return config.num_landmarks == config.segment_means_seq_len or length <= config.num_landmarks


def inverse(config):  # → a function (..., m, m) → (..., m, m)
    if config.pinv_method == "svd":
        return svd_pinv
    initial = "matrix" if config.inv_coeff_init_option else config.pinv_initial
    return partial(iterative_pinv, iterations=config.pinv_iterations, initial=initial)


@accelerated
def project(p, config, x):  # (B, L, D) → three of (B, H, L, d)
    xp, d = get_array_module(x), x.shape[-1] // config.num_attention_heads

    def heads(name):
        return xp.moveaxis(linear(x, **p[name]).reshape(*x.shape[:-1], config.num_attention_heads, d), 2, 1)

    return heads("query") / d**0.25, heads("key") / d**0.25, heads("value")  # so that q kᵀ is divided by √d


@accelerated
def self_attention(p, config, x, mask=None, head_mask=None):  # (B, L, D), (B, 1, 1 or L, L), (H,) → (B, L, D), weights
    query, key, value = project(p, config, x)
    convolved = value  # padding included, unless
    if config.masking == "original" and mask is not None and mask.shape[-2] == 1:  # the authors blank padding
        query, key, convolved = (y * transposed(mask) for y in (query, key, value))
    if is_exact(config, x.shape[1]):
        weights = softmax_attention_matrix(query, key, mask)  # (B, H, L, L)
        context = weights @ value  # (B, H, L, d)
    else:
        f, a, b = nystrom_kernels(query, key, config.num_landmarks, mask)
        weights = f @ inverse(config)(a)  # F A⁺, (B, H, L, m)
        context = weights @ (b @ value)
    if "conv" in p:  # a skip connection around attention, section 3.4
        context = context + depthwise_conv(convolved, p["conv"]["weight"])
    if head_mask is not None:
        context = context * head_mask[:, None, None]
    return get_array_module(x).moveaxis(context, 1, 2).reshape(x.shape), weights  # the heads side by side


@accelerated
def encoder_layer(p, config, x, mask=None, head_mask=None):  # (B, L, D) → (B, L, D), weights
    norm, act = partial(layer_norm, eps=config.layer_norm_eps), get_activation(config.hidden_act)
    context, weights = self_attention(p["attention"]["self"], config, x, mask, head_mask)
    x = norm(linear(context, **p["attention"]["output"]["dense"]) + x, **p["attention"]["output"]["LayerNorm"])
    hidden = act(linear(x, **p["intermediate"]["dense"]))  # (B, L, intermediate_size)
    return norm(linear(hidden, **p["output"]["dense"]) + x, **p["output"]["LayerNorm"]), weights


# 4. The encoder


@accelerated
def embeddings(p, config, words, token_type_ids, position_ids):  # ids (B, L), or their embeddings (B, L, D) → (B, L, D)
    words = p["word_embeddings"]["weight"][words] if words.ndim == 2 else words
    types, positions = p["token_type_embeddings"]["weight"], p["position_embeddings"]["weight"]
    x = words + types[token_type_ids] + positions[position_ids]
    return layer_norm(x, **p["LayerNorm"], eps=config.layer_norm_eps)


@accelerated
def encode(p, config, words, token_type_ids, position_ids, mask=None, head_mask=None, segments=None):
    # ids (B, L), masks (B, 1, 1 or L, L) and (layers, H) → layers + 1 states (B, L, D), the layers' weights
    if segments is not None:
        return encode_each(p, config, (words, token_type_ids, position_ids), segments, head_mask)
    states, attentions = [embeddings(p["embeddings"], config, words, token_type_ids, position_ids)], []
    for number in range(config.num_hidden_layers):
        heads = None if head_mask is None else head_mask[number]
        x, weights = encoder_layer(p["encoder"]["layer"][str(number)], config, states[-1], mask, heads)
        states.append(x)  # (B, L, D)
        attentions.append(weights)  # (B, H, L, L or m)
    return states, attentions


def encode_each(p, config, tokens, segments, head_mask):  # sequences end to end, B = 1: each as if it were alone
    alone = [encode(p, config, *(x[:, part] for x in tokens), head_mask=head_mask) for part in segments]
    states, attentions = (zip(*parts, strict=True) for parts in zip(*alone, strict=True))
    return [get_array_module(*parts).concatenate(parts, axis=1) for parts in states], list(attentions)


# 5. The heads, from the last state


@accelerated
def masked_lm(p, config, x):  # (B, L, D) → (B, L, V)
    words, p = p["nystromformer"]["embeddings"]["word_embeddings"]["weight"], p["cls"]["predictions"]
    y = get_activation(config.hidden_act)(linear(x, **p["transform"]["dense"]))
    y = layer_norm(y, **p["transform"]["LayerNorm"], eps=config.layer_norm_eps)
    return linear(y, words if config.tie_word_embeddings else p["decoder"]["weight"], p["bias"])


def sequence_classification(p, config, x):  # (B, L, D) → (B, C), from the first token
    y = get_activation(config.hidden_act)(linear(x[:, 0], **p["classifier"]["dense"]))
    return linear(y, **p["classifier"]["out_proj"])


def multiple_choice(p, config, x):  # (B · choices, L, D) → (B · choices, 1)
    return linear(relu(linear(x[:, 0], **p["pre_classifier"])), **p["classifier"])


def token_classification(p, config, x):  # (B, L, D) → (B, L, C)
    return linear(x, **p["classifier"])


def question_answering(p, config, x):  # (B, L, D) → (B, L, 2): how well the answer begins and ends at each token
    return linear(x, **p["qa_outputs"])
