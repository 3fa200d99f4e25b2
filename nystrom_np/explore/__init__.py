"""A page to touch: attention of given texts, exact and approximated, under every setting. The page needs no network.

What it shows is computed in the browser from the scores q kᵀ of every layer and head, which are here: since landmarks
are means of queries and of keys, the landmarks' scores are means of these scores. Guesses for a masked word are the
model's, one forward pass for each setting.
"""

import base64
import copy
import html
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nystrom_np.activations import get_activation
from nystrom_np.array_module import Array, get_array_module, move_like, to_numpy
from nystrom_np.config import NystromformerConfig
from nystrom_np.definition import (
    depthwise_conv,
    embeddings,
    encoder_layer,
    inverse,
    layer_norm,
    linear,
    masked_lm,
    nystrom_kernels,
    project,
    softmax,
)
from nystrom_np.fast.on_numpy.threads import parallel_map
from nystrom_np.files import replacing
from nystrom_np.model.inputs import default_positions
from nystrom_np.model.parameters import tree
from nystrom_np.plot import padded_ids, queries_and_keys
from nystrom_np.progress import with_progress
from nystrom_np.tokenization import NystromformerTokenizer

__all__ = ["Exploration", "explore", "write_page"]

HERE = Path(__file__).resolve().parent
MASKINGS = ("transformers", "original", "invariant")
MOST_TOKENS = 128
"""Of a text: more could be neither seen nor hovered on, and the scores grow with the square."""
STEPS = (*range(11), None)
"""Steps of the inverse; None is the exact one."""
GUESSES = 5
TOGETHER = 8
"""Numbers of landmarks that are handed out to the threads at a time."""


class Exploration(NamedTuple):
    """What the page shows.

    Attributes
    ----------
    told : dict
        What can be written as JSON: tokens, sizes, and where each text's numbers begin.
    numbers : bytes
        Scores as float16, guesses as pairs of a uint16 and a float16, little-endian, one after the other.
    """

    told: dict[str, Any]
    numbers: bytes


def explore(
    model: Any, tokenizer: NystromformerTokenizer, texts: Sequence[str], progress: bool | None = False
) -> Exploration:
    """Compute all that the page shows of some texts.

    Parameters
    ----------
    model : NystromformerModel or NystromformerForMaskedLM
        Queries and keys are its own, as its configuration says. With a head for masked words the page also has the
        guesses for the first ``[MASK]`` of a text, under every setting.
    tokenizer : NystromformerTokenizer
    texts : sequence of str
        Each is cut to what the model takes, and padded if the model was trained with padding.
    progress : bool, optional
        Whether a bar shows how many texts' settings are done; None for in a terminal, after a second.

    Returns
    -------
    Exploration

    Raises
    ------
    ValueError
        If there is no text, or one of more than 128 tokens.

    Examples
    --------
    >>> from nystrom_np import NystromformerModel
    >>> from nystrom_np.pipelines.loading import shipped_weights
    >>> folder = shipped_weights() / "masked-lm"
    >>> tokenizer = NystromformerTokenizer.from_pretrained(folder)
    >>> found = explore(NystromformerModel.from_pretrained(folder), tokenizer, ["A dog runs."])
    >>> [text["tokens"][1] for text in found.told["texts"]], len(found.numbers)
    (['▁a'], 197784)
    """
    if not texts:
        raise ValueError("there must be a text to explore; found none")
    config = model.config
    parts: list[bytes] = []
    words: dict[str, int] = {}
    told = []
    for text in texts:
        ids, mask = padded_ids(model, tokenizer, text)
        if len(ids) > MOST_TOKENS:
            raise ValueError(f"a text of at most {MOST_TOKENS} tokens can be explored; found one of {len(ids)}")
        at = _masked_place(model, tokenizer, ids)
        modes = []
        for masking in MASKINGS if 0 in mask else (config.masking,):
            kept = sum(mask) if masking == "invariant" else len(mask)
            reader = _Reader(model, ids[:kept], mask[:kept], masking)
            mode = {"masking": masking, "length": kept, "scores": _put(parts, reader.scores())}
            if at is not None:
                mode["guesses"] = _put(parts, _packed(reader.all_guesses(tokenizer, at, progress), words))
            modes.append(mode)
        tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(ids)]
        told.append({"text": text, "tokens": tokens, "real": sum(mask), "masked": at, "modes": modes})
    head = {
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "landmarks": config.num_landmarks,
        "steps": config.pinv_iterations if config.pinv_method == "iterative" else None,
        "initial": "matrix" if config.inv_coeff_init_option else config.pinv_initial,
        "words": list(words),
        "texts": told,
    }
    return Exploration(head, b"".join(parts))


