"""Pictures of attention: what they show is what the model computes, and the files are the same every time."""

import json
import struct
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from nystrom_np import NystromformerModel, NystromformerTokenizer, cli, plot
from nystrom_np.definition import project
from nystrom_np.model.parameters import tree
from nystrom_np.plot import Attention, compare_attention, plot_attention
from tests.models import max_column_sum, plain_inverse, plain_landmarks, plain_softmax

TEXT = "The quick brown fox jumps over the lazy dog and runs away."
SHORT = "A dog ran."


def loaded(folder: Path, **overrides: Any) -> tuple[Any, NystromformerTokenizer]:
    model = NystromformerModel.from_pretrained(folder, dtype="float64", **overrides)
    return model, NystromformerTokenizer.from_pretrained(folder)


def test_softmax_attention_is_the_models(checkpoints: Path) -> None:
    model, tokenizer = loaded(checkpoints / "masked-lm-dense", num_landmarks=8, segment_means_seq_len=8)
    attentions = model(**tokenizer(TEXT, return_tensors="np"), output_attentions=True).attentions
    for layer in range(2):
        found = compare_attention(model, tokenizer, TEXT, layer, head=1)
        np.testing.assert_allclose(found.dense, attentions[layer][0, 1], rtol=0, atol=1e-12)
    found = compare_attention(model, tokenizer, TEXT)  # the last layer, all heads
    np.testing.assert_allclose(found.dense, attentions[1][0].mean(axis=0), rtol=0, atol=1e-12)
    assert found.tokens == tokenizer.convert_ids_to_tokens(tokenizer(TEXT).input_ids)
    assert found.title == f"layer 1, mean of 4 heads: 8 landmarks for {len(found.tokens)} tokens"


@pytest.mark.parametrize("text", [TEXT, SHORT])
@pytest.mark.parametrize("masking", ["transformers", "original"])
def test_the_approximation_is_the_models(text: str, masking: str, checkpoints: Path) -> None:
    model, tokenizer = loaded(checkpoints / "masked-lm-nystrom", masking=masking)
    config, m = model.config, model.config.num_landmarks
    ids = tokenizer(text).input_ids
    padding = max(0, config.segment_means_seq_len - len(ids))
    mask = np.array([1] * len(ids) + [0] * padding)
    padded = [ids + [tokenizer.pad_token_id] * padding]
    out = model(padded, attention_mask=mask[None], output_attentions=True, output_hidden_states=True)
    p = tree(model.state_dict())["encoder"]["layer"]["1"]["attention"]["self"]
    q, k, _ = (x[0] for x in project(p, config, out.hidden_states[1]))
    if masking == "original":
        q, k = q * mask[:, None], k * mask[:, None]
    penalty = (1.0 - mask) * np.finfo(np.float64).min
    pairs = [(plain_landmarks(x, m), plain_landmarks(y, m)) for x, y in zip(q, k, strict=True)]
    largest = max_column_sum([[plain_softmax(x @ y.T) for x, y in pairs]])
    real = len(ids)
    for head, (x, y) in enumerate(pairs):
        found = compare_attention(model, tokenizer, text, layer=1, head=head)
        left = plain_softmax(q[head] @ y.T) @ plain_inverse(plain_softmax(x @ y.T), largest)
        np.testing.assert_allclose(out.attentions[1][0, head], left, rtol=0, atol=1e-10)
        whole = left @ plain_softmax(x @ k[head].T + penalty)
        np.testing.assert_allclose(found.nystrom, whole[:real, :real], rtol=0, atol=1e-10)
        exact = plain_softmax(q[head] @ k[head].T + penalty)
        np.testing.assert_allclose(found.dense, exact[:real, :real], rtol=0, atol=1e-10)
    assert found.title.endswith(f"{padding} of them padding" if padding else f"for {real} tokens")


def test_nothing_is_padded_where_padding_has_no_influence(checkpoints: Path) -> None:
    model, tokenizer = loaded(checkpoints / "masked-lm-nystrom", masking="invariant", num_landmarks=2)
    found = compare_attention(model, tokenizer, SHORT, head=0)
    assert found.title == f"layer 1, head 0: 2 landmarks for {len(found.tokens)} tokens"


