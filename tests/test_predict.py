"""`predict` over many inputs: what the model gives for each alone, in order, and read no further than needed."""

import io
import itertools
import re
import subprocess
import sys
from collections import UserDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tqdm.std

from nystrom_np import NystromformerConfig, NystromformerModel
from nystrom_np.fast.on_numpy.threads import thread_count
from nystrom_np.model.prediction import batches, delayed, pad
from nystrom_np.outputs import ModelOutput
from nystrom_np.progress import with_progress
from tests.models import (
    ANSWER,
    BASE,
    BODY,
    BRANCHES,
    CHOICE,
    HEADS,
    MODELS,
    SEQUENCE,
    TOKEN,
    assert_close,
    build,
    logits_of,
    token_ids,
)

pytestmark = pytest.mark.usefixtures("anywhere")

LENGTHS = (11, 3, 16, 1, 5, 4, 20)  # no more than the four landmarks of the Nyström branch, and more
EVERYTHING = {"output_attentions": True, "output_hidden_states": True}


def texts(*lengths: int) -> list[dict[str, Any]]:
    """Encodings of these lengths, with nothing but ids."""
    return [{"input_ids": token_ids(length, seed=number).tolist()} for number, length in enumerate(lengths)]


def alone(model: Any, encoding: dict[str, Any]) -> Any:
    """The model on the real tokens of one encoding, which is called as any batch of one."""
    given = {name: np.asarray(value)[None] for name, value in encoding.items()}
    real = np.flatnonzero(given.pop("attention_mask", np.ones_like(given["input_ids"]))[0])
    return model(**{name: value[:, real] for name, value in given.items()}, return_dict=True)


def assert_same(found: ModelOutput, expected: ModelOutput, atol: float = 1e-12) -> None:
    assert type(found) is type(expected)
    assert list(found) == list(expected)
    for one, other in zip(found.values(), expected.values(), strict=True):
        assert isinstance(one, tuple) == isinstance(other, tuple)
        for array, other_array in zip(*((x if isinstance(x, tuple) else (x,)) for x in (one, other)), strict=True):
            assert array.dtype == other_array.dtype
            assert_close(array, other_array, atol)


class Source:
    """An iterable that counts how many encodings were taken from it."""

    def __init__(self, encodings: Any) -> None:
        self.encodings = encodings
        self.taken = 0

    def __iter__(self) -> Any:
        for encoding in self.encodings:
            self.taken += 1
            yield encoding


# ------------------------------------------------------------------------------------- the same as each alone


