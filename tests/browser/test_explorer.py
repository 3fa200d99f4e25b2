"""The explorer, driven in a browser from disk: what it shows is what the package computes, by mouse and by keyboard."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nystrom_np.functional import iterative_pinv, nystrom_kernels, softmax_attention_matrix

pytestmark = pytest.mark.slow

READ = """() => ({
  error: document.querySelector('[data-of="error"]').textContent,
  cell: document.querySelector('[data-of="cell"]').textContent,
  caption: document.querySelector('.x-largest caption').textContent,
  rows: [...document.querySelectorAll('.x-largest tbody tr')].map((row) => [Number(row.dataset.key),
    ...[...row.querySelectorAll('td')].map((cell) => Number(cell.textContent))]),
})"""


@pytest.fixture
def page(browser: Any, site: Path) -> Any:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    made = context.new_page()
    made.faults = []
    made.on("console", lambda message: made.faults.append(message.text) if message.type == "error" else None)
    made.on("pageerror", lambda error: made.faults.append(str(error)))
    made.on(
        "request",
        lambda request: None if request.url.startswith(("file:", "data:")) else made.faults.append(request.url),
    )
    made.goto((site / "explorer.html").as_uri())
    ready(made)
    yield made
    context.close()
    assert made.faults == []


def ready(page: Any) -> None:
    page.wait_for_timeout(60)
    page.wait_for_selector('#explorer[data-state="ready"]', timeout=20_000)


def go(page: Any, **settings: Any) -> dict[str, Any]:
    page.evaluate("hash => { location.hash = hash; }", "&".join(f"{name}={value}" for name, value in settings.items()))
    page.wait_for_timeout(20)
    return page.evaluate(READ)


def data(site: Path) -> tuple[dict[str, Any], bytes]:
    import base64

    text = (site / "_static" / "explorer" / "data.js").read_text(encoding="utf-8")
    value = json.loads(text.removeprefix("window.exploration = ").removesuffix(";"))
    return value["told"], base64.b64decode(value["numbers"])


def expected(told: Any, numbers: bytes, s: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The weights of a head, exact and approximated, by the package; the scores are given as queries of unit keys."""
    text = told["texts"][s["text"] - 1]
    [mode] = [mode for mode in text["modes"] if mode["masking"] == s["masking"]]
    n, heads = mode["length"], told["heads"]
    start = mode["scores"] + 2 * n * n * heads * (s["layer"] - 1)
    query = np.frombuffer(numbers, "<f2", heads * n * n, start).reshape(heads, n, n).astype(float)
    key = np.broadcast_to(np.eye(n), (heads, n, n))
    mask = np.arange(n)[None] < (n if s["masking"] == "invariant" else text["real"])
    f, a, b = nystrom_kernels(query, key, s["m"], mask)
    if s["steps"] == "exact":  # as in float32: what is nothing there is left out
        inverse = np.linalg.pinv(a, s["m"] * 2.0**-23)
    elif s["steps"] == 0:
        inverse = a.swapaxes(-1, -2) / a.sum(axis=-2).max()
    else:
        inverse = iterative_pinv(a, iterations=s["steps"])
    head = s["head"] - 1
    return softmax_attention_matrix(query, key, mask)[head], (f @ inverse @ b)[head]


