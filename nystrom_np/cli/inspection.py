"""``inspect``: what a checkpoint is, and which attention it runs."""

import argparse
import json
import textwrap

from nystrom_np.checkpoint import stored_tensors
from nystrom_np.cli.common import AGREES, CHECKPOINT, Commands, add_options, print_json
from nystrom_np.config import NystromformerConfig
from nystrom_np.demo import CLASSES
from nystrom_np.hub import local_folder
from nystrom_np.pipelines import load_whole


def add_inspect(commands: Commands) -> None:
    """Register ``inspect``."""
    look = commands.add_parser("inspect", help="what a checkpoint is, and which attention it runs")
    look.add_argument("folder", help=CHECKPOINT)
    add_options(look, _inspect)


def _inspect(options: argparse.Namespace) -> int:
    folder = local_folder(options.folder, "weights")
    config = NystromformerConfig.from_pretrained(folder)
    tensors = stored_tensors(folder)
    named = getattr(config, "architectures", None)
    name = str(named[0]) if isinstance(named, list) and named else "NystromformerModel"
    if name not in CLASSES:
        raise ValueError(f"{options.folder} is a {name}, which is none of {', '.join(CLASSES)}")
    files = sorted({tensor.path for tensor in tensors.values()})
    facts = {
        "folder": str(options.folder),
        "model": name,
        "parameters": load_whole(CLASSES[name], folder).num_parameters(),
        "dtype": sorted({tensor.dtype for tensor in tensors.values()}),
        "bytes": sum(path.stat().st_size for path in files),
        "files": [path.name for path in files],
        "attention": "nystrom" if config.uses_nystrom_attention else "dense",
        "why": _why(config),
        "config": config.to_dict(),
    }
    if options.json:
        print_json(facts)
        return AGREES
    size = f"{facts['bytes'] / 1e6:,.1f} MB in {', '.join(facts['files'])}"
    shape = (
        f"{config.num_hidden_layers} layers, width {config.hidden_size}, {config.num_attention_heads} heads, "
        f"feed-forward {config.intermediate_size}, {config.vocab_size:,} tokens, "
        f"{config.max_position_embeddings:,} positions"
    )
    lines = {"model": name, "shape": shape, "parameters": f"{facts['parameters']:,}"}
    lines |= {
        "dtype": ", ".join(facts["dtype"]),
        "size": size,
        "attention": f"{facts['attention']}: {facts['why']}",
    }
    for label, text in lines.items():
        print(textwrap.fill(text, 100, initial_indent=f"{label:<12}", subsequent_indent=" " * 12))
    print("config")
    for key, value in config.to_dict().items():
        print(f"    {key}: {json.dumps(value, ensure_ascii=False)}")
    return AGREES


def _why(config: NystromformerConfig) -> str:
    landmarks, means = config.num_landmarks, config.segment_means_seq_len
    if not config.uses_nystrom_attention:
        return (
            f"num_landmarks equals segment_means_seq_len ({landmarks}), which means exact softmax attention "
            "at every length; override one of the two when loading to run the Nyström approximation"
        )
    return (
        f"num_landmarks ({landmarks}) differs from segment_means_seq_len ({means}), so attention is "
        f"approximated where there are more than {landmarks} tokens, and exact up to there"
    )
