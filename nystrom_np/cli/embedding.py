"""``embed``: the lines of a file as vectors."""

import argparse
from pathlib import Path

from nystrom_np.cli.common import AGREES, Commands, add_options, add_overrides, overrides, print_json
from nystrom_np.embed import POOLING, embed


def add_embed(commands: Commands) -> None:
    """Register ``embed``."""
    make = commands.add_parser("embed", help="a vector for each line of a file; goes on after an interruption")
    make.add_argument("input", type=Path, help="a text file, or JSON Lines (*.jsonl, *.ndjson): a line is a text")
    make.add_argument("--output", type=Path, required=True, metavar="FILE", help="*.npy or *.safetensors")
    make.add_argument("--model", metavar="FOLDER", help="a checkpoint; a shipped one by default")
    make.add_argument(
        "--pooling",
        choices=POOLING,
        default="mean",
        help="of the tokens' vectors: their mean (the default), or the first",
    )
    make.add_argument(
        "--field", default="text", metavar="NAME", help="where the text is in an object of JSON Lines (text)"
    )
    add_overrides(make)
    add_options(make, _embed, ("float32", "float64", "float16"))


def _embed(options: argparse.Namespace) -> int:
    made = embed(
        options.input,
        options.output,
        options.model,
        options.pooling,
        options.field,
        options.dtype or "float32",
        options.device,
        **overrides(options),
    )
    if options.json:
        print_json(made._asdict() | {"output": str(made.output)})
        return AGREES
    again = f", the first {made.resumed_at:,} from an earlier run" if made.resumed_at else ""
    print(f"{made.output}: {made.rows:,} vectors of {made.width}{again}")
    return AGREES