def write_page(exploration: Exploration, path: str | Path, title: str = "Attention to touch") -> None:
    """Write the page as one file that holds all it needs.

    Parameters
    ----------
    exploration : Exploration
        Of `explore`.
    path : str or path
        Ends in ``.html``. A file of that name is replaced.
    title : str
        The page's heading.

    Raises
    ------
    ValueError
        If the name ends in something else.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> told = {"layers": 1, "heads": 1, "landmarks": 1, "steps": 6, "initial": "batch", "words": [], "texts": []}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "explorer.html"
    ...     write_page(Exploration(told, b""), path)
    ...     path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    True
    """
    path = Path(path)
    if path.suffix != ".html":
        raise ValueError(f"the page must be named *.html; found {path.name!r}")
    title = html.escape(title)
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{part('explore.css')}</style></head>\n"
        f'<body class="alone"><main><h1>{title}</h1>\n{part("explore.html")}</main>\n'
        f"<script>{data_script(exploration)}</script>\n<script>{part('d3.js')}</script>\n"
        f"<script>{part('explore.js')}</script></body></html>\n"
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def part(name: str) -> str:
    """Read a part of the page: ``explore.html`` (what its body holds), ``explore.css``, ``explore.js`` or ``d3.js``.

    Examples
    --------
    >>> "<form" in part("explore.html")
    True
    """
    return (HERE / name).read_text(encoding="utf-8")


def data_script(exploration: Exploration) -> str:
    r"""Write the data as a script: float16 in base 64, since a page opened from disk may not fetch a binary file.

    Examples
    --------
    >>> data_script(Exploration({"texts": ["</script>"]}, bytes(3)))
    'window.exploration = {"told": {"texts": ["\\u003c/script>"]}, "numbers": "AAAA"};'
    """
    told = json.dumps(exploration.told, ensure_ascii=False).replace("<", r"\u003c")
    return f'window.exploration = {{"told": {told}, "numbers": "{base64.b64encode(exploration.numbers).decode()}"}};'


class _Reader:
    """A model before one text, whose padding it treats in one way."""

    def __init__(self, model: Any, ids: Sequence[int], mask: Sequence[int], masking: str) -> None:
        self.parameters, body = tree(model.state_dict()), getattr(model, "nystromformer", model)
        self.like = body.state_dict()["embeddings.word_embeddings.weight"]
        self.body = self.parameters.get("nystromformer", self.parameters)
        self.config, self.mask = self.changed(body.config, masking=masking), np.array(mask, bool)
        self.ids = move_like(np.array([ids]), self.like)

    @staticmethod
    def changed(config: Any, **fields: Any) -> Any:
        """Return a configuration with other fields: no step at all is allowed, which no model may be told."""
        config = copy.copy(config)
        vars(config).update(fields)
        return config

    def embedded(self) -> tuple[Array, Array | None]:
        """Return what enters the first layer, (1, L, D), and the mask of its keys."""
        positions = default_positions(self.like, self.config, len(self.mask))
        mask = None if self.mask.all() else move_like(self.mask, self.like)[None, None, None]
        return embeddings(self.body["embeddings"], self.config, self.ids, self.ids * 0, positions), mask

    def layers(self) -> list[Any]:
        """Return the parameters of each layer."""
        return [self.body["encoder"]["layer"][str(number)] for number in range(self.config.num_hidden_layers)]

    def scores(self) -> np.ndarray:
        """Return q kᵀ of every layer and head, (layers, H, L, L), each row less its largest score of a real token.

        What is taken away cancels in every softmax, of landmarks too. Near 0, where weights are large, float16 is
        finest.
        """
        x, mask = self.embedded()
        found = []
        for layer, p in enumerate(self.layers()):
            query, key, _ = queries_and_keys(self.body, self.config, x, self.mask, layer)
            scores = to_numpy(query @ key.swapaxes(-1, -2))[0].astype(np.float64)
            found.append(scores - scores[..., self.mask].max(axis=-1, keepdims=True))
            x, _ = encoder_layer(p, self.config, x, mask)
        return np.array(found).astype("<f2")

    def all_guesses(
        self, tokenizer: NystromformerTokenizer, at: int, progress: bool | None
    ) -> Iterator[list[tuple[str, float]]]:
        """Yield the guesses of exact attention, then of every number of landmarks with every inverse."""
        counts = [len(self.mask), *range(2, len(self.mask))]
        threads = None if isinstance(self.like, np.ndarray) else 1
        for start in with_progress(range(0, len(counts), TOGETHER), progress, None):
            some = counts[start : start + TOGETHER]
            for found in parallel_map(lambda m: self.guesses(tokenizer, at, m), some, threads):
                yield from found

    def guesses(self, tokenizer: NystromformerTokenizer, at: int, m: int) -> list[list[tuple[str, float]]]:
        """Return the likeliest tokens at a place, and their probabilities: with each inverse of m landmarks."""
        length = len(self.mask)
        config = self.changed(self.config, num_landmarks=m, segment_means_seq_len=length)
        inverses = [] if m == length else [inverse(self.changed(config, **_method(steps))) for steps in STEPS]
        x, mask = self.embedded()
        *first, last = self.layers()
        for p in first:
            x = _layer(p, config, x, mask, inverses)
        x = _layer(last, config, x, mask, inverses, slice(at, at + 1))
        shares = to_numpy(softmax(masked_lm(self.parameters, config, x)))[:, 0]
        found = []
        for row in shares:
            best = np.argsort(-row, kind="stable")[:GUESSES]
            tokens = map(str, tokenizer.convert_ids_to_tokens(best.tolist()))
            found.append([(token, float(row[i])) for token, i in zip(tokens, best, strict=True)])
        return found


