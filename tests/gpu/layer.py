"""One encoder layer on a GPU, kernel by kernel: how many, how long, and how long the GPU had nothing to do between.

PyTorch's profiler sees every kernel of its process, CuPy's too. On the stand-in, which has no kernels, what is asked of
the array module is counted.
"""

import json
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nystrom_np import NystromformerConfig, NystromformerModel
from nystrom_np.array_module import array_module_of, to_device
from tests.benchmarks.cases import texts

CASES = {
    "B=1, L=16, dense": (1, 16, None),
    "B=1, L=512, dense": (1, 512, None),
    "B=32, L=512, dense": (32, 512, None),
    "B=8, L=4096, m=64, Nyström": (8, 4096, 64),
}
SMALL = {"vocab_size": 64, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48}
RUNS = 20


def layer(batch: int, length: int, landmarks: int | None, dtype: str, small: bool = False) -> Callable[[], Any]:
    """A function that runs a model of one layer, on the device already."""
    fields: dict[str, Any] = {"num_hidden_layers": 1, "max_position_embeddings": max(length, 512)}
    fields |= SMALL if small else {}
    if landmarks:
        fields |= {"num_landmarks": landmarks, "segment_means_seq_len": length}
    model = NystromformerModel(NystromformerConfig(**fields), seed=0, dtype=dtype).to("cuda")
    ids = to_device(texts(model.config.vocab_size, [length] * batch)[1]["input_ids"], "cuda")
    return lambda: model(ids)


def profile(run: Callable[[], Any], runs: int = RUNS) -> dict[str, Any]:
    """What the host and the GPU do in a run, all in seconds."""
    synchronize = array_module_of("cuda").cuda.Device().synchronize
    run()
    synchronize()
    queued, done = [], []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        queued.append(time.perf_counter() - start)
        synchronize()
        done.append(time.perf_counter() - start)
    told = {"queued": statistics.median(queued), "done": statistics.median(done)}
    return told | kernels(lambda: [run() for _ in range(runs)], synchronize, runs)


def kernels(run: Callable[[], Any], synchronize: Callable[[], Any], runs: int) -> dict[str, Any]:
    """The kernels of some runs in a row, by PyTorch's profiler."""
    import torch

    torch.zeros(1, device="cuda" if torch.cuda.is_available() else "cpu")  # the profiler needs a device in use
    with torch.profiler.profile() as seen:
        run()
        synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        seen.export_chrome_trace(str(path))
        return summary(json.loads(path.read_text(encoding="utf-8"))["traceEvents"], runs)


def summary(events: list[dict[str, Any]], runs: int) -> dict[str, Any]:
    """Kernels, copies and gaps of one run among several, from the events of a trace (in µs)."""
    found = sorted(
        (event["ts"], event["dur"], event["cat"], event["name"])
        for event in events
        if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset") and "dur" in event
    )
    if not found:
        return {"error": "the profiler saw no kernel"}
    seconds: dict[str, float] = defaultdict(float)
    times = Counter(name for *_, name in found)
    ends, gaps = found[0][0], 0.0
    for start, duration, _, name in found:
        gaps += max(0.0, start - ends)
        ends = max(ends, start + duration)
        seconds[name] += duration * 1e-6 / runs
    longest = sorted(seconds, key=lambda name: -seconds[name])[:15]
    return {
        "kernels": sum(category == "kernel" for _, _, category, _ in found) / runs,
        "copies": sum(category != "kernel" for _, _, category, _ in found) / runs,
        "busy": sum(seconds.values()),
        "gaps": gaps * 1e-6 / runs,
        "longest": [{"name": name[:100], "times": times[name] / runs, "seconds": seconds[name]} for name in longest],
    }
