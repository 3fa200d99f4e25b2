"""The data flow of the model: one SVG in the page, in the text's own colour, with the shapes of a real run."""

import html
from typing import Any

import numpy as np

from docs.builder.pictures import model_and_inputs
from nystrom_np.definition import embeddings, nystrom_kernels, project, segment_means

__all__ = ["data_flow", "stages"]

WIDTH, MIDDLE = 420, 210


def stages() -> list[tuple[str, str, str]]:
    """What flows, in order: (step, formula, shape after it), of the shipped masked language model."""
    model, inputs = model_and_inputs()
    config, body = model.config, model.nystromformer
    ids = inputs["input_ids"]
    positions = np.arange(2, ids.shape[1] + 2)[None]
    x = embeddings(body._tree["embeddings"], config, ids, np.zeros_like(ids), positions)
    p = body._tree["encoder"]["layer"]["0"]
    query, key, value = project(p["attention"]["self"], config, x)
    landmarks = segment_means(query, config.num_landmarks)
    kernels = nystrom_kernels(query, key, config.num_landmarks)
    logits = model(ids).logits
    hidden = (*x.shape[:2], config.intermediate_size)
    return [
        ("token ids", "the tokenizer", _shape(ids)),
        ("embeddings", "word + token type + position, LN", _shape(x)),
        ("project", "query, key, value of each head", _shape(value)),
        ("segment_means", "landmarks of queries and keys", _shape(landmarks)),
        ("nystrom_kernels", "F, A, B", " ".join(_shape(kernel[0, 0]) for kernel in kernels)),
        ("iterative_pinv", "A⁺, six steps", _shape(kernels[1])),
        ("self_attention", "F A⁺ (B v)", _shape(value)),
        ("depthwise_conv", "+ the values, convolved", _shape(value)),
        ("linear, layer_norm", "LN(W context + x)", _shape(x)),
        ("linear, gelu_new", "act(W₁ x)", str(hidden)),
        ("encoder_layer", "LN(W₂ act(W₁ x) + x)", _shape(x)),
        ("masked_lm", "scores of the vocabulary", _shape(logits)),
    ]


def _shape(array: Any) -> str:
    return str(tuple(array.shape))


def data_flow() -> str:
    """The figure, boxes from top to bottom, arrows between them, and a bracket about what each layer repeats."""
    model, _ = model_and_inputs()
    layers, steps = model.config.num_hidden_layers, stages()
    parts, top = [], 10
    places = {}
    for name, formula, shape in steps:
        places[name] = top
        parts.append(
            f'<rect x="50" y="{top}" width="320" height="40" rx="5" fill="none" stroke="currentColor"/>'
            f'<text x="{MIDDLE}" y="{top + 17}" text-anchor="middle" font-size="14" font-weight="600">'
            f"{html.escape(name)}</text>"
            f'<text x="{MIDDLE}" y="{top + 33}" text-anchor="middle" font-size="12">{html.escape(formula)}</text>'
        )
        if name != steps[-1][0]:
            parts.append(f'<path d="M{MIDDLE} {top + 40}v22m-4-6l4 6l4-6" fill="none" stroke="currentColor"/>')
        below = f'x="{MIDDLE - 12}" y="{top + 56}" font-size="12" text-anchor="end"'
        parts.append(f"<text {below}>{html.escape(shape)}</text>")
        top += 64
    first, last = places["project"], places["encoder_layer"] + 40
    parts.append(
        f'<path d="M30 {first}h-8v{last - first}h8" fill="none" stroke="currentColor"/>'
        f'<text x="14" y="{(first + last) // 2}" font-size="13" text-anchor="middle" '
        f'transform="rotate(-90 14 {(first + last) // 2})">each of {layers} layers</text>'
    )
    # the residual paths: the layer's input skips attention, and the attention's output skips the feed-forward block
    for start, stop in (("project", "linear, layer_norm"), ("linear, layer_norm", "encoder_layer")):
        begin = places[start] - 12 if start == "project" else places[start] + 52
        parts.append(
            f'<path d="M{MIDDLE} {begin}H395V{places[stop] + 20}H371m6-4l-6 4l6 4" fill="none" stroke="currentColor" '
            f'stroke-dasharray="4 3"/>'
        )
    said = "; ".join(f"{name}: {formula}, {shape}" for name, formula, shape in steps)
    alt = html.escape(
        f"Data flow from top to bottom, with shapes. {said}. Dashed: the residual connections.", quote=True
    )
    return (
        f'<figure class="diagram"><svg viewBox="0 0 {WIDTH} {top}" role="img" aria-label="{alt}" fill="currentColor">'
        f"{''.join(parts)}</svg><figcaption>What flows through the shipped masked language model, with the shapes of a "
        f"real run: (batch, length, width), within attention (batch, heads, length, width of a head). Dashed lines are "
        f"the residual connections.</figcaption></figure>"
    )
