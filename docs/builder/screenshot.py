"""The README's picture: ``python -m docs.builder.screenshot`` takes it of the explorer, in the system's Chromium."""

import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

from docs.builder import explorer
from docs.builder.blocks import DOCS
from nystrom_np.explore import write_page
from nystrom_np.files import replacing

__all__ = ["take"]

PICTURE = DOCS / "images" / "explorer.png"
STATE = "text=1&layer=1&head=1&view=nystrom&m=16&steps=6&token=11"
WIDTH, HEIGHT, COLOURS = 1000, 860, 48


def take(path: Path = PICTURE) -> None:
    """Open the explorer's page from disk, in the state that the picture shows, and keep its first screen."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = Path(folder) / "explorer.html"
        write_page(explorer.computed(DOCS / "_build" / "cache"), page, "Attention, exact and approximated")
        browser = playwright.chromium.launch(executable_path=found)
        opened = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        opened.goto(f"{page.as_uri()}#{STATE}")
        opened.wait_for_selector('#explorer[data-state="ready"]', timeout=60_000)
        picture = Image.open(io.BytesIO(opened.screenshot()))
        browser.close()
    with replacing(path) as temporary:  # few colours, so that the repository stays small
        picture.convert("RGB").quantize(COLOURS).save(temporary, format="PNG", optimize=True)


if __name__ == "__main__":
    take()
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes", file=sys.stderr)
