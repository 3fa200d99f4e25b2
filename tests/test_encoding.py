"""What a tokenizer's methods and its encodings tell. The values are transformers 4.37.2's for the shipped tokenizer."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nystrom_np.tokenization import NystromformerTokenizer
from nystrom_np.tokenization.encoding import BatchEncoding

HOUSES = "a house is a house is a house"
HIGH, LOW = chr(0xD83D), chr(0xDC4D)
"""The halves of 👍 in UTF-16."""


@pytest.fixture
def tokenizer(weights: Path) -> NystromformerTokenizer:
    return NystromformerTokenizer.from_pretrained(weights / "masked-lm")


# --------------------------------------------------------------------------------------------- other names


def test_older_names_of_the_call(tokenizer: NystromformerTokenizer) -> None:
    assert tokenizer.encode("a house", "b") == [2, 7, 888, 3, 40, 3]
    assert tokenizer.encode("a house", add_special_tokens=False) == [7, 888]
    assert tokenizer.encode_plus("a", "b") == tokenizer("a", "b")
    assert tokenizer.batch_encode_plus([("a", "b")], padding=True) == tokenizer(["a"], ["b"])
    assert tokenizer.batch_encode_plus(["a", "b c"]).input_ids == [[2, 7, 3], [2, 40, 102, 3]]


def test_tokens_and_the_way_back(tokenizer: NystromformerTokenizer) -> None:
    assert tokenizer.tokenize("a house is") == ["▁a", "▁house", "▁is"]
    assert tokenizer.tokenize("a", "b", add_special_tokens=True) == ["[CLS]", "▁a", "[SEP]", "▁b", "[SEP]"]
    text = "a house, isn't it"
    assert tokenizer.convert_tokens_to_string(tokenizer.tokenize(text)) == text
    assert (tokenizer.num_special_tokens_to_add(), tokenizer.num_special_tokens_to_add(pair=True)) == (2, 3)
    assert tokenizer.special_tokens_map["mask_token"] == "[MASK]"
    assert tokenizer.vocab == tokenizer.get_vocab()
    assert tokenizer.is_fast


# -------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("arguments", "ids", "samples"),
    [
        (
            {"text": HOUSES, "truncation": True, "max_length": 6, "stride": 2},
            [[2, 7, 888, 19, 7, 3], [2, 19, 7, 888, 19, 3], [2, 888, 19, 7, 888, 3]],
            [0, 0, 0],
        ),
        (
            {"text": [HOUSES[:21], "a"], "truncation": True, "max_length": 6, "stride": 1, "padding": True},
            [[2, 7, 888, 19, 7, 3], [2, 7, 888, 19, 3, 0], [2, 7, 3, 0, 0, 0]],
            [0, 0, 1],
        ),
        (
            {"text": "a", "text_pair": HOUSES[:21], "truncation": "only_second", "max_length": 7, "stride": 1},
            [[2, 7, 3, 7, 888, 19, 3], [2, 7, 3, 19, 7, 888, 3], [2, 7, 3, 888, 19, 3]],
            [0, 0, 0],
        ),
        ({"text": "a b"}, [[2, 7, 40, 3]], [0]),
    ],
)
def test_what_is_cut_off_follows(
    tokenizer: NystromformerTokenizer, arguments: Any, ids: list[list[int]], samples: list[int]
) -> None:
    encoding = tokenizer(**arguments, return_overflowing_tokens=True)
    assert encoding.input_ids == ids
    assert encoding.overflow_to_sample_mapping == samples
    assert [len(row) for row in encoding.token_type_ids] == [len(row) for row in ids]
    assert [encoding.tokens(i)[0] for i in range(len(ids))] == ["[CLS]"] * len(ids)


def test_masks_and_lengths(tokenizer: NystromformerTokenizer) -> None:
    encoding = tokenizer("a b", return_special_tokens_mask=True, return_length=True, return_offsets_mapping=True)
    assert list(encoding) == [
        *("input_ids", "token_type_ids", "attention_mask", "special_tokens_mask", "offset_mapping", "length")
    ]
    assert (encoding.special_tokens_mask, encoding.length) == ([1, 0, 0, 1], [4])
    arrays = tokenizer(["a b", "c d"], return_length=True, return_tensors="np")
    np.testing.assert_array_equal(arrays.length, [4, 4])


def test_padding_to_a_multiple(tokenizer: NystromformerTokenizer) -> None:
    longest = tokenizer(["a b c d e", "b"], padding=True, pad_to_multiple_of=4)
    assert longest.input_ids == [[2, 7, 40, 102, 61, 172, 3, 0], [2, 40, 3, 0, 0, 0, 0, 0]]
    fixed = tokenizer("a b c d e", padding="max_length", max_length=10, pad_to_multiple_of=8)
    assert fixed.attention_mask == [1] * 7 + [0] * 9
    with pytest.raises(ValueError, match="max_length=10 is no multiple of pad_to_multiple_of=8"):
        tokenizer("a", padding=True, truncation=True, max_length=10, pad_to_multiple_of=8)


def test_a_text_in_words(tokenizer: NystromformerTokenizer) -> None:
    words = tokenizer(["Hello", "world", "housing"], is_split_into_words=True)
    assert words.input_ids == [2, 83, 180, 80, 410, 1038, 1124, 3]
    assert words.word_ids() == [None, 0, 0, 0, 1, 2, 2, None]
    batch = tokenizer([["a", "b"], ["c"]], is_split_into_words=True, padding=True)
    assert batch.input_ids == [[2, 7, 40, 3], [2, 102, 3, 0]]
    pair = tokenizer(["a", "b"], ["c", "d"], is_split_into_words=True)
    assert (pair.input_ids, pair.token_type_ids) == ([2, 7, 40, 3, 102, 61, 3], [0, 0, 0, 0, 1, 1, 1])
    assert tokenizer([["a", "b"]], [["c"]], is_split_into_words=True).input_ids == [[2, 7, 40, 3, 102, 3]]
    offsets = tokenizer(["New York", "x"], is_split_into_words=True, return_offsets_mapping=True).offset_mapping
    assert offsets == [(0, 0), (0, 3), (3, 5), (5, 7), (7, 8), (0, 1), (0, 1), (0, 0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a b", "text is a list of str, a list of list of str"),
        (["a", 3], r"text\[1\] is a str, as is_split_into_words says, found int 3"),
        ([["a"], "b"], r"text\[1\] is a list of str or a pair of such lists, found str 'b'"),
    ],
)
def test_a_text_that_is_not_in_words(tokenizer: NystromformerTokenizer, text: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        tokenizer(text, is_split_into_words=True)


# -------------------------------------------------------------------------------------------------- padding


def test_padding_what_is_encoded_already(tokenizer: NystromformerTokenizer) -> None:
    given = {"input_ids": [[2, 7, 3], [2, 3]], "labels": [1, 0]}
    padded = tokenizer.pad(given)
    assert padded == {"input_ids": [[2, 7, 3], [2, 3, 0]], "labels": [1, 0], "attention_mask": [[1, 1, 1], [1, 1, 0]]}
    assert given == {"input_ids": [[2, 7, 3], [2, 3]], "labels": [1, 0]}
    records = [
        {"input_ids": [2, 7, 3], "special_tokens_mask": [1, 0, 1]},
        {"input_ids": [2], "special_tokens_mask": [1]},
    ]
    assert tokenizer.pad(records, pad_to_multiple_of=4).special_tokens_mask == [[1, 0, 1, 1], [1, 1, 1, 1]]
    assert tokenizer.pad({"input_ids": [2, 7, 3]}, padding="max_length", max_length=5).input_ids == [2, 7, 3, 0, 0]
    together = tokenizer(["a b c", "a"], padding=True, return_tensors="np")
    for encodings in ([tokenizer("a b c"), tokenizer("a")], tokenizer(["a b c", "a"])):
        arrays = tokenizer.pad(encodings, return_tensors="np")
        assert list(arrays) == list(together)
        assert all((arrays[name] == together[name]).all() for name in together)
    tokenizer.padding_side = "left"
    assert tokenizer.pad({"input_ids": np.array([[2, 3]])}, "max_length", 3).attention_mask == [[0, 1, 1]]


@pytest.mark.parametrize(
    ("encodings", "error", "message"),
    [
        ("a", TypeError, "encodings are a mapping or a list of mappings, found str"),
        ({"ids": [1]}, ValueError, "encodings have input_ids, found ids"),
        ([{"input_ids": [1]}, {"ids": [1]}], ValueError, r"encodings\[1\] has ids, the first has input_ids"),
    ],
)
def test_padding_what_is_no_encoding(
    tokenizer: NystromformerTokenizer, encodings: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tokenizer.pad(encodings)


# ------------------------------------------------------------------------------------- tokens and characters


def test_which_token_stands_for_what(tokenizer: NystromformerTokenizer) -> None:
    pair = tokenizer("A house, isn't it", "it is")
    assert pair.word_ids() == pair.words() == [None, 0, 1, 2, 3, 4, 5, None, 0, 1, None]
    assert pair.sequence_ids() == [None, 0, 0, 0, 0, 0, 0, None, 1, 1, None]
    assert (pair.char_to_token(3), pair.char_to_token(0, 1, 1), pair.char_to_token(0, 1, sequence_index=1)) == (2, 8, 8)
    assert pair.token_to_chars(2) == pair.word_to_chars(1) == (1, 7)
    assert (pair.token_to_chars(2).start, pair.token_to_chars(0)) == (1, None)
    assert (pair.word_to_tokens(1), pair.word_to_tokens(0, sequence_index=1)) == ((2, 3), (8, 9))
    assert (pair.char_to_word(3), pair.token_to_word(2), pair.token_to_sequence(9)) == (1, 1, 1)
    assert (pair.n_sequences, pair.is_fast, len(pair.encodings), pair.token_to_word(-2)) == (2, True, 1, 1)


def test_which_token_stands_for_what_in_a_batch(tokenizer: NystromformerTokenizer) -> None:
    batch = tokenizer(["a b", "New York cit"])
    assert batch.tokens(1) == ["[CLS]", "▁new", "▁y", "or", "k", "▁c", "it", "[SEP]"]
    assert (batch.char_to_token(1, 5), batch.token_to_chars(1, 2), batch.word_to_tokens(1, 0)) == (3, (3, 5), (1, 2))
    assert batch[1].ids == batch.input_ids[1]
    with pytest.raises(IndexError, match="the encoding has 2 sequences, found the index 2"):
        batch.tokens(2)
    with pytest.raises(ValueError, match="it does not come from a tokenizer's call"):
        BatchEncoding({"input_ids": [2, 3]}).tokens()


def test_an_encoding_moves_and_is_kept(tokenizer: NystromformerTokenizer) -> None:
    encoding = tokenizer("a b", return_tensors="np")
    assert encoding.to("cpu") is encoding
    assert pickle.loads(pickle.dumps(encoding)).tokens() == encoding.tokens()
    assert encoding.data["input_ids"] is encoding.input_ids


# ----------------------------------------------------------------------------------- halves of a character


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        (f"ok {HIGH} bad", "ok \ufffd bad"),
        ("a" + chr(0xDCE9), "a\ufffd"),
        (LOW + HIGH, "\ufffd\ufffd"),
        (HIGH, "\ufffd"),
        (HIGH + LOW, "👍"),
        (f"{HIGH}{HIGH}{LOW} é", "\ufffd👍 é"),
    ],
)
def test_half_of_a_character_is_an_unknown_one(tokenizer: NystromformerTokenizer, text: str, instead: str) -> None:
    for given, expected in (
        (tokenizer(text), tokenizer(instead)),
        (tokenizer(["a", text]), tokenizer(["a", instead])),
        (tokenizer(text, text), tokenizer(instead, instead)),
        (tokenizer([(text, "b")]), tokenizer([(instead, "b")])),
        (tokenizer(["a", text], is_split_into_words=True), tokenizer(["a", instead], is_split_into_words=True)),
    ):
        assert given == expected
    assert tokenizer.windows(text)[0].ids == tokenizer(instead).input_ids
    assert tokenizer.convert_tokens_to_ids(text) == 1


@pytest.mark.parametrize("padding", [True, "max_length"])
@pytest.mark.parametrize("size", [2, 3])
def test_a_mask_that_is_not_wanted_stays_as_it_is(weights: Path, padding: Any, size: int) -> None:
    """As in the reference, which leaves it shorter than its sequence."""
    tokenizer = NystromformerTokenizer.from_pretrained(weights / "masked-lm")
    rows = {"input_ids": [[2, 7, 7, 3][:size], [2, 7, 7, 3]], "attention_mask": [[1] * size, [1] * 4]}
    padded = tokenizer.pad(rows, padding, 4, return_attention_mask=False)
    assert [len(row) for row in padded.input_ids] == [4, 4]
    assert padded.attention_mask == rows["attention_mask"]
    with pytest.raises(ValueError, match=f"arrays of attention_mask need sequences of one length, found {size} to 4"):
        tokenizer.pad(rows, padding, 4, return_attention_mask=False, return_tensors="np")
