"""The explorer: its data are the model's, the page is one file, and what is wrong is said."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from docs.builder.assets import D3, D3_FILE
from nystrom_np import NystromformerForMaskedLM, NystromformerModel, NystromformerTokenizer, cli
from nystrom_np.definition import project
from nystrom_np.explore import Exploration, explore, write_page
from nystrom_np.functional import softmax
from nystrom_np.model.parameters import tree

TEXT = "A [MASK] ran."
FOLDER = Path(__file__).resolve().parent.parent / "weights" / "masked-lm"


@pytest.fixture(scope="module")
def found() -> tuple[Any, NystromformerTokenizer, Exploration]:
    tokenizer = NystromformerTokenizer.from_pretrained(FOLDER)
    model = NystromformerForMaskedLM.from_pretrained(FOLDER, segment_means_seq_len=16, num_landmarks=4)
    return model, tokenizer, explore(model, tokenizer, [TEXT])


def modes(exploration: Exploration) -> list[dict[str, Any]]:
    return exploration.told["texts"][0]["modes"]


def scores(exploration: Exploration, mode: dict[str, Any]) -> np.ndarray:
    shape = (exploration.told["layers"], exploration.told["heads"], mode["length"], mode["length"])
    return np.frombuffer(exploration.numbers, "<f2", np.prod(shape), mode["scores"]).reshape(shape).astype(float)


def test_scores_are_the_models(found: tuple[Any, NystromformerTokenizer, Exploration]) -> None:
    """Their softmax is that of queries and keys, for real keys, in each treatment of padding."""
    _, tokenizer, exploration = found
    ids = tokenizer(TEXT).input_ids
    assert [mode["masking"] for mode in modes(exploration)] == ["transformers", "original", "invariant"]
    for mode in modes(exploration):
        model = NystromformerForMaskedLM.from_pretrained(
            FOLDER, dtype="float64", masking=mode["masking"], segment_means_seq_len=16, num_landmarks=4
        ).nystromformer
        length, real = mode["length"], len(ids)
        mask = np.array([[1] * real + [0] * (length - real)])
        padded = np.array([ids + [tokenizer.pad_token_id] * (length - real)])
        states = model(padded, attention_mask=mask, output_hidden_states=True).hidden_states
        for layer, stored in enumerate(scores(exploration, mode)):
            p = tree(model.state_dict())["encoder"]["layer"][str(layer)]["attention"]["self"]
            query, key, _ = project(p, model.config, states[layer])
            if mode["masking"] == "original":
                query, key = query * mask[0][:, None], key * mask[0][:, None]
            exact = softmax((query @ key.swapaxes(-1, -2))[0, ..., :real])
            assert stored[..., :real].max(axis=-1) == pytest.approx(0)
            np.testing.assert_allclose(softmax(stored[..., :real]), exact, rtol=0, atol=3e-3)


def test_guesses_are_the_models(found: tuple[Any, NystromformerTokenizer, Exploration]) -> None:
    """Of exact attention, and of every number of landmarks and of steps that a model can be told."""
    _, tokenizer, exploration = found
    at = exploration.told["texts"][0]["masked"]
    for mode in modes(exploration):
        length = mode["length"]
        count = (1 + (length - 2) * 12) * 5
        kind = np.dtype([("word", "<u2"), ("share", "<f2")])
        guesses = np.frombuffer(exploration.numbers, kind, count, mode["guesses"]).reshape(-1, 5)
        ids = tokenizer(TEXT, padding="max_length", max_length=length)
        for place, m, changed in (
            (0, length, {}),
            (1 + 12 * 1 + 6, 3, {}),
            (1 + 12 * 2 + 1, 4, {"pinv_iterations": 1}),
            (1 + 12 * 0 + 11, 2, {"pinv_method": "svd"}),
        ):
            model = NystromformerForMaskedLM.from_pretrained(
                FOLDER, masking=mode["masking"], num_landmarks=m, segment_means_seq_len=length, **changed
            )
            shares = softmax(model([ids.input_ids], attention_mask=[ids.attention_mask]).logits[0, at])
            best = np.argsort(-shares)[:5]
            words = [exploration.told["words"][word] for word in guesses[place]["word"]]
            np.testing.assert_allclose(guesses[place]["share"], shares[best], rtol=1e-3, atol=1e-6)
            assert words[0] == tokenizer.convert_ids_to_tokens([int(best[0])])[0]


def test_texts_that_cannot_be_explored(found: tuple[Any, NystromformerTokenizer, Exploration], tmp_path: Path) -> None:
    model, tokenizer, exploration = found
    with pytest.raises(ValueError, match="there must be a text to explore; found none"):
        explore(model, tokenizer, [])
    with pytest.raises(ValueError, match=r"must be named \*\.html; found 'page\.txt'"):
        write_page(exploration, tmp_path / "page.txt")
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A text with no mask needs no head; the page holds all it loads."""
    page = tmp_path / "explorer.html"
    assert cli.main(["explore", "--text", "A dog ran.", "--text", "</script>", "--output", str(page)]) == 0
    assert capsys.readouterr().out == f"{page}: 2 texts to explore\n"
    text = page.read_text(encoding="utf-8")
    assert "window.exploration" in text
    assert "src=" not in text
    assert "href=" not in text
    assert text.count("</script>") == 3
    assert "Permission to use, copy, modify" in text, "D3's licence goes with every copy"
    assert cli.main(["explore", "--text", "A dog ran.", "--output", str(page), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"output": str(page), "texts": ["A dog ran."]}


def test_the_drawing_library_is_what_was_pinned() -> None:
    """What ``python -m docs`` compares with npm's archives, each checked by its hash, is what the package ships."""
    shipped = D3_FILE.read_bytes()
    assert hashlib.sha256(shipped).hexdigest() == "ea51c036e51ae7a188d4264db3249c728692f47f8ce18e5752774a8045e39deb"
    for module in D3:
        assert f"// https://d3js.org/{module.name}/ v{module.version} ".encode() in shipped
    assert D3_FILE.with_suffix(".LICENSE").read_bytes() in shipped


def test_a_long_text_is_refused(checkpoints: Path) -> None:
    model = NystromformerModel.from_pretrained(checkpoints / "masked-lm-nystrom", segment_means_seq_len=200)
    tokenizer = NystromformerTokenizer.from_pretrained(checkpoints / "masked-lm-nystrom")
    with pytest.raises(ValueError, match="a text of at most 128 tokens can be explored; found one of"):
        explore(model, tokenizer, ["A dog ran."])
