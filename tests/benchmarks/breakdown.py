"""Where a forward pass spends its time: the encoder's own functions, with a clock around each."""

from __future__ import annotations

import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nystrom_np.fast import on_numpy
from nystrom_np.fast.on_numpy import encoder
from nystrom_np.fast.on_numpy.threads import thread_count

PARTS = ("projection", "feed-forward", "attention", "convolution", "elementwise", "rest")


class Clocks:
    """Seconds of all threads together for each part; the main thread's calls have all threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    def around(self, part: str | Callable[..., str], function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time added to a part, which may depend on the arguments."""

        def clocked(*arguments: Any, **keywords: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments, **keywords)
            seconds = time.perf_counter() - start
            if threading.current_thread() is threading.main_thread():
                seconds *= thread_count()
            with self._lock:
                self.seconds[part if isinstance(part, str) else part(*arguments, **keywords)] += seconds
            return result

        return clocked


def kind_of_product(x: Any, weight: Any, bias: Any = 0.0, *, out: Any = None) -> str:
    """Projections keep the width, the feed-forward products do not."""
    return "projection" if weight.shape[0] == weight.shape[1] else "feed-forward"


@contextmanager
def clocked_encoder() -> Iterator[Clocks]:
    """Put clocks around the encoder's functions in this block."""
    clocks = Clocks()
    replaced = {
        (encoder, "linear"): clocks.around(kind_of_product, encoder.linear),
        (on_numpy, "softmax_attention"): clocks.around("attention", on_numpy.softmax_attention),
        (on_numpy, "nystrom_attention"): clocks.around("attention", on_numpy.nystrom_attention),
        (on_numpy, "depthwise_conv"): clocks.around("convolution", on_numpy.depthwise_conv),
        (encoder, "overwrite"): clocks.around("elementwise", encoder.overwrite),
        (encoder, "embeddings"): clocks.around("elementwise", encoder.embeddings),
    }
    originals = {place: getattr(*place) for place in replaced}
    try:
        for (module, name), function in replaced.items():
            setattr(module, name, function)
        yield clocks
    finally:
        for (module, name), function in originals.items():
            setattr(module, name, function)


def breakdown(run: Callable[[], Any], times: int) -> dict[str, float]:
    """The share of each part in a run of what has run before, the median of some runs; ``rest`` is what no clock saw.

    That is cutting and joining heads, handing work to threads, and waiting for the last of them.
    """
    shares: dict[str, list[float]] = defaultdict(list)
    for _ in range(times):
        with clocked_encoder() as clocks:
            start = time.perf_counter()
            run()
            whole = (time.perf_counter() - start) * thread_count()
        for part in PARTS[:-1]:
            shares[part].append(clocks.seconds[part] / whole)
        shares["rest"].append(1.0 - sum(clocks.seconds.values()) / whole)
    return {part: statistics.median(shares[part]) for part in PARTS}