def test_what_cannot_be_drawn(checkpoints: Path) -> None:
    model, tokenizer = loaded(checkpoints / "masked-lm-dense")
    with pytest.raises(ValueError, match=r"landmarks for \d+ tokens approximate nothing: take fewer landmarks"):
        compare_attention(model, tokenizer, SHORT)
    with pytest.raises(IndexError, match="layer must be from 0 to 1; found 2"):
        compare_attention(model, tokenizer, TEXT, layer=2)
    with pytest.raises(IndexError, match="head must be from 0 to 3; found -1"):
        compare_attention(model, tokenizer, TEXT, head=-1)


@pytest.fixture
def attention() -> Attention:
    tokens = ["[CLS]", "▁a", "$x$", "<&>", "日", "[SEP]"]
    dense = np.random.RandomState(0).dirichlet(np.ones(6), size=6)
    return Attention(tokens, dense, dense + 0.1 * np.eye(6), "a title")


@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")  # the font has no such sign
def test_pictures_are_whole_and_the_same_every_time(attention: Attention, tmp_path: Path) -> None:
    for suffix in (".png", ".svg"):
        first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
        first.write_text("an older picture")
        plot_attention(attention, first)
        plot_attention(attention, second)
        assert first.read_bytes() == second.read_bytes()
    width, height = struct.unpack(">II", (tmp_path / "first.png").read_bytes()[16:24])
    assert 600 < width < 3000
    assert 200 < height < 1500
    svg = (tmp_path / "first.svg").read_text()
    ElementTree.fromstring(svg)
    for told in ("softmax attention", "Nyström approximation", "difference, ", "a title", "▁a", "$x$", "日"):
        assert f"<!-- {told}" in svg  # matplotlib says in comments what it draws
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.png", "first.svg", "second.png", "second.svg"]


def test_long_texts_are_not_named_token_by_token() -> None:
    panel = Figure().subplots()
    plot._name_tokens(panel, [f"token{i}" for i in range(200)])
    for axis in (panel.xaxis, panel.yaxis):
        assert [label.get_text() for label in axis.get_ticklabels()] == [f"token{i}" for i in range(0, 200, 3)]
        assert list(axis.get_ticklocs()) == list(range(0, 200, 3))


def test_wrong_names_and_a_missing_matplotlib(
    attention: Attention, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"must be named \*\.png or \*\.svg; found 'picture\.jpg'"):
        plot_attention(attention, tmp_path / "picture.jpg")
    with pytest.raises(FileNotFoundError):
        plot_attention(attention, tmp_path / "absent" / "picture.svg")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r"plot needs matplotlib: pip install 'nystrom_np\[plot\]'"):
        plot_attention(attention, tmp_path / "picture.svg")
    assert list(tmp_path.iterdir()) == []


def test_the_command(checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["plot", SHORT, "--model", str(checkpoints / "masked-lm-dense"), "--output", str(tmp_path / "a.svg")]
    assert cli.main([*given, "--layer", "0", "--num-landmarks", "2", "--segment-means-seq-len", "8"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{tmp_path / 'a.svg'}: layer 0, mean of 4 heads: 2 landmarks for ")
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")
    assert cli.main([*given, "--layer", "7", "--num-landmarks", "2"]) == 2
    assert capsys.readouterr().err == "nystrom-np: layer must be from 0 to 1; found 7\n"


def test_the_command_as_json(
    checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nystrom_np.cli.plotting.plot_attention", lambda *_: None)
    given = ["plot", TEXT, "--model", str(checkpoints / "masked-lm-dense"), "--output", str(tmp_path / "a.svg")]
    assert cli.main([*given, "--num-landmarks", "4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert np.shape(told["nystrom"]) == np.shape(told["softmax"]) == (len(told["tokens"]),) * 2
    np.testing.assert_allclose(np.sum(told["softmax"], axis=1), 1, atol=1e-5)


def test_overrides_change_what_the_pipelines_answer(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = []
    for more in ([], ["--num-landmarks", "4"], ["--num-landmarks", "64", "--segment-means-seq-len", "64"]):
        given = ["fill-mask", "Paris is the [MASK] of France.", "--model", str(checkpoints / "masked-lm-dense")]
        assert cli.main([*given, "--json", *more]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    dense, nystrom, again = ([guess["score"] for guess in answer] for answer in answers)
    assert again == dense
    assert max(abs(a - b) for a, b in zip(dense, nystrom, strict=True)) > 1e-3