@pytest.mark.parametrize("masking", ["transformers", "original", "invariant"])
@pytest.mark.parametrize("branch", BRANCHES)
def test_the_bare_model_gives_what_it_gives_for_each_alone(branch, masking):
    """In every output, whatever the model's own configuration does with padding."""
    model = build(BODY, branch, masking=masking, **EVERYTHING)
    encodings = texts(*LENGTHS)
    found = list(model.predict(encodings, batch_size=4))
    assert [len(out.hidden_states) for out in found] == [3] * len(LENGTHS)
    assert [len(out.attentions) for out in found] == [2] * len(LENGTHS)
    for out, encoding in zip(found, encodings, strict=True):
        assert_same(out, alone(model, encoding))
    assert model.config.masking == masking


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("model", [head for head in HEADS if head is not CHOICE])
def test_every_head_gives_what_it_gives_for_each_alone(model, branch):
    head, encodings = build(model, branch, num_labels=3, num_hidden_layers=1), texts(*LENGTHS)
    found = list(head.predict(encodings, batch_size=4))
    assert not {"hidden_states", "attentions", "loss"} & set(found[0])  # the configuration asks for none
    for out, encoding in zip(found, encodings, strict=True):
        assert_same(out, alone(head, encoding))


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("model", [BODY, SEQUENCE, TOKEN, ANSWER])
def test_masks_with_holes_token_types_and_positions(model, branch):
    """Tokens with mask 0 are left out, whatever they hold, and their types and positions with them."""
    head, state = build(model, branch, num_hidden_layers=1, **EVERYTHING), np.random.RandomState(0)
    encodings = []
    for number, length in enumerate((16, 7, 12)):
        mask = np.ones(length, int)
        mask[[0, length // 2, -1]] = 0
        encodings.append(
            {
                "input_ids": np.where(mask, token_ids(length, seed=number), -1),
                "attention_mask": mask,
                "token_type_ids": np.where(mask, state.randint(0, 3, size=length), 99),
                "position_ids": np.where(mask, state.randint(0, BASE["max_position_embeddings"] + 2, size=length), -5),
            }
        )
    without = [{name: encoding[name] for name in ("input_ids", "attention_mask")} for encoding in encodings]
    for given in (encodings, without):
        for out, encoding in zip(head.predict(given), given, strict=True):
            assert logits_of(out)[0].shape[1] in (len(encoding["input_ids"]) - 3, 2)
            assert_same(out, alone(head, encoding))
    changed, plain = (next(head.predict(given[:1])) for given in (encodings, without))
    assert abs(logits_of(changed)[0] - logits_of(plain)[0]).max() > 0.1


@pytest.mark.parametrize("branch", BRANCHES)
def test_multiple_choice(branch):
    """Each encoding is one example with choices of its own number and lengths, padded to the longest."""
    head, encodings = build(CHOICE, branch, num_hidden_layers=1), []
    for number, lengths in enumerate([(11, 7, 16), (5, 5), (3,), (9, 2, 4, 6)]):
        ids, mask = token_ids(len(lengths), max(lengths), seed=number), np.zeros((len(lengths), max(lengths)), int)
        for row, length in enumerate(lengths):
            mask[row, :length] = 1
        encodings.append({"input_ids": ids, "attention_mask": mask})
    found = list(head.predict(encodings))
    for out, encoding in zip(found, encodings, strict=True):
        choices = [
            head(ids[None, None, mask == 1]).logits[0, 0]
            for ids, mask in zip(encoding["input_ids"], encoding["attention_mask"], strict=True)
        ]
        assert_close(out.logits, np.array([choices]), 1e-12)
    whole = [{"input_ids": encoding["input_ids"].tolist()} for encoding in encodings[1:3]]
    for out, encoding in zip(head.predict(whole), whole, strict=True):
        expected = [head([[choice]]).logits[0, 0] for choice in encoding["input_ids"]]
        assert_close(out.logits, np.array([expected]), 1e-12)


@pytest.mark.parametrize("branch", BRANCHES)
def test_neither_batch_nor_workers_change_an_output(branch):
    model, encodings = build(BODY, branch, num_hidden_layers=1), texts(*LENGTHS)
    expected = [alone(model, encoding) for encoding in encodings]
    for size, workers in ((1, 2), (2, 1), (3, 2), (100, None)):
        found = list(model.predict(encodings, batch_size=size, workers=workers))
        for out, other in zip(found, expected, strict=True):
            assert_same(out, other)
    assert abs(expected[0].last_hidden_state[0, 0] - expected[1].last_hidden_state[0, 0]).max() > 0.1


@pytest.mark.host
def test_the_default_batch_is_of_32():
    model, source = build(BODY, num_hidden_layers=0), Source(texts(*[2] * 40))
    next(model.predict(source))
    assert source.taken == 32


def test_other_dtypes_and_records():
    """Outputs are in the model's dtype, and records also where the configuration asks for tuples."""
    single = build(BODY, dtype="float32", return_dict=False)
    encodings = texts(11, 3)
    for out, encoding in zip(single.predict(encodings), encodings, strict=True):
        assert out.last_hidden_state.dtype == np.float32
        assert_same(out, alone(single, encoding), 1e-4)


def test_an_encoding_without_a_real_token():
    """It gives no token, and changes nothing for the others."""
    model, head = build(BODY), build(SEQUENCE, num_labels=3)
    encodings = [{**encoding, "attention_mask": [1] * len(encoding["input_ids"])} for encoding in texts(5, 4, 3)]
    encodings[1]["attention_mask"] = [0] * 4
    found = list(model.predict(encodings))
    assert [out.last_hidden_state.shape for out in found] == [(1, 5, 16), (1, 0, 16), (1, 3, 16)]
    for place in (0, 2):
        assert_same(found[place], alone(model, encodings[place]))
    scores = [out.logits for out in head.predict(encodings)]
    assert np.isfinite(scores).all()
    assert np.shape(scores) == (3, 1, 3)


# ----------------------------------------------------------------------------------- what is taken, and when


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.host
def test_generators_are_read_one_batch_ahead(size):
    """Not before the first result is asked for, and in order."""
    model, encodings = build(BODY, num_hidden_layers=0), texts(*LENGTHS)
    source = Source(encodings)
    results = model.predict(source, batch_size=size)
    assert source.taken == 0
    for number, out in enumerate(results):
        assert source.taken == min(number // size * size + size, len(LENGTHS))
        assert_close(out.last_hidden_state, alone(model, encodings[number]).last_hidden_state, 1e-12)
    assert number == len(LENGTHS) - 1


def test_an_endless_generator():
    model = build(BODY, num_hidden_layers=0)
    endless = (encoding for number in itertools.count() for encoding in texts(1 + number % 7))
    shapes = [out.last_hidden_state.shape for out in itertools.islice(model.predict(endless, batch_size=3), 8)]
    assert shapes == [(1, 1 + number % 7, 16) for number in range(8)]


def test_a_mapping_of_lists():
    """As a tokenizer returns it for a list of texts: padded or not, lists or arrays, any mapping."""
    model, encodings = build(BODY), texts(5, 2, 3)
    ragged = {"input_ids": [encoding["input_ids"] for encoding in encodings]}
    padded = {
        "input_ids": np.array([row + [0] * (5 - len(row)) for row in ragged["input_ids"]]),
        "attention_mask": np.array([[1] * len(row) + [0] * (5 - len(row)) for row in ragged["input_ids"]]),
        "token_type_ids": np.zeros((3, 5), int),
    }
    expected = [alone(model, encoding) for encoding in encodings]
    for given in (ragged, padded, UserDict(ragged), [UserDict(encoding) for encoding in encodings]):
        found = list(model.predict(given, batch_size=2))
        for out, other in zip(found, expected, strict=True):
            assert_same(out, other)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("empty", [[], (), iter(()), {"input_ids": []}])
def test_nothing_to_predict(model, empty):
    assert list(build(model, num_hidden_layers=0).predict(empty)) == []


@pytest.mark.host
def test_closed_in_the_middle():
    """No more is read, nothing more comes, and neither threads nor the next call are affected."""
    model, encodings = build(BODY), texts(*LENGTHS)
    before = thread_count()
    for progress in (None, True):
        source = Source(encodings)
        results = model.predict(source, batch_size=2, workers=1, progress=progress)
        first = next(results)
        assert thread_count() == before  # the limit holds while the model runs, not in between
        results.close()
        assert source.taken == 2
        assert list(results) == []
        assert source.taken == 2
        assert_same(first, alone(model, encodings[0]))
        assert thread_count() == before
    assert len(list(model.predict(encodings))) == len(encodings)


def test_several_at_once():
    """Two runs over one model, in turns, are as good as one after the other."""
    model, encodings = build(BODY), texts(*LENGTHS)
    for one, other, encoding in zip(
        model.predict(encodings, batch_size=2, workers=1),
        model.predict(encodings, batch_size=3, workers=2),
        encodings,
        strict=True,
    ):
        expected = alone(model, encoding)
        assert_same(one, expected)
        assert_same(other, expected)


def test_inputs_and_model_stay_as_they_were():
    model = build(BODY, masking="original")
    ids, mask = token_ids(6), np.array([1, 0, 1, 1, 1, 0])
    ids.flags.writeable = mask.flags.writeable = False
    config, values = model.config.to_dict(), model.state_dict()
    out = next(model.predict([{"input_ids": ids, "attention_mask": mask}]))
    out.last_hidden_state[:] = 0.0  # the caller's own
    np.testing.assert_array_equal(ids, token_ids(6))
    assert mask.tolist() == [1, 0, 1, 1, 1, 0]
    assert model.config.to_dict() == config
    assert all(model.state_dict()[name] is value for name, value in values.items())


@pytest.mark.parametrize("distance", [0, 1, 2, 5])
def test_items_are_handed_out_once_so_many_after_them_were_begun(distance):
    begun = []
    for number in delayed((begun.append(number) or number for number in range(4)), distance):
        assert begun == list(range(min(number + distance + 1, 4)))
    assert number == 3


def test_padding_of_choices():
    """Only at the ends of the sequences: an example has no more choices than before."""
    padded = pad([{"input_ids": [[5, 6, 7], [8, 9, 1]]}, {"input_ids": [[2], [3]]}])
    assert padded["input_ids"].tolist() == [[[5, 6, 7], [8, 9, 1]], [[2, 0, 0], [3, 0, 0]]]
    assert padded["attention_mask"].tolist() == [[[1, 1, 1], [1, 1, 1]], [[1, 0, 0], [1, 0, 0]]]


# ------------------------------------------------------------------------------------------------- progress


def test_progress_goes_to_stderr(capsys):
    model, encodings = build(BODY, num_hidden_layers=0), texts(3, 2, 5)
    list(model.predict(encodings, batch_size=2, progress=True))
    shown = capsys.readouterr()
    assert "3/3" in shown.err
    assert shown.out == ""
    list(model.predict(iter(encodings), batch_size=2, progress=True))
    shown = capsys.readouterr()
    assert "3it" in shown.err  # how many there will be is not known
    assert shown.out == ""


@pytest.mark.parametrize("progress", [False, None])
def test_no_progress_unless_asked_for_or_in_a_terminal(progress, capsys):
    list(build(BODY, num_hidden_layers=0).predict(texts(3, 2, 5), progress=progress))
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("seconds", "shown"), [(0.1, False), (0.9, False), (1.1, True), (1.9, True)])
def test_in_a_terminal_progress_begins_after_a_second(seconds, shown, monkeypatch):
    """By a clock that only the test moves, so that it does not depend on the machine."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(tqdm.std, "time", lambda: clock.now)
    monkeypatch.setattr(sys, "stderr", Terminal())
    results = with_progress(range(3), None, 3)
    next(results)
    clock.now += seconds
    next(results)
    next(results)
    assert ("/3" in sys.stderr.getvalue()) == shown
    results.close()


# --------------------------------------------------------------------------------------------------- errors


def complaint(error: type, model: Any, encodings: Any, **options: Any) -> str:
    with pytest.raises(error) as caught:
        list(model.predict(encodings, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("number", [0, -1, True])
@pytest.mark.parametrize("model", [BODY, CHOICE])
def test_numbers_are_checked_before_anything_is_read(model, number):
    before, source = thread_count(), Source(texts(3))
    with pytest.raises(ValueError, match=f"^batch_size must be a positive integer; found {number}$"):
        build(model).predict(source, batch_size=number)
    with pytest.raises(ValueError, match=f"^workers must be a positive integer or None; found {number}$"):
        build(model).predict(source, workers=number)
    assert source.taken == 0
    assert thread_count() == before


@pytest.mark.parametrize(
    "encoding",
    [
        {},
        {"ids": [1]},
        {"attention_mask": [1]},
        {"input_ids": [5], "labels": [1]},
        {"input_ids": [5], "inputs_embeds": [[0.0] * 16]},
    ],
)
def test_keys_of_an_encoding(encoding):
    words = "an encoding must have input_ids, and may have attention_mask, token_type_ids, position_ids"
    assert complaint(ValueError, build(BODY), [encoding]) == f"{words}; found {list(encoding)}"


def test_keys_that_differ():
    one, more = {"input_ids": [5]}, {"input_ids": [5], "token_type_ids": [0]}
    words, few, many = "all encodings must have the same keys; found", ["input_ids"], ["input_ids", "token_type_ids"]
    assert complaint(ValueError, build(BODY), [one, more]) == f"{words} {few} and {many}"
    assert complaint(ValueError, build(BODY), [more, one]) == f"{words} {many} and {few}"


def test_an_encoding_that_is_no_mapping():
    """In a process of its own, where the declared types are not enforced."""
    program = """
from tests.models import BODY, build
for encodings in ([[5, 6]], "text", [5], [None]):
    try:
        list(build(BODY, num_hidden_layers=0).predict(encodings))
    except ValueError as error:
        print(error)
"""
    root = Path(__file__).resolve().parent.parent
    run = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    words = "an encoding must be a mapping with input_ids; found "
    assert run.stdout.splitlines() == [words + kind for kind in ("list", "str", "int", "NoneType")]


@pytest.mark.parametrize("encodings", [5, None])
def test_encodings_that_cannot_be_gone_through(encodings):
    with pytest.raises(ValueError, match=r"^encodings must be mappings with input_ids; found (?:int|NoneType)$"):
        batches(encodings, 2)


def test_encodings_of_different_ranks():
    encodings = [{"input_ids": [5]}, {"input_ids": [[5]]}]
    message = complaint(ValueError, build(BODY), encodings)
    assert message == (
        "encodings of one batch must differ in length only; found (1,) and (1, 1) (input_ids of encoding 1)"
    )


@pytest.mark.parametrize("name", ["attention_mask", "token_type_ids", "position_ids"])
def test_lengths_that_differ(name):
    for length in (2, 4):
        message = complaint(ValueError, build(BODY), [{"input_ids": [5, 6, 7], name: [1] * length}])
        assert message == f"{name} of encoding 0 must have shape (3,), as its ids; found ({length},)"
    message = complaint(ValueError, build(BODY), {"input_ids": [[5], [6]], name: [[1]]})
    assert message == "encodings must have as many of each: found " + str({"input_ids": 2, name: 1})


def test_values_are_checked_as_in_any_call():
    model = build(BODY)
    assert complaint(ValueError, model, [{"input_ids": [5.0]}]) == "input_ids must hold integers; found float64"
    rows = BASE["vocab_size"]
    message = complaint(IndexError, model, [{"input_ids": [5, rows]}])
    assert message == f"input_ids[0, 1] is {rows}, but the word embedding has {rows} rows: 0 to {rows - 1}"
    message = complaint(ValueError, model, [{"input_ids": [5, 6], "attention_mask": [1, 2]}])
    assert message == "attention_mask must hold only 0 and 1 (or bool); found 2 at [0, 1]"
    message = complaint(ValueError, model, texts(3, 41))
    assert message.startswith("the sequence has 41 tokens, but max_position_embeddings is 40: ")


def test_results_before_an_error_are_not_lost():
    model, encodings = build(BODY), [*texts(3, 5), {"input_ids": [99]}, *texts(2)]
    results = model.predict(encodings, batch_size=2)
    for number in range(2):
        assert_same(next(results), alone(model, encodings[number]))
    with pytest.raises(IndexError, match="is 99, but the word embedding has 53 rows"):
        next(results)


@pytest.mark.parametrize(
    ("encodings", "words"),
    [
        ({}, "encodings must have input_ids; found []"),
        ({"input_ids": 5}, "input_ids of several encodings must be a list or an array; found 5"),
        ([{"input_ids": [[1], [2, 3]]}], "input_ids of an encoding must be a list or an array; found [[1], [2, 3]]"),
        ([{"input_ids": "abc"}], "(length,) or (choices, length); found <U3 of shape ()"),
        ([{"input_ids": []}], "(length,) or (choices, length); found float64 of shape (0,)"),
        ([{"input_ids": ["a", "b"]}], "(length,) or (choices, length); found <U1 of shape (2,)"),
        ([{"input_ids": [[[5]]]}], "(length,) or (choices, length); found int64 of shape (1, 1, 1)"),
        ([{"input_ids": [[5], [6]]}, {"input_ids": [[5]]}], "found (2, 1) and (1, 1) (input_ids of encoding 1)"),
    ],
)
def test_what_was_found_is_said(encodings, words):
    config = NystromformerConfig(
        vocab_size=11, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    with pytest.raises(ValueError, match=re.escape(words)):
        list(NystromformerModel(config).predict(encodings))
