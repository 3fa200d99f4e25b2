"""What the theme's and Sphinx's scripts do on the pages as they are opened from disk: the search, copying, contents."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def page(browser: Any) -> Any:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(120_000)  # on a busy machine
    made = context.new_page()
    made.faults = []
    made.on("console", lambda message: made.faults.append(message.text) if message.type == "error" else None)
    made.on("pageerror", lambda error: made.faults.append(str(error)))
    yield made
    context.close()
    assert made.faults == []


def test_the_search_shows_excerpts_from_disk(page: Any, site: Path) -> None:
    """Each page found is shown with the words around what was looked for."""
    page.goto((site / "search.html").as_uri() + "?q=landmarks")
    page.wait_for_function("document.querySelectorAll('#search-results p.context').length >= 8")
    found = page.locator("#search-results p.context").all_text_contents()
    assert sum("landmark" in text.lower() for text in found) >= 5
    page.fill('.search-again input[name="q"]', "iterates")  # the page has a field of its own
    page.press('.search-again input[name="q"]', "Enter")
    page.wait_for_url("**/search.html?q=iterates")
    page.wait_for_selector("#search-results p.context")


def test_code_is_copied_by_keyboard(page: Any, site: Path) -> None:
    """The commands of a console's box alone, without prompts and without what they print; no output has a button."""
    page.goto((site / "howto-checkpoint.html").as_uri())
    page.wait_for_selector("button.copybtn", state="attached")
    assert page.locator(".output button.copybtn").count() == 0
    button = page.locator("div.highlight-console button.copybtn").first
    box = page.locator("div.highlight-console pre").first.inner_text()
    button.focus()
    page.keyboard.press("Enter")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<textarea id=\"pasted\"></textarea>')")
    page.focus("#pasted")
    page.keyboard.press("Control+V")
    commands = [line[2:] for line in box.splitlines() if line.startswith("$ ")]
    assert commands
    assert page.input_value("#pasted").strip() == "\n".join(commands)


def test_contents_are_beside_the_text_from_1280_px(page: Any, site: Path) -> None:
    """And behind a button on narrower windows; both without covering the text."""
    page.goto((site / "tensors.html").as_uri())
    boxes = "() => ['.toc-tree', 'article'].map((name) => document.querySelector(name).getBoundingClientRect())"
    contents, text = page.evaluate(boxes)
    assert text["right"] <= contents["left"]
    assert contents["right"] <= 1281
    page.set_viewport_size({"width": 1200, "height": 900})
    page.wait_for_timeout(400)  # it slides
    assert page.evaluate(boxes)[0]["left"] >= 1199


def test_tables_are_cards_on_a_phone_or_scroll_in_a_frame(page: Any, site: Path) -> None:
    """Every value of a card stands beside its column's name; a table that is wider than the page has a border."""
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto((site / "tensors.html").as_uri())
    card = page.locator("table.cards tbody tr").nth(10)
    assert card.locator("td").evaluate_all("cells => cells.map((cell) => cell.dataset.label)") == [
        "tensor",
        "how it is computed",
        "padding",
        "tolerance",
    ]
    assert card.bounding_box()["width"] <= 374
    page.goto((site / "benchmarks.html").as_uri())
    widths = page.locator(".table-wrapper").evaluate_all(
        "all => all.map((one) => [one.scrollWidth - one.clientWidth, getComputedStyle(one).borderLeftWidth])"
    )
    assert any(hidden > 0 for hidden, _ in widths)
    assert all(border == "1px" for hidden, border in widths if hidden > 0)


def test_a_printed_page_is_the_text_alone(page: Any, site: Path) -> None:
    """No list of pages or contents, no buttons; rows stay rows; code is not cut."""
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 680, "height": 900})  # of an A4 page
    page.goto((site / "tensors.html").as_uri())
    for hidden in (".sidebar-drawer", ".toc-drawer", ".mobile-header", "button.copybtn", ".related-pages"):
        assert not page.locator(hidden).first.is_visible(), hidden
    assert page.evaluate("getComputedStyle(document.querySelector('.cards td')).display") == "table-cell"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    code = page.locator(".highlight pre").evaluate_all("all => all.map((one) => one.scrollWidth - one.clientWidth)")
    assert max(code) <= 0


def test_links_have_a_preview(site: Path) -> None:
    """Every page has a title, a description and a picture that is there."""
    for path in site.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert 'property="og:title"' in text, path.name
        assert 'property="og:image" content="_static/preview.png"' in text
        if path.name not in ("genindex.html", "py-modindex.html", "search.html"):
            assert '<meta name="description" content="' in text, path.name
    assert (site / "_static" / "preview.png").read_bytes()[16:24] == bytes.fromhex("000004b000000276")  # 1200 × 630
