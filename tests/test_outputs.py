"""The output records, read as their users read them."""

import dataclasses

import numpy as np
import pytest

from nystrom_np import outputs

LOGITS = np.arange(6.0).reshape(2, 3)
STATES = (np.zeros((2, 4)), np.ones((2, 4)))

FIELDS = {
    "BaseModelOutput": ["last_hidden_state", "hidden_states", "attentions"],
    "MaskedLMOutput": ["loss", "logits", "hidden_states", "attentions"],
    "SequenceClassifierOutput": ["loss", "logits", "hidden_states", "attentions"],
    "MultipleChoiceModelOutput": ["loss", "logits", "hidden_states", "attentions"],
    "TokenClassifierOutput": ["loss", "logits", "hidden_states", "attentions"],
    "QuestionAnsweringModelOutput": ["loss", "start_logits", "end_logits", "hidden_states", "attentions"],
}


@pytest.mark.parametrize("name", FIELDS)
def test_fields_in_the_reference_order(name: str) -> None:
    assert [field.name for field in dataclasses.fields(getattr(outputs, name))] == FIELDS[name]
    assert len(getattr(outputs, name)()) == 0


def test_every_public_record_is_checked() -> None:
    assert set(outputs.__all__) == set(FIELDS)


def test_reading_skips_what_is_none() -> None:
    out = outputs.MaskedLMOutput(logits=LOGITS, hidden_states=STATES)
    assert out.loss is None
    assert out.attentions is None
    assert out[0] is out["logits"] is out.logits is LOGITS
    assert out[-1] is STATES
    assert out[:1] == (LOGITS,)
    assert out[1:] == (STATES,)
    assert list(out) == list(out.keys()) == ["logits", "hidden_states"]
    assert [id(value) for value in out.values()] == [id(LOGITS), id(STATES)]
    assert [(name, id(value)) for name, value in out.items()] == [
        ("logits", id(LOGITS)),
        ("hidden_states", id(STATES)),
    ]
    assert [id(value) for value in out.to_tuple()] == [id(LOGITS), id(STATES)]
    assert len(out) == 2
    assert "logits" in out
    assert "loss" not in out
    assert "weather" not in out
    assert out.get("loss", 3) == 3
    assert out.get("logits") is LOGITS


def test_what_is_not_there() -> None:
    out = outputs.SequenceClassifierOutput(logits=LOGITS)
    with pytest.raises(KeyError):
        out["loss"]
    with pytest.raises(IndexError):
        out[1]
    with pytest.raises(AttributeError):
        _ = out.weather  # type: ignore[attr-defined]


def test_becomes_a_dictionary_and_keyword_arguments() -> None:
    out = outputs.QuestionAnsweringModelOutput(loss=np.float64(2.0), start_logits=LOGITS, end_logits=-LOGITS)
    assert list(dict(out)) == ["loss", "start_logits", "end_logits"]
    assert dict(**out)["end_logits"] is out.end_logits
    assert out[0] == 2.0


def test_follows_an_attribute_that_is_set_later() -> None:
    out = outputs.TokenClassifierOutput(logits=LOGITS)
    out.loss = np.float64(1.0)
    assert out[0] == 1.0
    assert list(out) == ["loss", "logits"]


def test_equal_only_to_itself_and_readable() -> None:
    out = outputs.BaseModelOutput(last_hidden_state=LOGITS)
    assert out == out
    assert out != outputs.BaseModelOutput(last_hidden_state=LOGITS)
    assert repr(out).startswith("BaseModelOutput(last_hidden_state=array(")
    assert repr(outputs.MaskedLMOutput()).startswith("MaskedLMOutput(loss=None")
