"""Batches of the data collators; ``pytest -m reference`` holds them to transformers 4.37.2, live."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nystrom_np import NystromformerTokenizer, collators
from tests.reference.client import run_inside
from tests.reference.collator_cases import TEXTS, batches
from tests.reference.environment import ReferenceUnavailable, python

VERSION = "4.37.2"


@pytest.fixture
def tokenizer(weights: Path) -> NystromformerTokenizer:
    return NystromformerTokenizer.from_pretrained(weights / "masked-lm")


@pytest.mark.reference
def test_batches_are_the_references(tokenizer: Any, weights: Path) -> None:
    try:
        python(VERSION)
    except ReferenceUnavailable as error:
        pytest.skip(str(error))
    told = json.loads(run_inside(VERSION, "-m", "tests.reference.collator_cases", weights / "masked-lm"))
    assert told["transformers"] == VERSION
    ours = json.loads(json.dumps(batches(tokenizer, collators)))
    assert len(ours) == len(told["answers"]) == 80
    for name, theirs in told["answers"].items():
        assert ours[name] == theirs, name


@pytest.mark.parametrize(("side", "row"), [("right", [5, 6, -100, -100]), ("left", [-100, -100, 5, 6])])
@pytest.mark.parametrize("name", ["label", "labels"])
def test_labels_of_tokens_are_filled_up(tokenizer: Any, side: str, row: list[int], name: str) -> None:
    tokenizer.padding_side = side
    features = [{"input_ids": [2, 3], name: [5, 6]}, {"input_ids": [2, 7, 8, 3], name: np.arange(4)}]
    batch = collators.DataCollatorForTokenClassification(tokenizer)(features)
    assert batch.labels.tolist() == [row, [0, 1, 2, 3]]
    assert batch.labels.dtype == np.int64
    assert features[0] == {"input_ids": [2, 3], name: [5, 6]}


@pytest.mark.parametrize("share", [0.15, 0.5, 1.0])
def test_shares_of_hidden_tokens(tokenizer: Any, share: float) -> None:
    collate = collators.DataCollatorForLanguageModeling(tokenizer, mlm_probability=share, seed=1)
    ids = [2, *range(10, 1010), 3]
    batch = collate([ids] * 20)
    asked = batch.labels != -100
    assert not asked[:, [0, -1]].any()
    assert asked[:, 1:-1].mean() == pytest.approx(share, abs=0.02)
    assert (batch.labels == np.where(asked, ids, -100)).all()
    assert (batch.input_ids == ids)[~asked].all()
    assert (batch.input_ids[asked] == tokenizer.mask_token_id).mean() == pytest.approx(0.8, abs=0.03)
    assert (batch.input_ids == ids)[asked].mean() == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("seed", [0, 7, 12345])
def test_a_seed_gives_the_same_batch_again(tokenizer: Any, seed: int) -> None:
    rows = [tokenizer(text) for text in TEXTS]
    first, second, own = (
        collators.DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.5, seed=given)(rows).input_ids.tolist()
        for given in (seed, seed, np.random.RandomState(seed))
    )
    assert first == second == own
    other = collators.DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.5, seed=seed + 1)
    assert other(rows).input_ids.tolist() != first


def test_what_a_collator_needs(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="return_tensors is None"):
        collators.DataCollatorForLanguageModeling(tokenizer, return_tensors="pt")
    with pytest.raises(ValueError, match="return_tensors is None"):
        collators.DataCollatorWithPadding(tokenizer, return_tensors="tf")([{"input_ids": [2]}])
    tokenizer.mask_token = None
    with pytest.raises(ValueError, match="needs a tokenizer with a mask token"):
        collators.DataCollatorForLanguageModeling(tokenizer)
    batch = collators.DataCollatorForLanguageModeling(tokenizer, mlm=False)([[2, 3], [2, 7, 3]])
    assert batch.labels.tolist() == [[2, 3, -100], [2, 7, 3]]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([], "features must be one record or more; found none"),
        ([{"a": [1, 2]}, {"a": [1]}], "'a' must have one shape in all records"),
        ([{"a": 1}, {"b": 2}], "every record must have 'a', as the first has"),
        ([{"label": 1}, {"label": None}], "every record must have 'label', as the first has"),
        ([{"label": "x"}], "'label' must be numbers; found 'x'"),
    ],
)
def test_records_that_cannot_be_stacked(features: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        collators.default_data_collator(features)
