"""The traces that ship as test vectors, of two tiny checkpoints: ``python -m tests.vectors`` writes them anew.

Each folder of ``tests/data/traces`` has a checkpoint whose parameters are all non-trivial, and its trace in float64.
"""

from pathlib import Path

import numpy as np

from nystrom_np import NystromformerConfig, NystromformerForMaskedLM
from nystrom_np.testing import random_model
from nystrom_np.trace import Trace, trace
from nystrom_np.trace_file import save_trace

FOLDER = Path(__file__).resolve().parent / "data" / "traces"
LANDMARKS = {"dense": 4, "nystrom": 3}
"""Of each folder's checkpoint; ``segment_means_seq_len`` is 4, so that as many mean exact attention."""


def traced(branch: str) -> Trace:
    """The trace of a branch's checkpoint on two sequences, one of them padded, with labels."""
    config = NystromformerConfig(
        vocab_size=11, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=10,
        max_position_embeddings=10, type_vocab_size=2, conv_kernel_size=3, segment_means_seq_len=4,
        num_landmarks=LANDMARKS[branch], hidden_act="gelu_new",
    )  # fmt: skip
    model = random_model(config, seed=1, head=NystromformerForMaskedLM)
    ids = np.array([[2, 7, 5, 9, 10, 6, 8, 3], [2, 4, 8, 3, 5, 1, 1, 1]])
    labels = np.where(ids % 3 == 2, ids, -100)
    types = np.array([[0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 0, 0, 0]])
    return trace(model, input_ids=ids, attention_mask=np.int64(ids != 1), token_type_ids=types, labels=labels)


if __name__ == "__main__":
    for branch in LANDMARKS:
        steps = traced(branch)
        steps.model.save_pretrained(FOLDER / branch)
        save_trace(steps, FOLDER / branch / "trace.safetensors")
