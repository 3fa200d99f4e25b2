"""The reads in a browser: how much of them is code, that nothing scrolls sideways, and where their links lead."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from docs.builder.read import READS

pytestmark = pytest.mark.slow

SHARE = """() => {
  const height = (element) => element.checkVisibility() ? element.getBoundingClientRect().height : 0;
  const total = (found) => [...found].reduce((sum, element) => sum + height(element), 0);
  const article = document.querySelector('article');
  const list = document.getElementById('every-public-name');
  return total(article.querySelectorAll('.listing:not(.output)')) / (height(article) - (list ? height(list) : 0));
}"""
SIDEWAYS = """() => [...document.querySelectorAll('.listing, .listing *, article .katex-source.display')]
  .filter((element) => element.checkVisibility() && element.scrollWidth > element.clientWidth + 1
    && getComputedStyle(element).display !== 'inline')
  .map((element) => element.textContent.slice(0, 80))"""
BESIDE = """() => [...document.querySelectorAll('.idea')].map((idea) => {
  const [said, shown] = [...idea.children].map((part) => part.getBoundingClientRect());
  return said.height && shown.height ? [said.right <= shown.left, said.bottom <= shown.top + 1] : null;
}).filter((found) => found)"""
SETTINGS = """() => {
  const value = (name) => document.querySelector(`#explorer [name="${name}"]:checked`)?.value;
  const chosen = (name) => document.querySelector(`#explorer [name="${name}"]`).value;
  return { address: location.hash, view: value('view'), masking: value('masking'), m: chosen('m'),
    text: String(Number(chosen('text')) + 1), layer: String(Number(chosen('layer')) + 1),
    head: String(Number(chosen('head')) + 1), steps: chosen('steps') === '11' ? 'exact' : chosen('steps'),
    token: document.querySelector('#explorer [role="option"][aria-selected="true"]').id.slice(8) };
}"""


@pytest.fixture
def page(browser: Any) -> Any:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("name", READS)
def test_code_takes_a_third_at_most(page: Any, site: Path, name: str) -> None:
    """Of the read's height at 1280 px, folded answers and proofs aside."""
    page.goto((site / f"{name}.html").as_uri())
    page.evaluate("document.querySelectorAll('img').forEach((picture) => { picture.loading = 'eager'; })")
    page.wait_for_function("[...document.images].every((picture) => picture.complete)")
    assert page.evaluate(SHARE) <= 1 / 3


@pytest.mark.parametrize("name", READS)
def test_nothing_scrolls_sideways(page: Any, site: Path, name: str) -> None:
    """No box and no formula, answers unfolded too; columns on a wide screen, one under the other on a phone."""
    page.goto((site / f"{name}.html").as_uri())
    page.wait_for_function("!document.querySelector('.katex-source') || document.querySelector('.katex')")
    page.evaluate("document.querySelectorAll('details.exercise').forEach((answer) => { answer.open = true; })")
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate(SIDEWAYS) == [], (width, scheme)
            places = page.evaluate(BESIDE)
            assert places
            assert all(under if width == 390 else beside for beside, under in places), (width, scheme)


def test_answers_are_folded_and_have_run(page: Any, site: Path) -> None:
    """Two exercises or more in every part, each with the output of its code, none shown before it is asked for."""
    page.goto((site / "annotated.html").as_uri())
    for part in range(1, 6):
        exercises = page.locator(f'section[id^="part-{part}"] details.exercise')
        assert exercises.count() >= 2
        for exercise in exercises.all():
            assert not exercise.locator(".listing").first.is_visible()
            assert exercise.locator(".listing.output").count() >= 1


def test_links_lead_to_the_state_they_speak_of(page: Any, site: Path) -> None:
    """Every link from the reads to the explorer: its controls stand as the address says."""
    links = []
    for name in READS:
        text = (site / f"{name}.html").read_text(encoding="utf-8")
        links += re.findall(r'href="explorer\.html#([^"]+)"', text)
    assert len(links) >= 10
    page.goto((site / "explorer.html").as_uri())
    for link in dict.fromkeys(found.replace("&amp;", "&") for found in links):
        wanted = dict(parse_qsl(link))
        page.goto("about:blank")
        page.goto(f"{(site / 'explorer.html').as_uri()}#{link}")
        page.wait_for_selector('#explorer[data-state="ready"]', timeout=20_000)
        found = page.evaluate(SETTINGS)
        assert {key: found.get(key) for key in wanted} == wanted
