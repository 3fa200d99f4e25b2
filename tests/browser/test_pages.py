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
  const code = [...document.querySelectorAll('.listing:not(.columns) pre')]
    .filter((box) => box.scrollWidth > box.clientWidth + 1)
    .map((box) => `code is cut: ${box.innerText.slice(0, 60)}`);
  return [wide > 0 ? [`scrolls sideways by ${wide} px`] : [], cut, code].flat();
}"""


ONCE = """() => {
  const seen = new Set();
  const kind = (element) => element ? `${kind(element.parentElement)} ${element.localName}.${element.className}` : '';
  for (const piece of document.querySelectorAll('.highlight pre span:not(:has(*)), .katex')) {
    if (seen.has(kind(piece))) piece.replaceWith(piece.textContent);
    seen.add(kind(piece));
  }
}"""
"""Coloured pieces of code and formulas take nearly all of axe's time: of each kind one is left, the others are text."""
AXE = """() => new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))
  .then(() => axe.run({resultTypes: ['violations'], preload: false}))
  .then(({ violations }) => violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.length} times, as ${nodes[0].target} (${nodes[0].failureSummary})`))
"""
FORMS = [(390, "light"), (390, "dark"), (1280, "dark"), (1280, "light")]
PARTS = 4
"""The pages are shared among as many tests, so that they run beside each other."""


@pytest.mark.parametrize("part", range(PARTS))
def test_pages_fit_and_are_whole(browser: Any, site: Path, part: int) -> None:
    """At 390 and 1280 px, light and dark, pages of code too; and by all of its rules axe finds nothing serious."""
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
    for path in sorted(site.rglob("*.html"))[part::PARTS]:
        page.goto(path.as_uri())
        page.evaluate(axe)
        for look in (WIDER, AXE):
            if look == AXE:
                page.evaluate(ONCE)
            for width, scheme in FORMS:
                page.set_viewport_size({"width": width, "height": 900})
                page.emulate_media(color_scheme=scheme)
                found = page.evaluate(look)
                faults += [f"{path.relative_to(site)} at {width} px, {scheme}: {fault}" for fault in found]
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
