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
    ...[...row.querySelectorAll('td')].map((cell) => Number(cell.textContent.replaceAll('−', '-')))]),
  lens: [...document.querySelectorAll('.x-lens [data-cell]')].map((cell) => [...cell.dataset.cell.split(','),
    Number(cell.textContent.replaceAll('−', '-'))]),
})"""
READ_ALL = f"""async (hashes) => {{
  const found = [];
  for (const hash of hashes) {{
    await new Promise((go) => {{ addEventListener('hashchange', go, {{ once: true }}); location.hash = hash; }});
    found.push(({READ})());
  }}
  return found;
}}"""
CONTRAST = """() => {
  const linear = (part) => (part <= 10.31 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4);
  const light = (words) => words.match(/[\\d.]+/g).slice(0, 3).map(Number).map(linear)
    .reduce((sum, part, i) => sum + [0.2126, 0.7152, 0.0722][i] * part, 0.05);
  return [...document.querySelectorAll('.x-lens [data-cell], .x-token')].map((cell) => {
    const { color, backgroundColor } = getComputedStyle(cell), both = [light(color), light(backgroundColor)];
    return Math.max(...both) / Math.min(...both);
  });
}"""


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
    page.wait_for_selector('#explorer[data-state="ready"]', timeout=60_000)


def address(settings: dict[str, Any]) -> str:
    return "&".join(f"{name}={value}" for name, value in settings.items())


def data(site: Path) -> tuple[dict[str, Any], bytes]:
    import base64

    text = (site / "_static" / "explorer" / "data.js").read_text(encoding="utf-8")
    value = json.loads(text.removeprefix("window.exploration = ").removesuffix(";"))
    return value["told"], base64.b64decode(value["numbers"])


def expected(told: Any, numbers: bytes, s: dict[str, Any]) -> dict[str, np.ndarray]:
    """All matrices of a head, by the package; the scores are given as queries of unit keys."""
    text = told["texts"][s["text"] - 1]
    [mode] = [mode for mode in text["modes"] if mode["masking"] == s["masking"]]
    n, heads, head = mode["length"], told["heads"], s["head"] - 1
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
    exact, near = softmax_attention_matrix(query, key, mask)[head], (f @ inverse @ b)[head]
    large = {"exact": exact, "nystrom": near, "difference": near - exact}[s["view"]]
    return {"exact": exact, "near": near, "S": large, "F": f[head], "A": a[head], "P": inverse[head], "B": b[head]}


def random_settings(told: dict[str, Any], count: int) -> list[dict[str, Any]]:
    rng, found = np.random.default_rng(0), []
    for _ in range(count):
        number = int(rng.integers(len(told["texts"])))
        text = told["texts"][number]
        mode = text["modes"][rng.integers(len(text["modes"]))]
        steps = int(rng.integers(12))
        found.append(
            {
                "text": number + 1,
                "layer": int(rng.integers(told["layers"])) + 1,
                "head": int(rng.integers(told["heads"])) + 1,
                "view": ["exact", "nystrom", "difference"][rng.integers(3)],
                "m": int(rng.integers(2, mode["length"])),
                "steps": "exact" if steps == 11 else steps,
                "masking": mode["masking"],
                "token": int(rng.integers(mode["length"])),
            }
        )
    return found


def test_numbers_are_the_packages(page: Any, site: Path) -> None:
    """Of 200 random settings: the error, the weights of a token in the table, and the cells of all five matrices."""
    told, numbers = data(site)
    settings = random_settings(told, 200)
    for s, shown in zip(settings, page.evaluate(READ_ALL, [address(s) for s in settings]), strict=True):
        true = expected(told, numbers, s)
        exact, near = true["exact"], true["near"]
        assert shown["caption"].endswith(f"({s['token']}) looks most"), s
        for key, one, other in shown["rows"]:
            assert one == pytest.approx(exact[s["token"], key], rel=1e-3, abs=1e-8), s
            assert other == pytest.approx(near[s["token"], key], rel=2e-3, abs=1e-5 + 1e-4 * abs(near).max()), s
        assert {name for name, *_ in shown["lens"]} == set("SFABP")
        for name, row, column, value in shown["lens"]:  # three places after the point, or one digit and a power of ten
            number, most = true[name][int(row), int(column)], abs(true[name]).max()
            assert value == pytest.approx(number, rel=0.5 if abs(number) >= 9990 else 6e-3, abs=6e-4 + 1e-4 * most), (
                s,
                name,
            )
        error = np.linalg.norm(near - exact) / np.linalg.norm(exact)
        [told_error] = re.findall(r"is ([\d.e+-]+) % of the exact", shown["error"])
        assert float(told_error) / 100 == pytest.approx(error, rel=6e-3, abs=1e-6), s


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_digits_can_be_read(page: Any, site: Path, width: int, scheme: str) -> None:
    """On every colour (WCAG's 4.5), whole within their cells; few landmarks have them in the matrices, too."""
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    for s in random_settings(data(site)[0], 20):
        page.evaluate(READ_ALL, [address(s)])
        assert min(page.evaluate(CONTRAST)) >= 4.5, s
        cut = page.evaluate(
            "[...document.querySelectorAll('.x-lens [data-cell]')]"
            ".filter((cell) => cell.scrollWidth > cell.clientWidth).map((cell) => cell.textContent)"
        )
        assert cut == [], s
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate(READ_ALL, ["text=1&m=4&steps=6", "text=1&m=3&steps=6"])
    for board in "AP":
        digits = page.locator(f'[data-board="{board}"] text')
        assert digits.count() == 9
        assert all(float(digit.get_attribute("font-size")) >= 9 for digit in digits.all())


def test_the_modes_of_padding_differ(page: Any, site: Path) -> None:
    """Two of the texts are padded; there the three differ, and the note says by how much. Elsewhere, why not."""
    texts = data(site)[0]["texts"]
    assert [len(text["modes"]) for text in texts] == [1, 3, 3, 1, 1, 1]
    for number, text in enumerate(texts, 1):
        page.evaluate(READ_ALL, [f"text={number}&m=8&steps=6"])
        ready(page)
        note = page.text_content('[data-of="padding"]')
        errors = re.findall(r"(?:transformers|authors|there) ([\d.]+) %", note)
        assert len(set(errors)) == (3 if len(text["modes"]) > 1 else 0), note
        assert ("no padding" in note) == (not errors)
        assert page.is_disabled('[name="masking"][value="original"]') == (not errors)


def test_a_cell_by_touch(browser: Any, site: Path) -> None:
    """A tap on a matrix chooses a cell; one in the table about it goes on from there."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(f"{(site / 'explorer.html').as_uri()}#text=1&m=16")
    ready(page)
    page.locator('[data-board="S"]').tap(position={"x": 100, "y": 100})
    [first, *_] = page.evaluate(READ)["lens"]
    page.locator(".x-lens [data-cell]").first.tap()
    assert page.get_attribute(".x-lens .x-here", "data-cell").split(",") == first[:3]
    context.close()


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
