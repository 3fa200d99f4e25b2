"""``plot``: a picture of attention, exact and approximated."""

import argparse
from pathlib import Path

from nystrom_np.cli.common import AGREES, Commands, add_options, add_overrides, overrides, print_json
from nystrom_np.model import NystromformerModel
from nystrom_np.pipelines.loading import load_whole, shipped_weights
from nystrom_np.plot import compare_attention, plot_attention
from nystrom_np.tokenization import NystromformerTokenizer


def add_plot(commands: Commands) -> None:
    """Register ``plot``."""
    draw = commands.add_parser("plot", help="draw attention: exact, Nyström, and their difference")
    draw.add_argument("text")
    draw.add_argument("--output", type=Path, required=True, metavar="FILE", help="*.png or *.svg")
    draw.add_argument("--model", metavar="FOLDER", help="a checkpoint, or owner/name on the Hugging Face Hub")
    draw.add_argument("--layer", type=int, metavar="N", help="0 for the first; the last by default")
    draw.add_argument("--head", type=int, metavar="N", help="0 for the first; by default the mean of all")
    add_overrides(draw)
    add_options(draw, _plot, ("float32", "float64"))


def _plot(options: argparse.Namespace) -> int:
    folder = options.model or shipped_weights() / "masked-lm"
    tokenizer = NystromformerTokenizer.from_pretrained(folder)
    model = load_whole(NystromformerModel, folder, options.dtype or "float32", options.device, **overrides(options))
    found = compare_attention(model, tokenizer, options.text, options.layer, options.head)
    plot_attention(found, options.output)
    if options.json:
        matrices = {"softmax": found.dense.tolist(), "nystrom": found.nystrom.tolist()}
        print_json({"output": str(options.output), "title": found.title, "tokens": found.tokens, **matrices})
    else:
        print(f"{options.output}: {found.title}")
    return AGREES
