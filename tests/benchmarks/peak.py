"""Peak extra memory of attention in a process of its own: ``python -m tests.benchmarks.peak FORM HEADS LENGTH``.

Counted are the arrays that exist at once beyond queries, keys, values and the context, as NumPy reports them.
"""

from __future__ import annotations

import sys
import tracemalloc

from tests.benchmarks.attention import FORMS, draw


def extra_bytes(form: str, heads: int, length: int) -> int:
    """The most bytes in arrays at any moment of a call, less the context."""
    query, key, value = draw(heads, length)
    FORMS[form](query[:, :256], key[:, :256], value[:, :256])  # whatever is made once and kept
    tracemalloc.start()
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    context = FORMS[form](query, key, value)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak - before - context.nbytes


if __name__ == "__main__":
    print(extra_bytes(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
