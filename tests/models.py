"""Small models with peaked attention, and what they are to compute.

What the package computes in blocks, threads and bounded memory is compared with its definitions (`defined`); and where
these could go wrong alike, with attention written a second time (`plainly`): loops over sequences, heads and positions
in float64, by formulas that share nothing with the package.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest

from nystrom_np import (
    NystromformerConfig,
    NystromformerForMaskedLM,
    NystromformerForMultipleChoice,
    NystromformerForQuestionAnswering,
    NystromformerForSequenceClassification,
    NystromformerForTokenClassification,
    NystromformerModel,
    definition,
)
from nystrom_np.fast import definitions
from nystrom_np.outputs import ModelOutput
from nystrom_np.testing.parameters import peaked
from tests.backends import Backend

BODY = NystromformerModel
MASKED_LM = NystromformerForMaskedLM
SEQUENCE = NystromformerForSequenceClassification
CHOICE = NystromformerForMultipleChoice
TOKEN = NystromformerForTokenClassification
ANSWER = NystromformerForQuestionAnswering
HEADS = (MASKED_LM, SEQUENCE, CHOICE, TOKEN, ANSWER)
MODELS = (BODY, *HEADS)

DENSE = {"num_landmarks": 8, "segment_means_seq_len": 8}
NYSTROM = {"num_landmarks": 4, "segment_means_seq_len": 16}
BRANCHES = {"dense": DENSE, "nystrom": NYSTROM}

BASE = {
    "vocab_size": 53,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "type_vocab_size": 3,
    "conv_kernel_size": 5,
}

Arrays = dict[str, np.ndarray]


def small_config(branch: str = "nystrom", **fields: Any) -> NystromformerConfig:
    return NystromformerConfig(**{**BASE, **BRANCHES[branch], **fields})


def build_another(model: type, branch: str = "nystrom", length: int = 16, dtype: str = "float64", **fields: Any) -> Any:
    """A model whose attention over a sequence of a length is peaked, without being one-hot."""
    config = small_config(branch, **fields)
    return model(config, parameters=peaked(config, model.parameter_shapes(config), length), dtype=dtype)


build_once = cache(build_another)


def build(model: type, *arguments: Any, **fields: Any) -> Any:
    """The model of :func:`build_another`, made once for all tests, which must not change it.

    In a test that runs on every backend (fixture `anywhere`) it computes there, and answers with NumPy arrays.
    """
    here = build_once(model, *arguments, **fields)
    return here if _backend is None else Elsewhere(here, _backend)


_backend: Backend | None = None


@contextmanager
def computing_on(backend: Backend) -> Iterator[None]:
    """Let :func:`build` give models that compute on a backend."""
    global _backend
    before, _backend = _backend, None if backend.name == "numpy" else backend
    try:
        yield
    finally:
        _backend = before


class Elsewhere:
    """A model whose twin on another backend computes what it is asked; everything else is the model's own."""

    def __init__(self, here: Any, backend: Backend) -> None:
        self._here, self._backend = here, backend
        parameters = {name: backend.array(value) for name, value in here.state_dict().items()}
        self._there = type(here)(here.config, parameters=parameters)
        self.predict = self._there.predict

    def __getattr__(self, name: str) -> Any:
        return getattr(self._here, name)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._on_host(self._there(*arguments, **named))

    forward = __call__

    def _on_host(self, value: Any, moved: dict[int, Any] | None = None) -> Any:
        moved = {} if moved is None else moved  # an array that is there twice is so on the host too
        if isinstance(value, ModelOutput):
            named = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return dataclasses.replace(value, **{name: self._on_host(array, moved) for name, array in named.items()})
        if isinstance(value, tuple):
            return tuple(self._on_host(array, moved) for array in value)
        if value is not None and id(value) not in moved:
            moved[id(value)] = self._backend.numpy(value)
        return None if value is None else moved[id(value)]


def token_ids(*shape: int, seed: int = 0) -> np.ndarray:
    """Ids of the small models' vocabulary, without the special ones."""
    return np.random.RandomState(seed).randint(3, BASE["vocab_size"], size=shape)


def inputs_for(model: type, batch: int = 2, length: int = 11, seed: int = 0) -> Arrays:
    """Every argument that a head takes, but for `inputs_embeds` and `head_mask`; the last row is padded."""
    state = np.random.RandomState(seed)
    shape = (batch, 3, length) if model is CHOICE else (batch, length)
    mask = np.ones(shape, np.int64)
    mask[-1, ..., length - 3 :] = 0
    given = {
        "input_ids": token_ids(*shape, seed=seed),
        "attention_mask": mask,
        "token_type_ids": state.randint(0, BASE["type_vocab_size"], size=shape),
        "position_ids": state.randint(0, BASE["max_position_embeddings"] + 2, size=shape),
    }
    return given | labels_for(model, batch, length, seed)


def labels_for(model: type, batch: int = 2, length: int = 11, seed: int = 0) -> Arrays:
    state = np.random.RandomState(seed + 1)
    if model is MASKED_LM:
        labels = state.randint(0, BASE["vocab_size"], size=(batch, length))
        labels[:, 1::3] = -100
        return {"labels": labels}
    if model is TOKEN:
        return {"labels": state.randint(0, 2, size=(batch, length))}
    if model is ANSWER:
        return {"start_positions": np.arange(batch) + 1, "end_positions": np.arange(batch) + 3}
    return {} if model is BODY else {"labels": state.randint(0, 2, size=batch)}


