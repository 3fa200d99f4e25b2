"""Run changed inputs and count how they end: ``python -m tests.fuzz --cases 20000``; exit code 1 if one is wrong."""

import argparse
import random
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz import child

SHARES = {"weights": 4, "indexes": 2, "configs": 5, "tokenizers": 4, "archives": 4, "arguments": 6, "pipelines": 2}
SHARES |= {"stored": 1, "steps": 3, "commands": 2}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=1000, help="how many, over all areas")
    parser.add_argument("--first", type=int, default=0, help="the number of each area's first case")
    parser.add_argument("--area", choices=list(SHARES), action="append", help="only this one; may be repeated")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after this time")
    parser.add_argument("--keep", type=Path, help="a folder for the inputs of what is wrong")
    parser.add_argument("--children", type=int, default=2, help="how many run at a time")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    shares = {name: SHARES[name] for name in options.area or SHARES}
    counts: dict[str, Counter[str]] = {name: Counter() for name in shares}
    lock, until = threading.Lock(), time.monotonic() + options.seconds
    chunks = []
    for name, share in shares.items():
        number = max(1, options.cases * share // sum(shares.values()))
        chunks += [(name, first, min(first + 400, number)) for first in range(0, number, 400)]
    random.Random(0).shuffle(chunks)  # so that a run that is stopped has seen every area

    def run(chunk: tuple[str, int, int]) -> None:
        name, first, last = chunk[0], chunk[1] + options.first, chunk[2] + options.first
        for number, found in child.outcomes(name, first, last, until):
            with lock:
                counts[name][found if found in ("answer", "refusal") else "wrong"] += 1
            if found not in ("answer", "refusal"):
                print(f"{name} {number}: {found}", flush=True)
                if options.keep:
                    child.keep(name, number, options.keep)

    with ThreadPoolExecutor(options.children) as pool:
        list(pool.map(run, chunks))
    print(f"{'area':12} {'cases':>7} {'answers':>8} {'refusals':>9} {'wrong':>6}")
    for name, count in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        print(f"{name:12} {count.total():7} {count['answer']:8} {count['refusal']:9} {count['wrong']:6}")
    return int(any(count["wrong"] for count in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
