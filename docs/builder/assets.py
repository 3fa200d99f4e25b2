"""What the site serves and does not keep: KaTeX, fetched from npm once, at one version, and checked."""

import base64
import hashlib
import io
import re
import shutil
import tarfile
import urllib.request
from pathlib import Path

from nystrom_np.files import replacing

__all__ = ["fetch_katex"]

VERSION = "0.19.1"
ADDRESS = f"https://registry.npmjs.org/katex/-/katex-{VERSION}.tgz"
SHA512 = "jG8uKntjSEcm2EpQOh0XturpPuuC9r3Sq5HLHdsFdWZT27E672SF19QEi+of0/YeOy15lDgRhKvr5614uRrEfA=="
WANTED = ("package/dist/katex.min.js", "package/dist/katex.min.css", "package/LICENSE")


def fetch_katex(folder: Path, cache: Path) -> None:
    """Put KaTeX's script, style and fonts (woff2 alone) into a folder, which is emptied before.

    The archive is kept in ``cache``, so that a second build needs no network.
    """
    archive = cache / f"katex-{VERSION}.tgz"
    if not archive.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(ADDRESS, timeout=60) as response, replacing(archive) as temporary:
            temporary.write_bytes(response.read())
    data = archive.read_bytes()
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != SHA512:
        archive.unlink()
        raise ValueError(f"{ADDRESS} is not the file that was pinned")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "fonts").mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as package:
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
