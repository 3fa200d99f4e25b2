"""What is computed by both sides: configurations, weights and inputs, as plain data.

Everything is drawn by ``numpy.random.RandomState``, uniformly: its stream is frozen, and a uniform draw
times a square root is the same to the bit on every machine. So weights and inputs need not be stored.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

MODEL = "NystromformerModel"
MASKED_LM = "NystromformerForMaskedLM"
SEQUENCE = "NystromformerForSequenceClassification"
CHOICE = "NystromformerForMultipleChoice"
TOKEN = "NystromformerForTokenClassification"
ANSWER = "NystromformerForQuestionAnswering"
HEADS = (MODEL, MASKED_LM, SEQUENCE, CHOICE, TOKEN, ANSWER)

# The two branches: equal numbers run softmax attention, unequal ones the Nyström approximation, which the
# reference computes rightly only for num_landmarks * (segment_means_seq_len // num_landmarks) tokens.
DENSE = {"num_landmarks": 8, "segment_means_seq_len": 8}
NYSTROM = {"num_landmarks": 4, "segment_means_seq_len": 16}
BRANCHES = {"dense": DENSE, "nystrom": NYSTROM}
LENGTH = {"dense": 11, "nystrom": 16}

BASE = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "hidden_act": "gelu_new",
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "conv_kernel_size": 5,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}

ACTIVATIONS = [
    *(
        "gelu",
        "gelu_python",
        "gelu_10",
        "gelu_new",
        "gelu_pytorch_tanh",
        "gelu_accurate",
        "gelu_fast",
        "quick_gelu",
    ),
    *(
        "relu",
        "relu2",
        "relu6",
        "leaky_relu",
        "silu",
        "swish",
        "mish",
        "sigmoid",
        "tanh",
        "linear",
        "laplace",
    ),
]

# Why transformers 5.23.0 is not asked some of it, with the error that it raises.
PADDED_NYSTROM = "RuntimeError: its mask of a padded batch became (B, 1, L, L), which the Nyström branch cannot add"
SHARED_MASK = "IndexError: it looks a (1, L) mask up by the number of the sequence"
SQUARE_MASK = "RuntimeError: it takes a mask of rank 3 for one of rank 4"
NO_CONVOLUTION = "StrictDataclassFieldValidationError: it refuses a conv_kernel_size of null"


@dataclass(frozen=True)
class Case:
    """One forward pass: a head, its configuration and weights, and what it is called with."""

    name: str
    head: str
    config: dict
    inputs: dict[str, np.ndarray]
    flags: dict[str, bool] = field(default_factory=dict)
    seed: int = 0
    sharpness: tuple[float, float] | None = None  # see draw_parameters; None: by the branch
    not_in_5: str | None = None  # why transformers 5.23.0 is not asked

    def parameters(self) -> dict[str, np.ndarray]:
        """Return the weights, under the reference's names."""
        return draw_parameters(self.head, self.config, self.seed, self.sharpness)

    def digest(self) -> str:
        """Identify configuration, weights, inputs and flags: stored outputs belong to exactly these."""
        told = hashlib.sha256(
            repr((self.head, sorted(self.config.items(), key=str), sorted(self.flags.items()))).encode()
        )
        for name, array in sorted({**self.parameters(), **{"inputs." + k: v for k, v in self.inputs.items()}}.items()):
            told.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
        return told.hexdigest()


# --------------------------------------------------------------------------------------------------- weights


def number_of_labels(config: dict) -> int:
    """Return how many labels the classification heads have: two unless the configuration says otherwise."""
    return config.get("num_labels", len(config.get("id2label", "ab")))


def parameter_shapes(head: str, config: dict) -> dict[str, tuple[int, ...]]:
    """List the reference's state dict: parameter names and shapes, a tied decoder left out."""
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    body = {
        "embeddings.word_embeddings.weight": (vocabulary, hidden),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"] + 2, hidden),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], hidden),
        **_layer_norm("embeddings.LayerNorm", hidden),
    }
    for index in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{index}."
        for projection in ("query", "key", "value"):
            body.update(_linear(f"{layer}attention.self.{projection}", hidden, hidden))
        if config["conv_kernel_size"] is not None:
            shape = (config["num_attention_heads"], 1, config["conv_kernel_size"], 1)
            body[f"{layer}attention.self.conv.weight"] = shape
        body.update(_linear(f"{layer}attention.output.dense", hidden, hidden))
        body.update(_layer_norm(f"{layer}attention.output.LayerNorm", hidden))
        body.update(_linear(f"{layer}intermediate.dense", inner, hidden))
        body.update(_linear(f"{layer}output.dense", hidden, inner))
        body.update(_layer_norm(f"{layer}output.LayerNorm", hidden))
    if head == MODEL:
        return body
    shapes = {f"nystromformer.{name}": shape for name, shape in body.items()}
    shapes.update(_head_shapes(head, config))
    return shapes


