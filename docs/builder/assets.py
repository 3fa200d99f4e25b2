"""What the site serves or is tested with, and does not keep: fetched from npm once, at one version, and checked."""

import base64
import hashlib
import io
import re
import shutil
import tarfile
import urllib.request
from pathlib import Path
from typing import NamedTuple

from nystrom_np.files import replacing

__all__ = ["AXE", "D3", "D3_FILE", "KATEX", "Package", "axe", "d3", "fetch_katex", "opened"]


class Package(NamedTuple):
    """A package of npm, pinned: its name, version, and the SHA-512 of its archive in base 64."""

    name: str
    version: str
    sha512: str


KATEX = Package(
    "katex", "0.19.1", "jG8uKntjSEcm2EpQOh0XturpPuuC9r3Sq5HLHdsFdWZT27E672SF19QEi+of0/YeOy15lDgRhKvr5614uRrEfA=="
)
WANTED = ("package/dist/katex.min.js", "package/dist/katex.min.css", "package/LICENSE")
AXE = Package(
    "axe-core", "4.14.1", "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
)
"""Finds what people with a screen reader, a keyboard or weak eyes cannot use. The tests run it; it is not served."""

D3 = (
    Package(
        "d3-array", "3.2.5", "Th8qGXoBalmWsstpkuhmBuTsBQIFqYOJtjlBvNVvBfJ8E3uYusBUwUR8HU20U0qKKQkgCvKyR1YjiozWadk5QA=="
    ),
    Package(
        "d3-color", "3.1.1", "lfab8x0Bj0UO7SNsY8dZSbNIA6ipbkE3X0NG9nqjCu6CfCHZseuDnOSJY7hidKrjpP++i1M2qT+FlAdPKYRilA=="
    ),
    Package(
        "d3-interpolate",
        "3.0.2",
        "IRzGU62DtxhvsnSTWMQIdnoZ6gA+BCWwBon1EJI6SjoN595799b6z/QRBzXfFhE8iupUPp3042yBNo0STPqnzQ==",
    ),
    Package(
        "d3-format", "3.1.3", "+F+/49swqmGuQJmSKnVMIDH/QkEFV5li9QRj0xm/KhyAUBv099O5PrvpQFxBp24PYph17Mnvt9mjKQV0ii0nMA=="
    ),
    Package(
        "d3-scale", "4.0.3", "66cWobCNzcMvlfoaDHCxuIv9TBUWG1BLOWdv9kHHFuCr1JdqAWPvTmsaEYDD5NRMyWZ5+7u0GqiCDfMXMqh3hg=="
    ),
    Package(
        "d3-selection",
        "3.0.1",
        "ODSf35vqCrlCfp7hrm0eZjvOosSXSYLjqvIlhMBV9q9VOx7EBJG6pc+uXBswEZNJgCGJ+qnKYcWutbZDIxe/Xg==",
    ),
    Package(
        "d3-axis", "3.0.1", "E5QCXfaf/uJZEHHiqoWRq+bQEm2PzoVFv2rDC7CZ3wwI0MjfMW3w83J3ubobG4IJj3lShAI5eiPJhOu/8wHofA=="
    ),
)
"""What draws the explorer, each after those it needs. Scales of time are not used: d3-time is not here."""
D3_FILE = Path(__file__).resolve().parents[2] / "nystrom_np" / "explore" / "d3.js"
"""Is committed, since ``nystrom-np explore`` works without a network; ``python -m docs.builder.assets`` writes it."""


def opened(package: Package, cache: Path) -> tarfile.TarFile:
    """Open a package, which is kept in ``cache``, so that a second build needs no network."""
    archive = cache / f"{package.name}-{package.version}.tgz"
    address = f"https://registry.npmjs.org/{package.name}/-/{archive.name}"
    if not archive.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(address, timeout=60) as response, replacing(archive) as temporary:
            temporary.write_bytes(response.read())
    data = archive.read_bytes()
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != package.sha512:
        archive.unlink()
        raise ValueError(f"{address} is not the file that was pinned")
    return tarfile.open(fileobj=io.BytesIO(data))


def axe(cache: Path) -> str:
    """Return axe-core's script."""
    with opened(AXE, cache) as package:
        return package.extractfile("package/axe.min.js").read().decode()


def d3(cache: Path) -> str:
    """Return D3's modules as one script, with their licence, which must go with every copy."""
    licence, scripts = "", []
    for module in D3:
        with opened(module, cache) as package:
            licence = package.extractfile("package/LICENSE").read().decode()
            scripts.append(package.extractfile(f"package/dist/{module.name}.min.js").read().decode().strip())
    return f"/*\n{licence.strip()}\n*/\n" + "\n".join(scripts) + "\n"


def fetch_katex(folder: Path, cache: Path) -> None:
    """Put KaTeX's script, style and fonts (woff2 alone) into a folder, which is emptied before."""
    with opened(KATEX, cache) as package:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "fonts").mkdir(parents=True)
        for member in package.getmembers():
            name = Path(member.name).name
            if member.name in WANTED:
                (folder / name).write_bytes(package.extractfile(member).read())
            elif member.name.startswith("package/dist/fonts/") and name.endswith(".woff2"):
                (folder / "fonts" / name).write_bytes(package.extractfile(member).read())
    style = folder / "katex.min.css"
    # browsers without woff2 fall back to nothing: the other formats are not served
    text = style.read_text(encoding="utf-8")
    for ending in ("woff", "ttf"):
        text = _without(text, ending)
    style.write_text(text, encoding="utf-8")


def _without(style: str, ending: str) -> str:
    return re.sub(rf",url\([^)]*\.{ending}\) format\(\"[a-z0-9]+\"\)", "", style)


if __name__ == "__main__":
    script = d3(D3_FILE.parents[2] / "docs" / "_build" / "cache")
    for file, text in ((D3_FILE, script), (D3_FILE.with_suffix(".LICENSE"), script[3 : script.index("*/")])):
        with replacing(file) as written:
            written.write_text(text, encoding="utf-8")
