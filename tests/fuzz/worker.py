"""The child in which cases run, a line on each: ``python -m tests.fuzz.worker AREA CASE…``, numbers or files."""

import os
import random
import resource
import sys
import tempfile
import warnings
from pathlib import Path

MEMORY = 3 << 30
DOCUMENTED = (ValueError, TypeError, IndexError, OSError)


def outcome(judge: object, data: bytes, from_files: bool) -> str:
    """Say how a case ends: "answer", "refusal", or what is wrong. Nothing may be written beside its folder.

    What is said of files is one line; calls may be said to be wrong by NumPy, in several.
    """
    with tempfile.TemporaryDirectory() as place:
        inside = Path(place) / "outer" / "inner"
        inside.mkdir(parents=True)
        try:
            judge(data, inside)  # type: ignore[operator]
            found = "answer"
        except DOCUMENTED as error:
            one_line = not from_files or len(str(error).splitlines()) <= 1
            found = "refusal" if one_line else f"several lines: {error}"
        except BaseException as error:
            found = f"{type(error).__name__}: {error}"
        strange = {path.name for folder in (Path(place), inside.parent) for path in folder.iterdir()} - {
            "outer",
            "inner",
        }
    return f"files outside: {strange}" if strange else " ".join(found.split())[:600]


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    from tests.fuzz.areas import AREAS

    name, *which = sys.argv[1:]
    area, from_files = AREAS[name], name not in ("arguments", "pipelines")
    out = os.fdopen(os.dup(1), "w")  # panics and libraries print to the others
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    print("ready", file=out, flush=True)
    for case in which:
        data = area.make(random.Random(f"{name} {case}")) if case.isdigit() else Path(case).read_bytes()
        print(outcome(area.judge, data, from_files), file=out, flush=True)


if __name__ == "__main__":
    main()
