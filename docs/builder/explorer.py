"""The explorer's files for the site: six texts, computed by the package from the shipped masked language model."""

import hashlib
import json
from pathlib import Path

from docs.builder.blocks import ROOT
from docs.builder.pictures import CHECKPOINT
from nystrom_np import NystromformerForMaskedLM, NystromformerTokenizer
from nystrom_np.explore import Exploration, data_script, explore, part
from nystrom_np.files import replacing

__all__ = ["TEXTS", "computed", "write"]

TEXTS = (
    "The old library stood at the end of the [MASK], and every morning the same man opened its heavy door. "
    "He knew where each book was, who had written it and who had read it last. When it rained, people came in "
    "to stay dry, and many of them left with a story that they had not been looking for.",
    "The violin is a musical [MASK] with strings.",
    "Many people in the United [MASK] of America live in large cities on the coast.",
    "The river rises in the mountains, flows through three countries and ends in the [MASK]. Many towns lie on its "
    "banks. In spring, when the snow melts, the water is high, and boats carry wood and stone down to the old port.",
    "The first world [MASK] began in 1914 and ended in 1918. It was followed by a second one twenty years later, "
    "which began when Germany invaded Poland, and in which many more people died than in the first. Then there was "
    "peace.",
    "The city is the [MASK] of the country and lies on the coast in the south. About two million people live there. "
    "It has an old university, a large port and many museums, and it was the home of several famous writers and "
    "painters.",
)
"""The second and third are shorter than the model's 64 positions, and so padded. Each padded text weighs as two."""


def computed(cache: Path) -> Exploration:
    """What the page shows of the texts: a forward pass for each of 6,000 settings, kept while nothing changes."""
    package = sorted(path for path in (ROOT / "nystrom_np").rglob("*.py") if "_weights" not in path.parts)
    parts = [*package, Path(__file__), CHECKPOINT / "model.safetensors"]
    key = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in parts)).hexdigest()
    told, numbers = cache / f"explorer-{key}.json", cache / f"explorer-{key}.bin"
    if not (told.is_file() and numbers.is_file()):
        model = NystromformerForMaskedLM.from_pretrained(CHECKPOINT)
        found = explore(model, NystromformerTokenizer.from_pretrained(CHECKPOINT), TEXTS)
        cache.mkdir(parents=True, exist_ok=True)
        with replacing(told) as temporary:
            temporary.write_text(json.dumps(found.told), encoding="utf-8")
        with replacing(numbers) as temporary:
            temporary.write_bytes(found.numbers)
    return Exploration(json.loads(told.read_text(encoding="utf-8")), numbers.read_bytes())


def write(folder: Path, cache: Path) -> None:
    """Put the page's script, style and data beside the site's other files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("explore.css", "d3.js", "explore.js"):
        (folder / name).write_text(part(name), encoding="utf-8")
    (folder / "data.js").write_text(data_script(computed(cache)), encoding="utf-8")
