"""Build the site: ``python -m docs``. Fetches KaTeX, runs and draws what the pages say, checks what came out."""

import argparse
import os
import shutil
import sys
from pathlib import Path

from docs.builder import assets, checks, explorer, read, sharing
from docs.builder.blocks import DOCS


def main(arguments: list[str] | None = None) -> int:
    """Build, then check; the exit code is 1 where a warning or a fault was found."""
    parser = argparse.ArgumentParser(prog="python -m docs", description=__doc__)
    parser.add_argument("--out", type=Path, default=DOCS / "_build" / "site", help="folder for the site")
    out = parser.parse_args(arguments).out
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "warning")  # of the clusters that a page begins and ends
    from sphinx.cmd.build import build_main

    work = DOCS / "_build"
    assets.fetch_katex(work / "static" / "katex", cache=work / "cache")
    if assets.d3(work / "cache") != assets.D3_FILE.read_text(encoding="utf-8"):
        raise ValueError(f"{assets.D3_FILE} is not what was pinned: python -m docs.builder.assets")
    shutil.rmtree(out, ignore_errors=True)
    read.write(work / "static" / "read")
    sharing.draw_preview(work / "static" / "preview.png")
    explorer.write(work / "static" / "explorer", cache=work / "cache")
    code = build_main(["-q", "-E", "-W", "--keep-going", "-d", str(work / "doctrees"), str(DOCS), str(out)])
    if code:
        return code
    faults = checks.faults(out)
    for fault in faults:
        print(fault, file=sys.stderr)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{out}: {len(list(out.rglob('*.html')))} pages, {size / 1e6:.1f} MB, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
