"""The published checkpoint from the Hugging Face Hub, and the numbers that its documentation gives.

``pytest -m network`` downloads 440 MB the first time. Without network these tests are skipped.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nystrom_np import NystromformerConfig, NystromformerForMaskedLM, NystromformerModel, NystromformerTokenizer
from nystrom_np.convert import convert
from nystrom_np.pipelines import pipeline

pytestmark = pytest.mark.network

NAME = "uw-madison/nystromformer-512"


@pytest.fixture(scope="module")
def tokenizer() -> NystromformerTokenizer:
    try:
        return NystromformerTokenizer.from_pretrained(NAME)
    except ConnectionError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def source(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> str | Path:
    """What loads: the repository, or where it has a pickle alone, what becomes of that."""
    try:
        NystromformerModel.from_pretrained(NAME)
        return NAME
    except FileNotFoundError as error:
        if f"nystrom-np convert {NAME}" not in str(error):
            raise
        return convert(NAME, tmp_path_factory.mktemp("published") / "converted").folder


def test_hidden_states(source: str | Path) -> None:
    model = NystromformerModel.from_pretrained(source)
    found = model([[0, 1, 2, 3, 4, 5]]).last_hidden_state
    expected = [[-0.4532, -0.0936, 0.5137], [-0.2676, 0.0628, 0.6186], [-0.3629, -0.1726, 0.4716]]
    np.testing.assert_allclose(found[0, :3, :3], expected, rtol=0, atol=1e-4)


def test_the_capital_of_belgium(source: str | Path, tokenizer: NystromformerTokenizer) -> None:
    model = NystromformerForMaskedLM.from_pretrained(source)
    logits = model(**tokenizer("the [MASK] of Belgium is Brussels", return_tensors="np")).logits
    assert tokenizer.decode(logits[0, 2].argmax()) == "capital"


def test_the_capital_of_france(source: str | Path) -> None:
    guesses = pipeline("fill-mask", source)("Paris is the [MASK] of France.")
    expected = {
        "capital": (1030, 0.829957902431488),
        "birthplace": (16081, 0.022157637402415276),
        "name": (197, 0.01904447190463543),
        "kingdom": (1107, 0.017583081498742104),
        "city": (148, 0.005948934704065323),
    }
    assert [guess["token_str"] for guess in guesses] == list(expected)
    for guess in guesses:
        index, score = expected[guess["token_str"]]
        assert guess["token"] == index
        assert guess["score"] == pytest.approx(score, abs=1e-4)


def test_it_runs_exact_attention() -> None:
    try:
        assert not NystromformerConfig.from_pretrained(NAME).uses_nystrom_attention
    except ConnectionError as error:
        pytest.skip(str(error))
