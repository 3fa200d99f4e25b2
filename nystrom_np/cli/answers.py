"""The pipelines' commands: text in, answers out."""

import argparse
import sys
from pathlib import Path

from nystrom_np.cli.common import AGREES, Commands, add_options, positive, print_json
from nystrom_np.demo import HEADS, fill_mask, load, shipped_weights
from nystrom_np.tokenization import NystromformerTokenizer


def add_fill_mask(commands: Commands) -> None:
    """Register ``fill-mask``."""
    fill = commands.add_parser("fill-mask", help="guess the masked words of a text")
    fill.add_argument("text", help='with a [MASK] or more: "Paris is the [MASK] of France."')
    fill.add_argument("--model", type=Path, metavar="FOLDER", help="a checkpoint; a shipped one by default")
    fill.add_argument("--top-k", type=positive, default=5, metavar="N", help="guesses for each mask (5)")
    add_options(fill, _fill_mask, ("float32", "float64", "float16"))


def _fill_mask(options: argparse.Namespace) -> int:
    folder = options.model or shipped_weights() / "masked-lm"
    model = load(HEADS["masked-lm"], folder, options.dtype or "float32", options.device)
    tokenizer = NystromformerTokenizer.from_pretrained(folder)
    masks = fill_mask(model, tokenizer, options.text, options.top_k)
    if options.json:
        print_json({"text": options.text, "masks": [[vars(guess) for guess in guesses] for guesses in masks]})
        return AGREES
    if options.model is None:
        print("(the shipped weights are random: --model FOLDER takes a trained checkpoint)", file=sys.stderr)
    for guesses in masks:
        for guess in guesses:
            print(f"{guess.probability:6.1%}  {guess.token:<16} {guess.sequence}")
    return AGREES