def test_numbers_are_the_packages(page: Any, site: Path) -> None:
    """Of 200 random settings: the error, and the weights of a token in the table."""
    told, numbers = data(site)
    rng = np.random.default_rng(0)
    for _ in range(200):
        number = int(rng.integers(len(told["texts"])))
        text = told["texts"][number]
        mode = text["modes"][rng.integers(len(text["modes"]))]
        steps = int(rng.integers(12))
        s = {
            "text": number + 1,
            "layer": int(rng.integers(told["layers"])) + 1,
            "head": int(rng.integers(told["heads"])) + 1,
            "m": int(rng.integers(2, mode["length"])),
            "steps": "exact" if steps == 11 else steps,
            "masking": mode["masking"],
            "token": int(rng.integers(mode["length"])),
        }
        shown, (exact, near) = go(page, **s), expected(told, numbers, s)
        assert shown["caption"].endswith(f"({s['token']}) looks most"), s
        for key, one, other in shown["rows"]:
            assert one == pytest.approx(exact[s["token"], key], rel=1e-3, abs=1e-8), s
            assert other == pytest.approx(near[s["token"], key], rel=2e-3, abs=1e-5 + 1e-4 * abs(near).max()), s
        error = np.linalg.norm(near - exact) / np.linalg.norm(exact)
        [told_error] = re.findall(r"is ([\d.e+-]+) % of the exact", shown["error"])
        assert float(told_error) / 100 == pytest.approx(error, rel=6e-3, abs=1e-6), s


def test_every_control_by_keyboard(page: Any) -> None:
    """Each setting goes to the address; the link brings it back, here and in another tab."""
    for name, key, part in (
        ("text", "ArrowDown", "text=2"),
        ("layer", "ArrowDown", "layer=2"),
        ("head", "ArrowDown", "head=2"),
        ("m", "ArrowRight", "m=17"),
        ("steps", "ArrowLeft", "steps=5"),
    ):
        page.focus(f'#explorer [name="{name}"]')
        page.keyboard.press(key)
        ready(page)
        assert part in page.url
    for value in ("exact", "difference", "nystrom"):
        page.focus(f'#explorer [name="view"][value="{value}"]')
        page.keyboard.press("Space")
        ready(page)
        assert f"view={value}" in page.url
    for value in ("original", "invariant", "transformers"):
        page.focus(f'#explorer [name="masking"][value="{value}"]')
        page.keyboard.press("Space")
        ready(page)
        assert f"masking={value}" in page.url
    page.focus('#explorer [role="option"][tabindex="0"]')
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    ready(page)
    assert "token=1" in page.url
    for board in ("S", "F", "B", "P", "A"):
        page.focus(f'[data-board="{board}"]')
        page.keyboard.press("ArrowRight")
        assert re.search(r"rom .* to .*: .*\d", page.evaluate(READ)["cell"])
    before = page.evaluate(READ)
    other = page.context.new_page()
    other.goto(page.url)
    ready(other)
    after = other.evaluate(READ)
    assert {**after, "cell": ""} == {**before, "cell": ""}


def test_every_control_by_mouse(page: Any) -> None:
    page.select_option('[name="text"]', "1")
    page.select_option('[name="layer"]', "2")
    page.select_option('[name="head"]', "3")
    page.click('[name="view"][value="difference"]')
    page.click('[name="masking"][value="original"]')
    page.click("#x-token-4")
    for name in ("m", "steps"):
        page.locator(f'[name="{name}"]').click(position={"x": 5, "y": 8})
    ready(page)
    for part in ("text=2", "layer=3", "head=4", "view=difference", "masking=original", "token=4", "steps=0"):
        assert part in page.url
    page.hover("#x-token-2")
    assert "(2) looks most" in page.evaluate(READ)["caption"]
    page.hover('[data-board="S"]')
    assert page.evaluate(READ)["cell"].startswith("From ")
    for details in page.locator("#explorer details summary").all():
        details.click()
    ready(page)
    assert page.locator("#explorer table").count() >= 10


def test_a_page_of_ones_own(browser: Any, tmp_path: Path) -> None:
    """What the command writes is opened from disk and needs no other file."""
    from nystrom_np import cli

    path = tmp_path / "explorer.html"
    assert cli.main(["explore", "--text", "A dog ran to the [MASK].", "--output", str(path)]) == 0
    opened = browser.new_page()
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(path.as_uri())
    ready(opened)
    assert asked == [path.as_uri()]
    assert opened.locator(".x-answers tbody tr").count() == 10
    opened.close()