def logits_of(out: Any) -> list[np.ndarray]:
    """What a model answers: its logits, or the bare model's last hidden state."""
    names = ("last_hidden_state", "logits", "start_logits", "end_logits")
    return [out[name] for name in names if name in out]


def assert_close(found: Any, expected: Any, atol: float = 1e-10) -> None:
    """The same shape, and everywhere the same number up to `atol` (relative where larger than one)."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=atol, atol=atol)


# ------------------------------------------------------------------------------------- what is to come out


EVERYTHING = {"output_attentions": True, "output_hidden_states": True}


def defined(model: Any, *arguments: Any, **named: Any) -> Any:
    """What a model computes by the definitions alone, on NumPy: every hidden state and attention too."""
    with definitions():
        return getattr(model, "_here", model)(*arguments, **named, **EVERYTHING)


Attend = Callable[..., tuple[np.ndarray, np.ndarray]]


@contextmanager
def attending(attend: Attend) -> Iterator[None]:
    """Let attention be another formula's, amid the definitions of everything else.

    `attend` is (config, query, key, value, mask (B, L) or (B, L, L), convolution weight) → (context, attention).
    """

    def self_attention(
        p: dict[str, Any], config: NystromformerConfig, x: np.ndarray, mask: Any = None, head_mask: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        assert head_mask is None
        per_query = mask is not None and mask.shape[-2] > 1
        mask = np.ones(x.shape[:2]) if mask is None else np.float64(mask[:, 0] if per_query else mask[:, 0, 0])
        mask = np.broadcast_to(mask, (len(x), *mask.shape[1:]))
        conv = p["conv"]["weight"] if "conv" in p else None
        context, attention = attend(config, *definition.project(p, config, x), mask, conv)
        return context.transpose(0, 2, 1, 3).reshape(x.shape), attention

    with definitions(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(definition, "self_attention", self_attention)
        yield


def plainly(model: Any, *arguments: Any, attend: Attend | None = None, **named: Any) -> Any:
    """What a model computes with its attention written a second time, one head after the other."""
    with attending(attend or plain_attention):
        return defined(model, *arguments, **named)


def assert_everything(found: Any, expected: Any) -> None:
    """The same hidden states and attentions, as many."""
    for ours, others in ((found.hidden_states, expected.hidden_states), (found.attentions, expected.attentions)):
        assert len(ours) == len(others) > 0
        for one, other in zip(ours, others, strict=True):
            assert_close(one, other)


def plain_attention(
    config: NystromformerConfig,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray,
    conv: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The reference's attention with its mask, exact where there are as many landmarks as tokens."""
    batch, heads, length, _ = q.shape
    m = config.num_landmarks
    exact = m == config.segment_means_seq_len or length <= m
    context, attention = np.zeros_like(v), np.zeros((batch, heads, length, length if exact else m))
    kernel_2 = None if exact else [[landmark_kernel(q[b, h], k[b, h], m) for h in range(heads)] for b in range(batch)]
    for b in range(batch):
        penalty = (1.0 - mask[b]) * np.finfo(np.float64).min
        for h in range(heads):
            if exact:
                attention[b, h] = plain_softmax(q[b, h] @ k[b, h].T + penalty)
                context[b, h] = attention[b, h] @ v[b, h]
            else:
                a = kernel_2[b][h]
                largest = a.sum(axis=0).max() if config.inv_coeff_init_option else max_column_sum(kernel_2)
                kernel_1 = plain_softmax(q[b, h] @ plain_landmarks(k[b, h], m).T)
                kernel_3 = plain_softmax(plain_landmarks(q[b, h], m) @ k[b, h].T + penalty)
                attention[b, h] = kernel_1 @ plain_inverse(a, largest, config.pinv_iterations)
                context[b, h] = attention[b, h] @ kernel_3 @ v[b, h]
            if conv is not None:
                context[b, h] += plain_convolution(v[b, h], conv[h, 0, :, 0])
    return context, attention


def landmark_kernel(q: np.ndarray, k: np.ndarray, m: int) -> np.ndarray:
    return plain_softmax(plain_landmarks(q, m) @ plain_landmarks(k, m).T)


def max_column_sum(kernels: list[list[np.ndarray]]) -> float:
    return max(a.sum(axis=0).max() for heads in kernels for a in heads)


def plain_softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def plain_landmarks(x: np.ndarray, m: int) -> np.ndarray:
    """Means of consecutive segments, the shorter ones first."""
    length = len(x)
    sizes = [length // m] * (m - length % m) + [length // m + 1] * (length % m)
    ends = np.cumsum(sizes)
    return np.stack([x[end - size : end].mean(axis=0) for size, end in zip(sizes, ends, strict=True)])


def plain_inverse(a: np.ndarray, largest: float, iterations: int = 6) -> np.ndarray:
    one, z = np.eye(len(a)), a.T / largest
    for _ in range(iterations):
        z = z @ (13 * one - a @ z @ (15 * one - a @ z @ (7 * one - a @ z))) / 4
    return z


def plain_convolution(v: np.ndarray, taps: np.ndarray) -> np.ndarray:
    out = np.zeros_like(v)
    for t in range(len(v)):
        for s, tap in enumerate(taps):
            if 0 <= t + s - len(taps) // 2 < len(v):
                out[t] += tap * v[t + s - len(taps) // 2]
    return out
