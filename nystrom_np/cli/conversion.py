"""``convert``: a checkpoint of torch.save into safetensors."""

import argparse
from pathlib import Path

from nystrom_np.cli.common import AGREES, Commands, add_options, print_json
from nystrom_np.convert import convert


def add_convert(commands: Commands) -> None:
    """Register ``convert``."""
    make = commands.add_parser("convert", help="turn a pytorch_model.bin into safetensors, without torch")
    make.add_argument(
        "source", help="a folder with pytorch_model.bin, a file of torch.save, or owner/name on the Hugging Face Hub"
    )
    make.add_argument("target", type=Path, help="the folder to make")
    make.add_argument(
        "--config", type=Path, metavar="FILE", help="a config.json; the one beside the weights by default"
    )
    make.add_argument("--revision", help="of a repository: a branch, a tag or a commit")
    make.add_argument("--subfolder", default="", metavar="NAME", help="where the files are in the source")
    make.add_argument("--variant", metavar="NAME", help='which weights: "fp16" for pytorch_model.fp16.bin')
    add_options(make, _convert)


def _convert(options: argparse.Namespace) -> int:
    where = {"subfolder": options.subfolder, "variant": options.variant}
    made = convert(options.source, options.target, options.config, options.revision, **where)
    if options.json:
        print_json(made._asdict() | {"folder": str(made.folder)})
        return AGREES
    tokenizer = "and its tokenizer" if made.tokenizer else "and no tokenizer"
    print(f"{made.folder}: {made.model} of {made.parameters:,} parameters in {made.dtype}, {tokenizer};")
    print("loaded again and found the same to the last bit.")
    return AGREES