def _method(steps: int | None) -> dict[str, Any]:
    return {"pinv_method": "svd"} if steps is None else {"pinv_method": "iterative", "pinv_iterations": steps}


def _layer(
    p: Any,
    config: NystromformerConfig,
    x: Array,
    mask: Array | None,
    inverses: Sequence[Callable[[Array], Array]],
    places: slice = slice(None),
) -> Array:
    """Run `definition.encoder_layer` for all inverses side by side: (1 or inverses, L, D) → (inverses, places, D).

    What enters the first layer is the same for all. Each inverse sees its own matrix alone, as in a pass of its own;
    of the last layer one place alone is asked for.
    """
    if not inverses:  # exact attention
        return encoder_layer(p, config, x, mask)[0][:, places]
    own, out = p["attention"]["self"], p["attention"]["output"]
    query, key, value = project(own, config, x)
    convolved = value
    if config.masking == "original" and mask is not None:
        query, key, convolved = (y * mask.swapaxes(-1, -2) for y in (query, key, value))
    f, a, b = nystrom_kernels(query, key, config.num_landmarks, mask)
    xp = get_array_module(x)
    rows = range(len(inverses)) if len(a) > 1 else [0] * len(inverses)
    z = xp.concatenate([pinv(a[row : row + 1]) for pinv, row in zip(inverses, rows, strict=True)])
    context = f @ z @ (b @ value)
    if "conv" in own:
        context = context + depthwise_conv(convolved, own["conv"]["weight"])
    context = xp.moveaxis(context, 1, 2).reshape(len(inverses), *x.shape[1:])[:, places]
    x = layer_norm(linear(context, **out["dense"]) + x[:, places], **out["LayerNorm"], eps=config.layer_norm_eps)
    hidden = get_activation(config.hidden_act)(linear(x, **p["intermediate"]["dense"]))
    y = linear(hidden, **p["output"]["dense"]) + x
    return layer_norm(y, **p["output"]["LayerNorm"], eps=config.layer_norm_eps)


def _masked_place(model: Any, tokenizer: NystromformerTokenizer, ids: Sequence[int]) -> int | None:
    wanted = hasattr(model, "nystromformer") and tokenizer.mask_token_id in ids
    return ids.index(tokenizer.mask_token_id) if wanted else None


def _packed(found: Iterable[list[tuple[str, float]]], words: dict[str, int]) -> np.ndarray:
    """Guesses as numbers of words, which are collected, and halves."""
    pairs = [(words.setdefault(word, len(words)), share) for guesses in found for word, share in guesses]
    return np.array(pairs, dtype=[("word", "<u2"), ("share", "<f2")])


def _put(parts: list[bytes], array: np.ndarray) -> int:
    """Add an array to the bytes, and return where it begins."""
    start = sum(map(len, parts))
    parts.append(array.tobytes())
    return start
