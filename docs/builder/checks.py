"""What must hold of the site when it is built: links, alternative texts, sizes, hosts, and that all is reached."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

from docs.builder.sources import public_names

__all__ = ["faults"]

MOST_BYTES = 2_000_000
"""Of a page with all that it loads."""
LOADS = {
    "img": "src",
    "script": "src",
    "link": "href",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "object": "data",
    "embed": "src",
    "use": "href",
}
"""Elements that make a browser fetch something, and the attribute that says what."""
READ = "annotated.html"
EXPLORED = {"text", "layer", "head", "view", "m", "steps", "masking", "token"}
"""Settings that the explorer's address may have."""
WITHOUT_CLAIMS = ("genindex.html", "py-modindex.html", "search.html")


class Page(HTMLParser):
    """What a page links to, loads and names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.without_alt: list[str] = []
        self.proofs = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.ids.add(given["id"])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag == "img" and len((given.get("alt") or "").strip()) < 10:
            self.without_alt.append(given.get("src") or "")
        if tag == "svg" and given.get("role") == "img" and not given.get("aria-label"):
            self.without_alt.append("an svg element")
        if tag == "details" and "proof" in (given.get("class") or ""):
            self.proofs += 1
        relation = given.get("rel") or ""
        if (
            tag in LOADS
            and given.get(LOADS[tag])
            and not (tag == "link" and relation in ("next", "prev", "index", "search"))
        ):
            self.loads.append(given[LOADS[tag]])


def faults(site: Path) -> list[str]:
    """One line for everything that is wrong with a built site."""
    paths = sorted(site.rglob("*.html"))
    pages = {path.relative_to(site).as_posix(): Page(path.read_text(encoding="utf-8")) for path in paths}
    found = list(foreign_styles(site))
    for name, page in pages.items():
        found += [f"{name}: no alternative text for {source}" for source in page.without_alt]
        found += [f"{name}: loads {address} from another host" for address in page.loads if is_foreign(address)]
        found += [f"{name}: broken link {link}" for link in page.links if not leads_somewhere(site, pages, name, link)]
        found += [
            f"{name}: loads {file}, which is not there"
            for file in local(page.loads)
            if not beside(site, name, file).is_file()
        ]
        size = weight(site, name, page)
        if size > MOST_BYTES:
            found.append(f"{name}: {size:,} bytes with all it loads; {MOST_BYTES:,} are allowed")
        if "/" not in name and name not in WITHOUT_CLAIMS and not page.proofs:
            found.append(f"{name}: names no test that proves what it says")
    return found + list(unreached(pages))


def is_foreign(address: str) -> bool:
    """Whether an address is on another host (or in the page itself, which is not)."""
    return re.match(r"(?:[a-z][a-z0-9+.-]*:)?//", address, re.IGNORECASE) is not None


def local(addresses: list[str]) -> list[str]:
    """Addresses of files of the site, without what comes after ``?`` and ``#``."""
    return [
        unquote(urldefrag(address)[0].partition("?")[0])
        for address in addresses
        if not is_foreign(address) and not address.startswith(("data:", "mailto:"))
    ]


def beside(site: Path, page: str, file: str) -> Path:
    """The file that a page means."""
    return (site / page).parent / file if file else site / page


def leads_somewhere(site: Path, pages: dict[str, Page], name: str, link: str) -> bool:
    """Whether a link within the site has its file and its anchor; other sites are not asked."""
    if is_foreign(link) or link.startswith(("mailto:", "data:")):
        return True
    file, fragment = urldefrag(link)
    target = beside(site, name, unquote(file.partition("?")[0])).resolve()
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return False
    if target.name == "explorer.html" and "=" in fragment:
        return set(re.findall(r"(?:^|&)(\w+)=", fragment)) <= EXPLORED
    page = pages.get(target.relative_to(site.resolve()).as_posix())
    return page is None or not fragment or unquote(fragment) in page.ids


def weight(site: Path, name: str, page: Page) -> int:
    """Bytes of a page and of all that it loads on a wide screen: the pictures for phones are lazy, and hidden there."""
    files = {beside(site, name, file).resolve() for file in local(page.loads) if "-narrow-" not in file}
    return sum(file.stat().st_size for file in {*files, (site / name).resolve()} if file.is_file())


def foreign_styles(site: Path) -> Iterator[str]:
    """Style sheets and scripts of the site that fetch from another host."""
    for path in sorted(site.rglob("*.css")):
        text = path.read_text(encoding="utf-8")
        for address in re.findall(r"(?:url\(\s*['\"]?|@import\s+['\"])([^'\")\s]+)", text):
            if is_foreign(address):
                yield f"{path.relative_to(site).as_posix()}: loads {address} from another host"


def unreached(pages: dict[str, Page]) -> Iterator[str]:
    """Public names that no link of the annotated read leads to."""
    if READ not in pages:
        yield f"{READ} is not there"
        return
    reached = {unquote(urldefrag(link)[1]) for link in pages[READ].links}
    for name in public_names():
        if name not in reached:
            yield f"{READ}: no link to {name}"