def _head_shapes(head: str, config: dict) -> dict[str, tuple[int, ...]]:
    hidden, labels = config["hidden_size"], number_of_labels(config)
    if head == MASKED_LM:
        shapes = {
            **_linear("cls.predictions.transform.dense", hidden, hidden),
            **_layer_norm("cls.predictions.transform.LayerNorm", hidden),
            "cls.predictions.bias": (config["vocab_size"],),
        }
        if not config.get("tie_word_embeddings", True):
            shapes.update(_linear("cls.predictions.decoder", config["vocab_size"], hidden))
        return shapes
    if head == SEQUENCE:
        return {
            **_linear("classifier.dense", hidden, hidden),
            **_linear("classifier.out_proj", labels, hidden),
        }
    if head == CHOICE:
        return {**_linear("pre_classifier", hidden, hidden), **_linear("classifier", 1, hidden)}
    if head == TOKEN:
        return _linear("classifier", labels, hidden)
    return _linear("qa_outputs", 2, hidden)


def _linear(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _layer_norm(name: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def draw_parameters(
    head: str, config: dict, seed: int = 0, sharpness: tuple[float, float] | None = None
) -> dict[str, np.ndarray]:
    """Draw float32 weights wide enough that attention is peaked, each from a stream of its own.

    A wrong inverse goes unseen where attention is nearly uniform, as it is with the usual 0.02. `sharpness`
    is about the standard deviation of the scores of unit-variance hidden states, in the first layer and in
    the others, where attention has made the tokens more alike; the mean of n tokens divides it by n.
    """
    if sharpness is None:
        segment = config["segment_means_seq_len"] // config["num_landmarks"]
        sharpness = (5.0, 8.0) if segment == 1 else (1.8 * segment, 1.9 * segment)
    parameters = {
        name: _draw(name, shape, config, seed, sharpness) for name, shape in parameter_shapes(head, config).items()
    }
    if "cls.predictions.decoder.bias" in parameters:  # one parameter under two names
        parameters["cls.predictions.bias"] = parameters["cls.predictions.decoder.bias"]
    return parameters


def _draw(name: str, shape: tuple[int, ...], config: dict, seed: int, sharpness: tuple[float, float]) -> np.ndarray:
    spread = math.sqrt(3.0)  # a uniform draw from ±√3 has variance 1
    uniform = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32).random_sample(shape) * 2.0 - 1.0
    if name.endswith("LayerNorm.weight"):
        drawn = 1.0 + 0.3 * uniform
    elif name.endswith("bias"):
        drawn = 0.3 * uniform
    elif "embeddings" in name:
        drawn = spread * uniform
    elif name.endswith("conv.weight"):
        drawn = spread / math.sqrt(config["conv_kernel_size"]) * uniform
    elif name.endswith(("query.weight", "key.weight")):
        drawn = spread * math.sqrt(sharpness[".layer.0." not in name] / shape[1]) * uniform
    else:
        drawn = spread / math.sqrt(shape[-1]) * uniform
    return drawn.astype(np.float32)


# ---------------------------------------------------------------------------------------------------- inputs


class _Draw:
    """Inputs of one case, drawn from one stream."""

    def __init__(self, seed: int):
        self.state = np.random.RandomState(seed)

    def integers(self, low: int, high: int, *shape: int) -> np.ndarray:
        return self.state.randint(low, high, size=shape).astype(np.int64)

    def floats(self, *shape: int) -> np.ndarray:
        """Draw values of both signs with variance 1, exact in float32."""
        return (math.sqrt(3.0) * (self.state.random_sample(shape) * 2.0 - 1.0)).astype(np.float32)


def padding_mask(rows: int, length: int, real: list[int]) -> np.ndarray:
    """Mask of 1 for the first `real` tokens of each row, and 0 after them."""
    return (np.arange(length) < np.resize(np.array(real), rows)[:, None]).astype(np.int64)


def _rows(head: str, batch: int, length: int) -> tuple[int, ...]:
    """Shape of the ids: multiple choice has three choices an example."""
    return (batch, 3, length) if head == CHOICE else (batch, length)


def _body_variants(head: str, branch: str) -> Iterator[tuple[str, dict[str, np.ndarray], str | None]]:
    """Each way of calling the body, for every head and branch."""
    length = LENGTH[branch]
    shape = _rows(head, 2, length)
    sequences = math.prod(shape[:-1])
    draw = _Draw(zlib.crc32(f"{head} {branch}".encode()))
    ids = draw.integers(3, BASE["vocab_size"], *shape)
    ids[..., -1] = BASE["pad_token_id"]  # the row of the padding token is read like any other
    mask = padding_mask(sequences, length, [length - 4, length, 3]).reshape(shape)
    masked_row = mask.copy()
    masked_row.reshape(sequences, length)[0] = 0
    refused = PADDED_NYSTROM if branch == "nystrom" else None
    positions = draw.integers(0, BASE["max_position_embeddings"] + 2, *shape)  # 0 and max + 1 are rows of the table
    positions[..., 0], positions[..., 1] = 0, BASE["max_position_embeddings"] + 1

    yield "plain", {"input_ids": ids}, None
    yield "all_ones_mask", {"input_ids": ids, "attention_mask": np.ones(shape, np.int64)}, None
    yield "mask", {"input_ids": ids, "attention_mask": mask}, refused
    yield "bool_mask", {"input_ids": ids, "attention_mask": mask.astype(bool)}, refused
    yield "float_mask", {"input_ids": ids, "attention_mask": mask.astype(np.float32)}, refused
    yield "masked_row", {"input_ids": ids, "attention_mask": masked_row}, refused
    yield "token_types", {"input_ids": ids, "token_type_ids": draw.integers(0, 2, *shape)}, None
    yield "position_ids_L", {"input_ids": ids, "position_ids": positions.reshape(-1, length)[0]}, None
    yield "position_ids_1_L", {"input_ids": ids, "position_ids": positions.reshape(-1, length)[:1]}, None
    yield "position_ids_B_L", {"input_ids": ids, "position_ids": positions}, None
    yield "position_ids_B_1", {"input_ids": ids, "position_ids": positions[..., 2:3]}, None
    yield "inputs_embeds", {"inputs_embeds": draw.floats(*shape, BASE["hidden_size"])}, None
    everything = {
        "token_type_ids": draw.integers(0, 2, *shape),
        "attention_mask": mask,
        "position_ids": positions,
        "inputs_embeds": draw.floats(*shape, BASE["hidden_size"]),
    }
    yield "everything", everything, refused
    if head != CHOICE:
        shared = {"input_ids": ids, "attention_mask": mask[:1]}
        yield "mask_1_L", shared, SHARED_MASK
        if branch == "dense":
            square = draw.integers(0, 4, 2, length, length).clip(0, 1)
            square[0, 2] = 0  # one query that may look nowhere
            yield "square_mask", {"input_ids": ids, "attention_mask": square}, SQUARE_MASK


def body_cases() -> Iterator[Case]:
    """Every head on both branches, called in every way the body knows."""
    for head in HEADS:
        for branch, sizes in BRANCHES.items():
            config = {**BASE, **sizes}
            if head == TOKEN:
                config["num_labels"] = 5
            for name, inputs, refused in _body_variants(head, branch):
                returned = {"output_hidden_states": True, "output_attentions": True}
                flags = returned if name in ("plain", "mask", "square_mask") else {}
                seed = int(head == TOKEN)  # the first draw has one layer just above the peakedness wanted
                yield Case(f"{name}-{branch}", head, config, inputs, flags, seed, not_in_5=refused)


# ---------------------------------------------------------------------------------------------------- losses


def _sequence_losses(draw: _Draw) -> Iterator[tuple[str, dict, np.ndarray]]:
    """``(name, configuration, labels)`` for three examples."""
    classes, floats = draw.integers(0, 4, 3), draw.floats(3, 4)
    ignored = np.array([2, -100, 0])
    binary = draw.integers(0, 2, 3, 4).astype(np.float32)
    four = {"num_labels": 4}
    regression = {"problem_type": "regression"}
    single = {**four, "problem_type": "single_label_classification"}
    several = {**four, "problem_type": "multi_label_classification"}
    yield "regression_one_label", {**regression, "num_labels": 1}, draw.floats(3)
    yield "regression_one_label_column", {**regression, "num_labels": 1}, draw.floats(3, 1)
    yield "regression_several_labels", {**regression, **four}, floats
    yield "regression_broadcast_labels", {**regression, "num_labels": 3}, draw.floats(3)
    yield "single_label", single, classes
    yield "single_label_column", single, classes[:, None]
    yield "single_label_ignored", single, ignored
    yield "single_label_all_ignored", single, np.full(3, -100)
    yield "multi_label", several, binary
    yield "multi_label_soft", several, draw.state.random_sample((3, 4)).astype(np.float32)
    yield "inferred_regression", {"num_labels": 1}, draw.floats(3)
    yield "inferred_single_label", four, classes
    yield "inferred_multi_label", four, binary


def _head_losses(draw: _Draw, length: int) -> Iterator[tuple[str, str, dict, dict[str, np.ndarray]]]:
    """``(head, name, configuration, labels)`` for three examples of `length` tokens."""
    for name, config, labels in _sequence_losses(draw):
        yield SEQUENCE, name, config, {"labels": labels}
    tokens = draw.integers(0, BASE["vocab_size"], 3, length)
    few = np.where(draw.integers(0, 3, 3, length) == 0, tokens, -100)
    for name, labels in (("labels", tokens), ("ignored", few), ("all_ignored", np.full_like(few, -100))):
        yield MASKED_LM, name, {}, {"labels": labels}
    tags = draw.integers(0, 5, 3, length)
    few = np.where(draw.integers(0, 3, 3, length) == 0, tags, -100)
    for name, labels in (("labels", tags), ("ignored", few), ("all_ignored", np.full_like(few, -100))):
        yield TOKEN, name, {"num_labels": 5}, {"labels": labels}
    soft = draw.state.random_sample((3, 3)).astype(np.float32)
    for name, labels in (
        ("labels", np.array([2, 0, 1])),
        ("ignored", np.array([2, -100, 1])),
        ("soft_labels", soft / 4),  # exact, and need not sum to one
    ):
        yield CHOICE, name, {}, {"labels": labels}
    starts, ends = np.array([1, 4, 0]), np.array([2, length - 1, 5])
    beyond = np.array([length, length + 7, 3])
    for name, labels in (
        ("positions", {"start_positions": starts, "end_positions": ends}),
        ("positions_column", {"start_positions": starts[:, None], "end_positions": ends[:, None]}),
        ("positions_beyond", {"start_positions": beyond, "end_positions": ends}),
        ("positions_negative", {"start_positions": np.array([-100, 4, -1]), "end_positions": ends}),
        ("positions_all_ignored", {"start_positions": np.full(3, length), "end_positions": np.full(3, 99)}),
        ("start_only", {"start_positions": starts}),
        ("end_only", {"end_positions": ends}),
    ):
        yield ANSWER, name, {}, labels


def loss_cases() -> Iterator[Case]:
    """Every loss, on both branches; the longer outputs are left to the other cases."""
    for branch, sizes in BRANCHES.items():
        length = LENGTH[branch]
        draw = _Draw(7)
        for head, name, config, labels in _head_losses(draw, length):
            ids = draw.integers(3, BASE["vocab_size"], *_rows(head, 3, length))
            inputs = {"input_ids": ids, **labels}
            yield Case(f"loss-{name}-{branch}", head, {**BASE, **sizes, **config}, inputs, seed=11)


# -------------------------------------------------------------------------------------------- configurations


def _config_variants(branch: str) -> Iterator[tuple[str, str, dict]]:
    """``(name, head, changes)`` to the base configuration of a branch."""
    yield "no_convolution", MODEL, {"conv_kernel_size": None}
    yield "wide_convolution", MODEL, {"conv_kernel_size": 33}
    yield "convolution_of_one", MODEL, {"conv_kernel_size": 1}
    yield "one_head", MODEL, {"num_attention_heads": 1}
    yield "many_heads", MODEL, {"num_attention_heads": 8}
    yield "three_layers", MODEL, {"num_hidden_layers": 3}
    yield "large_layer_norm_eps", MODEL, {"layer_norm_eps": 0.25}
    yield "one_token_type", MODEL, {"type_vocab_size": 1}
    yield "four_token_types", MODEL, {"type_vocab_size": 4}
    yield "no_padding_id", MODEL, {"pad_token_id": None}
    yield "untied", MASKED_LM, {"tie_word_embeddings": False}
    yield "chunked", MODEL, {"chunk_size_feed_forward": 4}
    yield "chunk_off", MODEL, {"chunk_size_feed_forward": -1}
    yield "flags_in_config", TOKEN, {"output_hidden_states": True, "output_attentions": True, "num_labels": 3}
    yield "tuple_in_config", SEQUENCE, {"return_dict": False, "output_attentions": True, "num_labels": 3}
    yield "wider", MODEL, {"hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 64}


def config_cases() -> Iterator[Case]:
    """Configurations away from the base, on both branches."""
    for branch, sizes in BRANCHES.items():
        length = {"dense": 12, "nystrom": 16}[branch]
        for name, head, changes in _config_variants(branch):
            draw = _Draw(zlib.crc32(name.encode()))
            config = {**BASE, **sizes, **changes}
            inputs = {"input_ids": draw.integers(3, BASE["vocab_size"], 2, length)}
            if config["type_vocab_size"] > 2:
                inputs["token_type_ids"] = draw.integers(0, config["type_vocab_size"], 2, length)
            flags = {"output_attentions": True} if head == MODEL else {}
            refused = NO_CONVOLUTION if config["conv_kernel_size"] is None else None
            yield Case(f"config-{name}-{branch}", head, config, inputs, flags, seed=5, not_in_5=refused)


def activation_cases() -> Iterator[Case]:
    """Each activation of 4.37.2, in the feed-forward and in the classification head."""
    config = {**BASE, **DENSE, "num_hidden_layers": 1, "num_labels": 3}
    ids = _Draw(3).integers(3, BASE["vocab_size"], 2, 6)
    for name in ACTIVATIONS:
        inputs = {"input_ids": ids}
        yield Case(
            f"activation-{name}",
            SEQUENCE,
            {**config, "hidden_act": name},
            inputs,
            {"output_hidden_states": True},
        )
    for name in ("gelu", "relu", "tanh"):  # also in the head of the masked language model
        config = {**BASE, **NYSTROM, "num_hidden_layers": 1, "hidden_act": name}
        yield Case(f"activation-{name}", MASKED_LM, config, {"input_ids": _Draw(4).integers(3, 60, 1, 16)})


# --------------------------------------------------------------------------------------- Nyström, and tuples


def nystrom_cases() -> Iterator[Case]:
    """Numbers of landmarks and sequences: the inverse starts from one value for the whole batch."""
    sizes = (
        (1, 12, 12, None),
        (2, 12, 12, None),
        (3, 8, 6, None),
        (8, 16, 16, (6.0, 9.6)),
        (8, 35, 32, None),
        (32, 64, 64, (9.0, 14.4)),
    )
    for landmarks, seen, length, sharpness in sizes:
        config = {
            **BASE,
            "num_landmarks": landmarks,
            "segment_means_seq_len": seen,
            "max_position_embeddings": 64,
        }
        inputs = {"input_ids": _Draw(landmarks + seen).integers(3, BASE["vocab_size"], 2, length)}
        returned = {"output_attentions": True, "output_hidden_states": True}
        yield Case(f"nystrom-{landmarks}_of_{seen}", MODEL, config, inputs, returned, sharpness=sharpness)
    ids = _Draw(10).integers(3, BASE["vocab_size"], 4, 16)  # the largest column sum is not the first sequence's
    for batch in (1, 2, 4):
        returned = {"output_attentions": True}
        yield Case(f"nystrom-batch_of_{batch}", MODEL, {**BASE, **NYSTROM}, {"input_ids": ids[:batch]}, returned)


def tuple_cases() -> Iterator[Case]:
    """``return_dict=False``: what is in the tuple, in which order."""
    labels = {
        MODEL: {},
        MASKED_LM: {"labels": np.full((2, 16), 7)},
        SEQUENCE: {"labels": np.array([1, 0])},
        CHOICE: {"labels": np.array([1, 0])},
        TOKEN: {"labels": np.ones((2, 16), np.int64)},
        ANSWER: {"start_positions": np.array([1, 0]), "end_positions": np.array([3, 9])},
    }
    for head in HEADS:
        config = {**BASE, **NYSTROM, "num_hidden_layers": 1}
        inputs = {"input_ids": _Draw(8).integers(3, BASE["vocab_size"], *_rows(head, 2, 16))}
        bare = {"return_dict": False}
        yield Case("tuple-bare", head, config, inputs, bare)
        yield Case("tuple-attentions", head, config, inputs, {**bare, "output_attentions": True})
        full = {**bare, "output_attentions": True, "output_hidden_states": True}
        yield Case("tuple-full", head, config, {**inputs, **labels[head]}, full)


def all_cases() -> list[Case]:
    """Every case; (head, name) identifies it."""
    makers = (body_cases, loss_cases, config_cases, activation_cases, nystrom_cases, tuple_cases)
    return [case for maker in makers for case in maker()]
