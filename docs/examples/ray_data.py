"""Label the texts of a corpus with Ray Data: ``python ray_data.py corpus.jsonl labels``."""

import sys

import numpy as np
import ray

from nystrom_np import pipeline


class Labels:
    """One in each worker. The pipeline comes as its folder's name, which the worker maps into memory."""

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, batch):
        """Add a column to a batch, a dict of arrays."""
        found = self.answer(list(batch["text"]))
        return {**batch, "label": np.array([one["label"] for one in found])}


if __name__ == "__main__":
    corpus, output = sys.argv[1:]
    workers = ray.data.ActorPoolStrategy(min_size=1, max_size=4)  # reading needs a core that no worker holds
    lines = ray.data.read_json(corpus)
    answer = pipeline("text-classification")
    lines.map_batches(Labels, fn_constructor_args=(answer,), batch_size=256, compute=workers).write_parquet(output)
