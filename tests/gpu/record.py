"""A pytest plug-in that writes each test's outcome to a file as soon as it is known: ``-p tests.gpu.record``.

The file is named by the environment variable ``NYSTROM_NP_RECORD``: a line of JSON for each test that failed or could
not be collected, with its last line of explanation, and for the others their number so far.
"""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

counts: Counter[str] = Counter()
failures: list[dict[str, str]] = []


def pytest_collectreport(report: Any) -> None:
    if report.failed:
        told(report, "not collected")


def pytest_runtest_logreport(report: Any) -> None:
    if report.failed:
        told(report, "failed")
    elif report.when == "call" or report.skipped:
        counts[report.outcome] += 1
    if report.when == "teardown" and sum(counts.values()) % 20 == 0:
        write()


def pytest_sessionfinish() -> None:
    write()


def told(report: Any, outcome: str) -> None:
    counts[outcome] += 1
    crash = getattr(report.longrepr, "reprcrash", None)
    said = crash.message if crash else str(report.longrepr).strip().rpartition("\n")[2]
    failures.append({"test": report.nodeid, "said": said[:2000]})
    write()


def write() -> None:
    path = Path(os.environ["NYSTROM_NP_RECORD"])
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps({"counts": counts, "failures": failures}, indent=1), encoding="utf-8")
    partial.replace(path)
