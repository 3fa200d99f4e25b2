"""Every page of the built site in a browser: nothing is cut, nothing scrolls sideways, nothing comes from elsewhere."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

WIDER = """() => {
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const cut = [...document.querySelectorAll('article img, article svg')].filter((picture) => {
    const box = picture.getBoundingClientRect();
    return box.width && (box.left < -1 || box.right > document.documentElement.clientWidth + 1);
  }).map((picture) => picture.outerHTML.slice(0, 80));
  return [wide > 0 ? [`scrolls sideways by ${wide} px`] : [], cut].flat();
}"""


def test_pages_fit_and_are_whole(browser: Any, site: Path) -> None:
    """At 390 and 1280 px, light and dark."""
    context = browser.new_context()
    page = context.new_page()
    faults: list[str] = []
    page.on(
        "console", lambda message: faults.append(f"{page.url}: {message.text}") if message.type == "error" else None
    )
    page.on("pageerror", lambda error: faults.append(f"{page.url}: {error}"))
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else faults.append(asked.url))
    for path in sorted(site.glob("*.html")):
        page.goto(path.as_uri())
        page.wait_for_load_state("load")
        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                faults += [f"{path.name} at {width} px, {scheme}: {fault}" for fault in page.evaluate(WIDER)]
    context.close()
    assert faults == []
