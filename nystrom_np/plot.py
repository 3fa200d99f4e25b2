"""Attention as pictures: the softmax matrix of one input, its Nyström approximation, and where they differ."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nystrom_np.array_module import Array, move_like, to_numpy
from nystrom_np.config import NystromformerConfig
from nystrom_np.definition import inverse, project
from nystrom_np.files import replacing
from nystrom_np.functional import nystrom_attention_matrix, softmax_attention_matrix
from nystrom_np.model.parameters import tree
from nystrom_np.pipelines.base import trained_length
from nystrom_np.shapes import Float
from nystrom_np.tokenization import NystromformerTokenizer

__all__ = ["Attention", "compare_attention", "plot_attention"]

FORMATS = (".png", ".svg")
INCHES_PER_TOKEN = 0.16
MAX_LABELS = 90
"""How many tokens an axis names at the most: more names would not be readable."""


class Attention(NamedTuple):
    """How the tokens of a text attend to one another.

    Attributes
    ----------
    tokens : list of str
        The L tokens.
    dense, nystrom : numpy arrays, (L, L)
        The softmax matrix, and F A⁺ B in its place.
    title : str
        Which layer and head, and how many landmarks.
    """

    tokens: list[str]
    dense: np.ndarray
    nystrom: np.ndarray
    title: str


def compare_attention(
    model: Any, tokenizer: NystromformerTokenizer, text: str, layer: int | None = None, head: int | None = None
) -> Attention:
    """Compute softmax attention and its Nyström approximation from the same queries and keys of a layer.

    Parameters
    ----------
    model : NystromformerModel
        It computes the layers before as its configuration says.
    tokenizer : NystromformerTokenizer
    text : str
        Cut to what the model takes. Padded if the model was trained with padding, which the result leaves out.
    layer : int, optional
        0 for the first; the last by default.
    head : int, optional
        0 for the first; by default the mean of all heads.

    Returns
    -------
    Attention

    Raises
    ------
    IndexError
        If there is no such layer or head.
    ValueError
        If there are not fewer landmarks than tokens, so that nothing is approximated.

    Examples
    --------
    >>> from nystrom_np import NystromformerModel
    >>> from nystrom_np.pipelines.loading import shipped_weights
    >>> folder = shipped_weights() / "masked-lm"
    >>> tokenizer = NystromformerTokenizer.from_pretrained(folder)
    >>> found = compare_attention(NystromformerModel.from_pretrained(folder), tokenizer, "A dog runs.")
    >>> found.dense.shape == found.nystrom.shape == (len(found.tokens), len(found.tokens))
    True
    """
    config = model.config
    layer = _checked("layer", config.num_hidden_layers - 1 if layer is None else layer, config.num_hidden_layers)
    heads = slice(None) if head is None else _checked("head", head, config.num_attention_heads)
    ids, mask = padded_ids(model, tokenizer, text)
    if len(mask) <= config.num_landmarks:
        counts = f"{config.num_landmarks} landmarks for {len(mask)} tokens"
        raise ValueError(f"{counts} approximate nothing: take fewer landmarks (num_landmarks) or a longer text")
    states = model([ids], attention_mask=[mask], output_hidden_states=True).hidden_states
    dense, nystrom = _matrices(model, states[layer], np.array(mask), layer)
    kept = np.flatnonzero(mask)  # the positions that are not padding
    matrices = [to_numpy(matrix)[0, heads][..., kept[:, None], kept] for matrix in (dense, nystrom)]
    dense, nystrom = (matrix.mean(axis=0) if head is None else matrix for matrix in matrices)
    which = f"mean of {config.num_attention_heads} heads" if head is None else f"head {head}"
    padding = f", {len(mask) - len(kept)} of them padding" if len(kept) < len(mask) else ""
    title = f"layer {layer}, {which}: {config.num_landmarks} landmarks for {len(mask)} tokens{padding}"
    return Attention(
        [str(token) for token in tokenizer.convert_ids_to_tokens(np.array(ids)[kept])], dense, nystrom, title
    )


def plot_attention(attention: Attention, path: str | Path) -> None:
    """Draw softmax attention, its approximation and their difference side by side. The same input gives the same file.

    Parameters
    ----------
    attention : Attention
        Of `compare_attention`.
    path : str or path
        Ends in ``.png`` or ``.svg``. A file of that name is replaced.

    Raises
    ------
    ValueError
        If the name ends in something else, or matplotlib is not installed.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> matrix = np.array([[0.9, 0.1], [0.2, 0.8]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "attention.svg"
    ...     plot_attention(Attention(["a", "dog"], matrix, matrix, "an example"), path)
    ...     path.read_text().startswith("<?xml")
    True
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ValueError(f"the picture must be named *{' or *'.join(FORMATS)}; found {path.name!r}")
    try:
        import matplotlib.style
    except ImportError:
        raise ValueError("plot needs matplotlib: pip install 'nystrom_np[plot]'") from None
    left_out = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}  # they vary between runs
    with matplotlib.style.context(["default", {"svg.hashsalt": "nystrom_np", "font.size": 8}]):
        figure = _figure(attention)
        with replacing(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], dpi=120, metadata=left_out[path.suffix])


