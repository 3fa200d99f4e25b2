"""``explore``: a page on which attention can be touched."""

import argparse
from pathlib import Path

from nystrom_np.cli.common import AGREES, Commands, add_options, print_json
from nystrom_np.explore import explore, write_page
from nystrom_np.model import NystromformerForMaskedLM, NystromformerModel
from nystrom_np.pipelines.loading import load_whole, shipped_weights
from nystrom_np.tokenization import NystromformerTokenizer


def add_explore(commands: Commands) -> None:
    """Register ``explore``."""
    page = commands.add_parser("explore", help="write a page on which attention can be touched")
    page.add_argument("--text", action="append", required=True, metavar="TEXT", help="can be given several times")
    page.add_argument("--output", type=Path, required=True, metavar="FILE", help="*.html, which needs no other file")
    page.add_argument("--model", metavar="FOLDER", help="a checkpoint, or owner/name on the Hugging Face Hub")
    add_options(page, _explore, ("float32", "float64"))


def _explore(options: argparse.Namespace) -> int:
    folder = options.model or shipped_weights() / "masked-lm"
    tokenizer = NystromformerTokenizer.from_pretrained(folder)
    guesses = any(str(tokenizer.mask_token) in text for text in options.text)  # for these a head is needed
    head = NystromformerForMaskedLM if guesses else NystromformerModel
    model = load_whole(head, folder, options.dtype or "float32", options.device)
    write_page(explore(model, tokenizer, options.text, progress=None), options.output)
    if options.json:
        print_json({"output": str(options.output), "texts": options.text})
    else:
        print(f"{options.output}: {len(options.text)} text{'s' * (len(options.text) > 1)} to explore")
    return AGREES
