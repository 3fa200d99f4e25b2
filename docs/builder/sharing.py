"""What others see of the pages: descriptions and a preview picture for links, BibTeX, and excerpts for the search."""

import html
import json
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import yaml

from docs.builder import pictures
from docs.builder.blocks import ROOT
from nystrom_np.functional import iterative_pinv, nystrom_kernels, softmax_attention_matrix

__all__ = ["bibtex", "description", "draw_preview", "excerpts_script", "metatags"]

LONGEST = 200
"""Of a description: search engines cut it there."""
PREVIEW = "_static/preview.png"
SIZE = (1200, 630)
"""Of the preview picture, as the sites that show links ask for."""


def description(paragraph: str) -> str:
    """A page's first paragraph, cut at the end of a word."""
    text = " ".join(paragraph.split())
    if len(text) <= LONGEST:
        return text
    return text[:LONGEST].rpartition(" ")[0].rstrip(",;:.") + " …"


def metatags(title: str, said: str, page: str, address: str) -> str:
    """Tags for the head of a page. The site's address, if it is known, makes what they name absolute."""
    width, height = SIZE
    told = {
        "og:type": "article",
        "og:site_name": "nystrom_np",
        "og:title": title,
        "og:description": said,
        "og:image": urljoin(address, PREVIEW),
        "og:image:width": str(width),
        "og:image:height": str(height),
        "og:image:alt": "Exact attention of 64 tokens, and the three small matrices whose product comes near it.",
    }
    if address:
        told["og:url"] = urljoin(address, page)
    named = {"description": said, "twitter:card": "summary_large_image"}
    tags = [
        f'<meta property="{name}" content="{html.escape(text, quote=True)}">' for name, text in told.items() if text
    ]
    tags += [f'<meta name="{name}" content="{html.escape(text, quote=True)}">' for name, text in named.items() if text]
    return "\n".join(tags) + "\n"


def draw_preview(path: Path) -> None:
    """Draw S ≈ F A⁺ B of a head of the shipped model, as large as its matrices are."""
    from matplotlib.figure import Figure

    query, key = (x[1] for x in pictures.shipped()[2])
    f, a, b = nystrom_kernels(query, key, num_landmarks=16)
    shown = {"softmax(q kᵀ)": softmax_attention_matrix(query, key), "F": f, "A⁺": iterative_pinv(a[None])[0], "B": b}
    figure = Figure(figsize=(SIZE[0] / 100, SIZE[1] / 100), dpi=100, facecolor="white")
    figure.text(0.05, 0.86, "Nyströmformer in plain NumPy", fontsize=36, weight="bold", color="#1c1e21")
    figure.text(0.05, 0.78, "one page of formulas that runs · nystrom_np", fontsize=20, color="#5a5f66")
    left = 0.05
    for name, matrix in shown.items():
        rows, columns = matrix.shape
        width, height = columns / 64 * 0.28, rows / 64 * 0.28 * SIZE[0] / SIZE[1]
        axes = figure.add_axes((left, 0.68 - height, width, height))
        largest = abs(matrix).max()
        axes.imshow(abs(matrix) ** 0.5, cmap="Blues", vmax=largest**0.5, aspect="auto", interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        figure.text(left + width / 2, 0.68 - height - 0.06, name, fontsize=20, ha="center", color="#1c1e21")
        left += width + (0.075 if name.startswith("softmax") else 0.025)
        if name.startswith("softmax"):
            figure.text(left - 0.0375, 0.41, "≈", fontsize=36, ha="center", va="center", color="#1c1e21")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def bibtex() -> str:
    """``CITATION.cff`` as BibTeX: the software, and the works it names."""
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    return "\n\n".join(_entry(work) for work in (told, *told.get("references", ())))


KINDS = {"software": "software", "conference-paper": "inproceedings", "article": "article"}
FIELDS = {"title": "title", "collection-title": "booktitle", "version": "version", "year": "year", "license": "license",
          "doi": "doi", "url": "url"}  # fmt: skip
"""Fields of BibTeX, by those of the file."""


def _entry(work: dict[str, Any]) -> str:
    people = [
        f"{one['family-names']}, {one['given-names']}" if "family-names" in one else f"{{{one['name']}}}"
        for one in work["authors"]
    ]
    year = str(work.get("year") or str(work.get("date-released", ""))[:4])
    first = work["authors"][0].get("family-names", "").lower()
    fields = {"author": " and ".join(people)}
    fields |= {
        FIELDS[name]: f"{{{work[name]}}}" if name == "title" else str(work[name]) for name in FIELDS if name in work
    }
    if year:
        fields["year"] = year
    key = f"{first}{year}" if first else work["title"].partition(":")[0]
    lines = [f"  {name} = {{{text}}}," for name, text in fields.items()]
    return "\n".join([f"@{KINDS[work['type']]}{{{key},", *lines, "}"])


SEARCH = """
// The search shows excerpts, for which it asks for the pages it has found: from disk it is given their text.
if (location.protocol === "file:") {
  const ask = window.fetch;
  window.fetch = (address, ...rest) => {
    const name = decodeURI(new URL(address, location).pathname.split("/").pop()).replace(/\\.html$/, "");
    if (!Object.hasOwn(texts, name)) return ask(address, ...rest);
    return Promise.resolve(new Response(`<div role="main">${texts[name]}</div>`));
  };
}
"""


def excerpts_script(texts: dict[str, str]) -> str:
    """A script for the search page, which from disk may load scripts but no other pages."""
    return f"const texts = {json.dumps(texts, ensure_ascii=False)};\n{SEARCH}"