def _checked(name: str, value: int, count: int) -> int:
    if not 0 <= value < count:
        raise IndexError(f"{name} must be from 0 to {count - 1}; found {value}")
    return value


def padded_ids(model: Any, tokenizer: NystromformerTokenizer, text: str) -> tuple[list[int], list[int]]:
    """Return the ids and the mask of a text, padded to the length that the model was trained with.

    Examples
    --------
    >>> from nystrom_np import NystromformerModel
    >>> from nystrom_np.pipelines.loading import shipped_weights
    >>> folder = shipped_weights() / "masked-lm"
    >>> tokenizer = NystromformerTokenizer.from_pretrained(folder)
    >>> ids, mask = padded_ids(NystromformerModel.from_pretrained(folder), tokenizer, "A dog runs.")
    >>> len(ids), sum(mask)
    (64, 7)
    """
    limit = min(tokenizer.model_max_length, model.config.max_position_embeddings)
    length = trained_length(model.config)
    encoding = tokenizer(text, truncation=True, max_length=limit, return_attention_mask=True)
    if length is not None and len(encoding.input_ids) < length:
        encoding = tokenizer(text, padding="max_length", max_length=length, return_attention_mask=True)
    return encoding.input_ids, encoding.attention_mask


def queries_and_keys(
    p: Any, config: NystromformerConfig, x: Float[Array, "1 length dim"], mask: np.ndarray, layer: int
) -> tuple[Float[Array, "1 heads length width"], Float[Array, "1 heads length width"], Array]:
    """Return the queries and keys of a layer whose input is x, as attention takes them, and the mask of its keys.

    Examples
    --------
    >>> from nystrom_np import NystromformerModel
    >>> model = NystromformerModel(NystromformerConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=1))
    >>> x, mask = np.ones((1, 3, 8), np.float32), np.ones(3, bool)
    >>> query, key, keys = queries_and_keys(tree(model.state_dict()), model.config, x, mask, layer=0)
    >>> query.shape, key.shape, keys.shape
    ((1, 2, 3, 4), (1, 2, 3, 4), (1, 1, 1, 3))
    """
    p = p["encoder"]["layer"][str(layer)]["attention"]["self"]
    query, key, _ = project(p, config, x.astype("float32") if x.dtype == "float16" else x)
    keys = move_like(mask, x)[None, None, None]
    if config.masking == "original":  # that masking sets padding to zero before landmarks are computed
        not_padding = keys.swapaxes(-1, -2).astype(query.dtype)
        query, key = query * not_padding, key * not_padding
    return query, key, keys


def _matrices(
    model: Any, x: Float[Array, "1 length dim"], mask: np.ndarray, layer: int
) -> tuple[Float[Array, "1 heads length length"], Float[Array, "1 heads length length"]]:
    """Both attention matrices of a layer whose input is x."""
    config = model.config
    query, key, keys = queries_and_keys(tree(model.state_dict()), config, x, mask, layer)
    dense = softmax_attention_matrix(query, key, keys)
    return dense, nystrom_attention_matrix(query, key, config.num_landmarks, keys, inverse(config))


def _figure(attention: Attention) -> Any:
    from matplotlib.figure import Figure

    _, dense, nystrom, title = attention
    difference = nystrom - dense
    side = max(2.2, INCHES_PER_TOKEN * min(len(attention.tokens), MAX_LABELS))
    figure = Figure(figsize=(3 * side + 3.5, side + 1.5), layout="constrained")
    panels = figure.subplots(1, 3)
    lowest, highest = min(0.0, float(nystrom.min())), float(max(dense.max(), nystrom.max()))
    largest = float(np.abs(difference).max()) or 1.0
    share = float(np.linalg.norm(difference) / np.linalg.norm(dense))
    for panel, matrix, name, colours, limits in (
        (panels[0], dense, "softmax attention", "viridis", (lowest, highest)),
        (panels[1], nystrom, "Nyström approximation", "viridis", (lowest, highest)),
        (panels[2], difference, f"difference, {share:.0%} in norm", "RdBu_r", (-largest, largest)),
    ):
        image = panel.imshow(matrix, cmap=colours, vmin=limits[0], vmax=limits[1], interpolation="nearest")
        panel.set_title(name)
        _name_tokens(panel, attention.tokens)
        if panel is not panels[0]:
            figure.colorbar(image, ax=panels[:2] if panel is panels[1] else panel, shrink=0.8, pad=0.02)
    panels[0].set_ylabel("from")
    figure.suptitle(title)
    return figure


def _name_tokens(panel: Any, tokens: Sequence[str]) -> None:
    """Write the tokens on both axes, literally: matplotlib must not read a dollar sign as a formula."""
    step = -(-len(tokens) // MAX_LABELS)
    places, names = range(0, len(tokens), step), tokens[::step]
    upright = {"rotation": 90, "rotation_mode": "anchor", "ha": "right", "va": "center"}
    panel.set_xticks(places, names, fontsize=7, parse_math=False, **upright)
    panel.set_yticks(places, names, fontsize=7, parse_math=False)
    panel.tick_params(length=0)
    panel.set_xlabel("to")
