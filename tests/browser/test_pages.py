"""Every page of the built site in a browser: nothing is cut, nothing scrolls sideways, nothing comes from elsewhere."""

import html
import re
from pathlib import Path
from typing import Any

import pytest

from docs.builder import assets

pytestmark = pytest.mark.slow

WIDER = """() => {
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const cut = [...document.querySelectorAll('article img, article svg')].filter((picture) => {
    const box = picture.getBoundingClientRect();
    return box.width && (box.left < -1 || box.right > document.documentElement.clientWidth + 1);
  }).map((picture) => picture.outerHTML.slice(0, 80));
  return [wide > 0 ? [`scrolls sideways by ${wide} px`] : [], cut].flat();
}"""


AXE = """(options) => new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))
  .then(() => axe.run({resultTypes: ['violations'], preload: false, ...options}))
  .then(({ violations }) => violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.length} times, as ${nodes[0].target} (${nodes[0].failureSummary})`))
"""
CONTRAST = {"runOnly": ["color-contrast"]}
THE_REST = {"rules": {"color-contrast": {"enabled": False}}}
FORMS = ((390, "light", THE_REST), (390, "dark", CONTRAST), (1280, "light", CONTRAST), (1280, "dark", THE_REST))
"""What axe looks for in each: colours do not differ with the width, nor the rest with the colours."""


def test_pages_fit_and_are_whole(browser: Any, site: Path) -> None:
    """At 390 and 1280 px, light and dark; and axe finds nothing serious."""
    try:
        axe = assets.axe(site.parent / "cache")
    except OSError as error:
        pytest.skip(f"axe-core could not be fetched from npm: {error}")
    context = browser.new_context()
    context.set_default_timeout(120_000)  # on a busy machine
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
        page.evaluate(axe)
        for width, scheme, options in FORMS:
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            found = page.evaluate(WIDER) + page.evaluate(AXE, options)
            faults += [f"{path.name} at {width} px, {scheme}: {fault}" for fault in found]
    context.close()
    assert faults == []


def test_lines_of_code_are_where_links_lead(site: Path) -> None:
    """Each formula of the page of tensors stands at the line that its row links to."""
    page = (site / "tensors.html").read_text(encoding="utf-8")
    links = re.findall(r'<code[^>]*>(.*?)</code><br ?/?>(?:(?!<td).)*?href="([^"]+)#line-(\d+)"', page)
    assert len(links) > 60
    for formula, file, line in links:
        code = (site / file).read_text(encoding="utf-8")
        [there] = re.findall(rf'<span id="line-{line}"></span>(.*)', code)
        plain, start = (html.unescape(re.sub("<[^>]+>", "", text)).split("  #")[0] for text in (there, formula))
        assert "".join(start.split()).startswith("".join(plain.split())), (formula, line)
