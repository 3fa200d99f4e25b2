"""The tokenizer: what it returns, as transformers 4.37.2 does for the same files, and its errors."""

import json
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from nystrom_np.tokenization import BatchEncoding, NystromformerTokenizer

PIECES = ["▁paris", "▁is", "▁the", "▁of", "▁france", "▁", ".", "▁cafe", "▁a", "▁b", "c", "'", "s", ","]
PAD, UNK, CLS, SEP, MASK = range(5)
PARIS, IS, THE, OF, FRANCE, SPACE, STOP, CAFE, A, B, C, APOSTROPHE, S, COMMA = range(5, 19)


def backend() -> Tokenizer:
    """Return ALBERT's tokenizer in small."""
    special = [("<pad>", 0.0), ("<unk>", 0.0), ("[CLS]", 0.0), ("[SEP]", 0.0), ("[MASK]", 0.0)]
    tokenizer = Tokenizer(models.Unigram(special + [(piece, -float(len(special))) for piece in PIECES], UNK))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    tokenizer.add_special_tokens(["<pad>", "<unk>", "[CLS]", "[SEP]"])
    tokenizer.add_special_tokens([AddedToken("[MASK]", lstrip=True, normalized=False)])
    return tokenizer


@pytest.fixture
def tokenizer() -> NystromformerTokenizer:
    return NystromformerTokenizer(backend(), {"model_max_length": 12})


def folder_with(path: Path, **files: Any) -> Path:
    """Write a tokenizer's folder, with what the other files hold as keywords."""
    backend().save(str(path / "tokenizer.json"))
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (path / f"{name}.json").write_text(text, encoding="utf-8")
    return path


# One text, a pair, a batch


def test_one_text_is_lower_cased_stripped_of_accents_and_framed(tokenizer: NystromformerTokenizer) -> None:
    encoding = tokenizer("Paris is  the CAFÉ.", return_offsets_mapping=True)
    assert encoding == {
        "input_ids": [CLS, PARIS, IS, THE, CAFE, STOP, SEP],
        "token_type_ids": [0] * 7,
        "attention_mask": [1] * 7,
        "offset_mapping": [(0, 0), (0, 5), (5, 8), (9, 13), (13, 18), (18, 19), (0, 0)],
    }
    assert list(encoding) == ["input_ids", "token_type_ids", "attention_mask", "offset_mapping"]


def test_a_pair_has_two_token_types(tokenizer: NystromformerTokenizer) -> None:
    encoding = tokenizer("Paris", "a b", return_offsets_mapping=True)
    assert encoding.input_ids == [CLS, PARIS, SEP, A, B, SEP]
    assert encoding.token_type_ids == [0, 0, 0, 1, 1, 1]
    assert encoding.offset_mapping == [(0, 0), (0, 5), (0, 0), (0, 1), (1, 3), (0, 0)]


def test_without_special_tokens(tokenizer: NystromformerTokenizer) -> None:
    assert tokenizer("Paris", "a", add_special_tokens=False).input_ids == [PARIS, A]
    assert tokenizer("", add_special_tokens=False).input_ids == []


def test_the_mask_takes_the_space_before_it_and_nothing_of_the_text_around(
    tokenizer: NystromformerTokenizer,
) -> None:
    encoding = tokenizer("Paris is the [MASK] of France.", return_offsets_mapping=True)
    assert encoding.input_ids == [CLS, PARIS, IS, THE, MASK, OF, FRANCE, STOP, SEP]
    assert encoding.offset_mapping[4] == (12, 19)
    assert tokenizer("[MASK][MASK] a").input_ids == [CLS, MASK, MASK, A, SEP]


def test_what_the_vocabulary_cannot_write_is_unknown(tokenizer: NystromformerTokenizer) -> None:
    assert tokenizer("a 😀").input_ids == [CLS, A, SPACE, UNK, SEP]


def test_empty_texts(tokenizer: NystromformerTokenizer) -> None:
    assert tokenizer("").input_ids == [CLS, SEP]
    assert tokenizer(["", "a"]).input_ids == [[CLS, SEP], [CLS, A, SEP]]
    # The reference takes an empty second text for none when the first is not in a list.
    assert tokenizer("a", "").input_ids == [CLS, A, SEP]
    assert tokenizer(["a"], [""]).input_ids == [[CLS, A, SEP, SEP]]


def test_the_three_ways_to_give_pairs_agree(tokenizer: NystromformerTokenizer) -> None:
    expected = [[CLS, PARIS, SEP, A, SEP], [CLS, B, SEP, FRANCE, SEP]]
    assert tokenizer(["Paris", "b"], ["a", "France"]).input_ids == expected
    assert tokenizer([("Paris", "a"), ("b", "France")]).input_ids == expected
    assert tokenizer([["Paris", "a"], ["b", "France"]]).input_ids == expected


def test_a_batch_may_mix_texts_and_pairs(tokenizer: NystromformerTokenizer) -> None:
    assert tokenizer(["a", ("a", "b")]).token_type_ids == [[0, 0, 0], [0, 0, 0, 1, 1]]


# Padding and truncation


@pytest.mark.parametrize("padding", [True, "longest"])
def test_padding_to_the_longest(tokenizer: NystromformerTokenizer, padding: bool | str) -> None:
    encoding = tokenizer(["a b", "a"], padding=padding, return_offsets_mapping=True)
    assert encoding.input_ids == [[CLS, A, B, SEP], [CLS, A, SEP, PAD]]
    assert encoding.attention_mask == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert encoding.token_type_ids[1] == [0, 0, 0, 0]
    assert encoding.offset_mapping[1][3] == (0, 0)


def test_padding_to_a_length_and_to_the_models(tokenizer: NystromformerTokenizer) -> None:
    assert tokenizer("a", padding="max_length", max_length=5).input_ids == [CLS, A, SEP, PAD, PAD]
    assert len(tokenizer("a", padding="max_length").input_ids) == 12
    assert tokenizer("a b c", padding="max_length", max_length=2).attention_mask == [1] * 6  # no truncation


def test_a_call_leaves_nothing_behind_for_the_next(tokenizer: NystromformerTokenizer) -> None:
    tokenizer(["a b", "a"], padding=True, truncation=True, max_length=3)
    assert tokenizer(["a b", "a"]).input_ids == [[CLS, A, B, SEP], [CLS, A, SEP]]


def test_padding_and_truncation_on_the_left() -> None:
    tokenizer = NystromformerTokenizer(backend(), {"padding_side": "left", "truncation_side": "left"})
    assert tokenizer(["a b", "a"], padding=True).input_ids[1] == [PAD, CLS, A, SEP]
    assert tokenizer("a b", truncation=True, max_length=3).input_ids == [CLS, B, SEP]


@pytest.mark.parametrize(
    ("truncation", "max_length", "expected"),
    [
        (True, 8, [CLS, A, A, A, SEP, B, B, SEP]),
        ("longest_first", 7, [CLS, A, A, SEP, B, B, SEP]),
        ("longest_first", 3, [CLS, SEP, SEP]),
        ("only_first", 6, [CLS, A, SEP, B, B, SEP]),
        ("only_second", 8, [CLS, A, A, A, A, SEP, B, SEP]),
        (False, 3, [CLS, A, A, A, A, SEP, B, B, SEP]),
        ("do_not_truncate", 3, [CLS, A, A, A, A, SEP, B, B, SEP]),
        (None, 8, [CLS, A, A, A, SEP, B, B, SEP]),
    ],
)
def test_truncation_of_a_pair(
    tokenizer: NystromformerTokenizer, truncation: bool | str | None, max_length: int, expected: list[int]
) -> None:
    encoding = tokenizer("a a a a", "b b", truncation=truncation, max_length=max_length)
    assert encoding.input_ids == expected


def test_truncation_to_the_models_length_and_with_padding(tokenizer: NystromformerTokenizer) -> None:
    assert tokenizer("a " * 20, truncation=True).input_ids == [CLS, *[A] * 10, SEP]
    batch = tokenizer(["a b c", "a"], padding=True, truncation=True, max_length=4)
    assert batch.input_ids == [[CLS, A, B, SEP], [CLS, A, SEP, PAD]]
    # max_length with padding alone truncates nothing, as in the reference
    assert len(tokenizer("a" + " a" * 19, padding=True, max_length=4).input_ids) == 22


def test_no_length_anywhere_is_a_warning() -> None:
    tokenizer = NystromformerTokenizer(backend())
    assert tokenizer.model_max_length == int(1e30)
    with pytest.warns(UserWarning, match="neither max_length nor the tokenizer's model_max_length"):
        assert tokenizer("a", padding="max_length").input_ids == [CLS, A, SEP]
    with pytest.warns(UserWarning, match="nothing is truncated"):
        assert tokenizer(["a b", "a"], truncation=True, padding=True).input_ids[1] == [CLS, A, SEP, PAD]


# The record


def test_arrays(tokenizer: NystromformerTokenizer) -> None:
    one = tokenizer("a", return_tensors="np", return_offsets_mapping=True)
    assert {name: (array.shape, array.dtype) for name, array in one.items()} == {
        "input_ids": ((1, 3), np.int64),
        "token_type_ids": ((1, 3), np.int64),
        "attention_mask": ((1, 3), np.int64),
        "offset_mapping": ((1, 3, 2), np.int64),
    }
    two = tokenizer(["a b", "a"], padding=True, return_tensors="np")
    np.testing.assert_array_equal(two["input_ids"], [[CLS, A, B, SEP], [CLS, A, SEP, PAD]])
    empty = tokenizer("", add_special_tokens=False, return_tensors="np", return_offsets_mapping=True)
    assert {(array.shape, str(array.dtype)) for array in empty.values()} == {((1, 0), "float64")}  # as in the reference


def test_the_encoding_is_a_mapping_with_attributes(tokenizer: NystromformerTokenizer) -> None:
    encoding = tokenizer("a")
    assert encoding["input_ids"] is encoding.input_ids
    assert dict(**encoding) == encoding
    assert pickle.loads(pickle.dumps(encoding)) == encoding
    with pytest.raises(AttributeError, match="'labels', it has input_ids, token_type_ids, attention_mask"):
        _ = encoding.labels
    assert isinstance(encoding, BatchEncoding)


def test_threads_do_not_mix_their_settings(tokenizer: NystromformerTokenizer) -> None:
    wrong: list[Any] = []

    def work(length: int) -> None:
        for _ in range(200):
            ids = tokenizer("a", padding="max_length", max_length=length, truncation=True).input_ids
            if ids != [CLS, A, SEP] + [PAD] * (length - 3):
                wrong.append(ids)

    threads = [threading.Thread(target=work, args=(length,)) for length in (3, 5, 9, 12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# Ids and tokens


def test_decode(tokenizer: NystromformerTokenizer) -> None:
    ids = tokenizer("Paris is the café.").input_ids
    assert tokenizer.decode(ids) == "[CLS] paris is the cafe.[SEP]"
    assert tokenizer.decode(np.array(ids), skip_special_tokens=True) == "paris is the cafe."
    assert tokenizer.decode(PARIS) == tokenizer.decode(np.int64(PARIS)) == tokenizer.decode([PARIS]) == "paris"
    assert tokenizer.decode([]) == ""
    assert tokenizer.batch_decode(np.array([[A, B], [B, PAD]]), skip_special_tokens=True) == ["a b", "b"]


def test_decode_closes_up_punctuation_unless_told_otherwise(tokenizer: NystromformerTokenizer) -> None:
    spaced = [A, SPACE, STOP, SPACE, COMMA, B, SPACE, APOSTROPHE, S, A, SPACE, APOSTROPHE, B]
    assert tokenizer.decode(spaced) == "a., b's a'b"
    assert tokenizer.decode(spaced, clean_up_tokenization_spaces=False) == "a . , b 's a ' b"
    plain = NystromformerTokenizer(backend(), {"clean_up_tokenization_spaces": False})
    assert plain.decode(spaced) == "a . , b 's a ' b"
    assert plain.decode(spaced, clean_up_tokenization_spaces=True) == "a., b's a'b"


def test_ids_and_tokens_are_each_others_inverse(tokenizer: NystromformerTokenizer) -> None:
    vocabulary = tokenizer.get_vocab()
    assert len(vocabulary) == len(tokenizer) == tokenizer.vocab_size == 19
    for token, index in vocabulary.items():
        assert tokenizer.convert_ids_to_tokens(index) == token
        assert tokenizer.convert_tokens_to_ids(token) == index
    assert tokenizer.convert_ids_to_tokens([CLS, A], skip_special_tokens=True) == ["▁a"]
    assert tokenizer.convert_tokens_to_ids(("▁a", "nonsense")) == [A, UNK]


def test_special_tokens(tokenizer: NystromformerTokenizer) -> None:
    names = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"]
    assert [getattr(tokenizer, name) for name in names] == (
        ["[CLS]", "[SEP]", "<unk>", "[SEP]", "<pad>", "[CLS]", "[MASK]"]
    )
    assert [getattr(tokenizer, f"{name}_id") for name in names] == [CLS, SEP, UNK, SEP, PAD, CLS, MASK]
    assert tokenizer.all_special_tokens == ["[CLS]", "[SEP]", "<unk>", "<pad>", "[MASK]"]
    assert tokenizer.all_special_ids == [CLS, SEP, UNK, PAD, MASK]
    assert repr(tokenizer).startswith("NystromformerTokenizer(vocab_size=19, special=['[CLS]'")


# Files


def test_albert_names_hold_where_no_file_gives_any(tmp_path: Path) -> None:
    tokenizer = NystromformerTokenizer.from_pretrained(folder_with(tmp_path))
    assert tokenizer.mask_token_id == MASK
    assert tokenizer("a [MASK]").input_ids == [CLS, A, MASK, SEP]


def test_a_token_that_no_file_names_and_the_vocabulary_lacks_is_none() -> None:
    tokenizer = NystromformerTokenizer(Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>")))
    assert tokenizer.pad_token is None
    assert tokenizer.pad_token_id is None
    assert tokenizer.all_special_tokens == ["<unk>"]
    assert len(tokenizer) == 1


def test_special_tokens_as_objects_and_new_ones(tmp_path: Path) -> None:
    config = {
        "pad_token": {"__type": "AddedToken", "content": "[FILL]", "lstrip": False, "normalized": False},
        "additional_special_tokens": ["[ONE]", {"content": "[TWO]", "rstrip": True, "normalized": False}],
    }
    tokenizer = NystromformerTokenizer.from_pretrained(folder_with(tmp_path, tokenizer_config=config))
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("[FILL]", 19)
    assert tokenizer("[ONE][TWO] a").input_ids == [CLS, 20, 21, A, SEP]
    assert tokenizer.all_special_ids[-2:] == [20, 21]
    assert tokenizer.decode([20, A], skip_special_tokens=True) == "a"
    assert (tokenizer.vocab_size, len(tokenizer)) == (19, 22)


def test_a_mask_that_is_new_takes_the_space_before_it() -> None:
    tokenizer = NystromformerTokenizer(backend(), {"mask_token": "[BLANK]"})
    assert tokenizer("a [BLANK] b").input_ids == [CLS, A, 19, B, SEP]


def test_the_map_of_special_tokens_overrides_the_configuration(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, tokenizer_config={"pad_token": "<unk>"}, special_tokens_map={"pad_token": "[SEP]"})
    assert NystromformerTokenizer.from_pretrained(folder).pad_token == "[SEP]"


def test_added_tokens_in_the_configuration_override_the_map_and_the_flags(tmp_path: Path) -> None:
    flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
    config = {
        "pad_token": "<unk>",
        "added_tokens_decoder": {
            "20": {"content": "[NEW]", "special": True} | flags,
            "19": {"content": "word", "special": False} | flags,
            "4": {"content": "[MASK]", "special": True} | flags,
        },
    }
    folder = folder_with(tmp_path, tokenizer_config=config, special_tokens_map={"pad_token": "[SEP]"})
    tokenizer = NystromformerTokenizer.from_pretrained(folder)
    assert tokenizer.pad_token == "<unk>"
    assert tokenizer("a word[NEW]").input_ids == [CLS, A, SPACE, 19, 20, SEP]
    assert tokenizer("a [MASK]").input_ids == [CLS, A, SPACE, MASK, SEP]  # its lstrip is off now
    assert tokenizer.decode([19, 20], skip_special_tokens=True) == "word"


def test_settings_stored_in_the_file_do_not_pad_or_truncate(tmp_path: Path) -> None:
    stored = backend()
    stored.enable_padding(length=9)
    stored.enable_truncation(4)
    stored.save(str(tmp_path / "tokenizer.json"))
    tokenizer = NystromformerTokenizer.from_pretrained(tmp_path)
    assert tokenizer("a b c").input_ids == [CLS, A, B, SPACE, C, SEP]


def test_save_then_load_is_the_same_tokenizer(tmp_path: Path) -> None:
    config = {
        "model_max_length": 12,
        "padding_side": "left",
        "mask_token": {"content": "[BLANK]", "lstrip": True, "normalized": False},
        "tokenizer_class": "AlbertTokenizer",
        "unknown": [1, "é"],
    }
    first = NystromformerTokenizer(backend(), config)
    first(["a b", "a"], padding=True, truncation=True)
    first.save_pretrained(tmp_path / "new" / "folder")
    second = NystromformerTokenizer.from_pretrained(tmp_path / "new" / "folder")
    assert second.get_vocab() == first.get_vocab()
    assert second.config["unknown"] == [1, "é"]
    assert second.all_special_tokens == first.all_special_tokens
    text = ["A [BLANK], b", "café"]
    assert second(text, padding=True) == first(text, padding=True)
    stored = json.loads((tmp_path / "new" / "folder" / "tokenizer.json").read_text(encoding="utf-8"))
    assert (stored["padding"], stored["truncation"]) == (None, None)
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == {
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    }


def test_a_file_to_which_nothing_was_added_is_written_as_it_was_read(checkpoints: Path, tmp_path: Path) -> None:
    # Older versions of the tokenizers library do not read what newer ones write.
    NystromformerTokenizer.from_pretrained(checkpoints / "tokenizer").save_pretrained(tmp_path)
    original = (checkpoints / "tokenizer" / "tokenizer.json").read_bytes()
    assert (tmp_path / "tokenizer.json").read_bytes() == original
    (tmp_path / "tokenizer_config.json").write_text('{"pad_token": "[FILL]"}', encoding="utf-8")
    (tmp_path / "special_tokens_map.json").unlink()
    changed = NystromformerTokenizer.from_pretrained(tmp_path)
    changed.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() != original
    assert NystromformerTokenizer.from_pretrained(tmp_path).pad_token_id == changed.pad_token_id == len(changed) - 1


# Errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((5,), TypeError, "text is a str, a list of str or a list of pairs of str, found int 5"),
        ((None,), TypeError, "found None"),
        ((b"a",), TypeError, "found bytes"),
        (([],), ValueError, "text is an empty list"),
        ((["a", 5],), TypeError, r"text\[1\] is a str or a pair of str, found int 5"),
        (([("a", "b", "c")],), TypeError, r"text\[0\] is a str or a pair of str, found tuple"),
        (([("a", None)],), TypeError, r"text\[0\] is a str or a pair"),
        (("a", ["b"]), TypeError, "text_pair is a str or None, found list"),
        ((["a"], "b"), TypeError, "text is a list, so text_pair is a list or None, found str 'b'"),
        ((["a", "b"], ["c"]), ValueError, "text and text_pair have the same length, found 2 and 1"),
        ((["a"], [None]), TypeError, r"text_pair\[0\] is a str when text_pair is given, found None"),
        (([("a", "b")], ["c"]), TypeError, r"text\[0\] is a str when text_pair is given"),
    ],
)
def test_wrong_texts(tokenizer: NystromformerTokenizer, arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tokenizer(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"return_tensors": "pt"},
            r'return_tensors is None \(lists\) or "np" \(NumPy arrays\), found \'pt\'',
        ),
        ({"padding": "most"}, "padding is one of False, 'do_not_pad', True, .*, found 'most'"),
        ({"truncation": "first"}, "truncation is one of .*'only_second', found 'first'"),
        ({"max_length": 0}, "max_length is a positive whole number, found 0"),
        ({"max_length": -3}, "max_length is a positive whole number, found -3"),
        ({"max_length": 2, "truncation": True, "stride": 1}, "max_length=2: tokenizer stride set to 1"),
        ({"max_length": 3, "truncation": True, "stride": 1}, "no room for the stride=1 beside the special tokens"),
        ({"max_length": 3, "truncation": True, "stride": -1}, "stride is 0 or more, found -1"),
        ({"max_length": 3, "truncation": "only_second"}, "truncation='only_second' to max_length=3: "),
    ],
)
def test_wrong_options(tokenizer: NystromformerTokenizer, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tokenizer("a b c", **options)


@pytest.mark.parametrize(("text", "max_length"), [("a b c", 1), (["a", "a b c"], 1), ([("a", "b c")], 2)])
def test_no_room_for_the_special_tokens(tokenizer: NystromformerTokenizer, text: Any, max_length: int) -> None:
    """As in the reference nothing is cut, and it is said."""
    with pytest.warns(UserWarning, match=f"max_length={max_length} has no room for the [23] special tokens"):
        cut = tokenizer(text, truncation=True, max_length=max_length)
    assert cut == tokenizer(text)
    assert cut == tokenizer(text, truncation=True, max_length=max_length, verbose=False)  # without a warning


@pytest.mark.parametrize(("text", "room"), [("a b c", 2), (["a b", "b c"], 2), ([("a", "b c")], 3)])
def test_room_for_special_tokens_alone(tokenizer: NystromformerTokenizer, text: Any, room: int) -> None:
    """As in the reference, which gives this answer for pairs whatever the stride."""
    cut = tokenizer(text, truncation=True, max_length=room, stride=room - 2, return_special_tokens_mask=True)
    rows = cut.special_tokens_mask if isinstance(text, list) else [cut.special_tokens_mask]
    assert rows == [[1] * room] * len(rows)


def test_ragged_arrays_and_no_padding_token(tokenizer: NystromformerTokenizer) -> None:
    with pytest.raises(ValueError, match="one length, found 3 to 4: use padding=True"):
        tokenizer(["a b", "a"], return_tensors="np")
    without = NystromformerTokenizer(backend(), {"pad_token": None})
    assert without.pad_token_id is None
    with pytest.raises(ValueError, match="padding=True needs a padding token, and this tokenizer has none"):
        without(["a b", "a"], padding=True)


@pytest.mark.parametrize("index", [19, -1, 2**32, -(2**70)])
def test_ids_outside_the_vocabulary(tokenizer: NystromformerTokenizer, index: int) -> None:
    with pytest.raises(IndexError, match=f"the id {index} is not in the vocabulary of 19 tokens"):
        tokenizer.decode([A, index])
    with pytest.raises(IndexError, match=f"the id {index} is not in the vocabulary of 19 tokens"):
        tokenizer.convert_ids_to_tokens(index)


@pytest.mark.parametrize("ids", [1.0, [1.5], [[1]], "7", [True]])
def test_ids_that_are_none(tokenizer: NystromformerTokenizer, ids: Any) -> None:
    with pytest.raises(TypeError, match="ids are integers of one sequence, found"):
        tokenizer.decode(ids)


def test_an_unknown_token_without_an_unknown_token() -> None:
    tokenizer = NystromformerTokenizer(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), {"unk_token": None})
    with pytest.raises(ValueError, match="'b' is not in the vocabulary, and there is no unknown token"):
        tokenizer.convert_tokens_to_ids("b")


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*absent"):
        NystromformerTokenizer.from_pretrained(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"holds no tokenizer\.json"):
        NystromformerTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer", "{", r"tokenizer\.json cannot be read by the tokenizers library"),
        ("tokenizer", "\x00", r"tokenizer\.json cannot be read by the tokenizers library"),
        ("tokenizer_config", "{", r"tokenizer_config\.json is not usable JSON"),
        ("tokenizer_config", "[1]", r"tokenizer_config\.json must hold a JSON object, not a list"),
        ("special_tokens_map", "{,}", r"special_tokens_map\.json is not usable JSON"),
        ("tokenizer_config", {"padding_side": "top"}, 'padding_side is "left" or "right", found \'top\''),
        (
            "tokenizer_config",
            {"model_max_length": "x"},
            "model_max_length is a positive whole number, found 'x'",
        ),
        (
            "tokenizer_config",
            {"model_max_length": 1.5},
            "model_max_length is a positive whole number, found 1.5",
        ),
        (
            "tokenizer_config",
            {"pad_token": 7},
            "pad_token is a str or an object with content and flags, found 7",
        ),
        ("tokenizer_config", {"pad_token": {"text": "x"}}, "a token is an object with content and flags"),
        ("tokenizer_config", {"added_tokens_decoder": {"a": {}}}, "added_tokens_decoder maps ids to tokens"),
        ("tokenizer_config", {"added_tokens_decoder": [1]}, "added_tokens_decoder maps ids to tokens"),
        (
            "tokenizer_config",
            {"added_tokens_decoder": {"1": 5}},
            "a token is an object with content and flags",
        ),
        (
            "tokenizer_config",
            {"additional_special_tokens": 5},
            "additional_special_tokens is a list, found 5",
        ),
    ],
)
def test_files_that_are_not_what_they_should_be(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NystromformerTokenizer.from_pretrained(folder_with(tmp_path, **{name: content}))


# What AlbertTokenizerFast of transformers 4.37.2 makes of the shipped files


@pytest.mark.parametrize(
    ("text", "ids", "ends", "decoded"),
    [
        (
            "Paris is the [MASK] of France.",
            [2, 489, 53, 5, 4, 11, 547, 9, 3],
            [0, 5, 8, 12, 19, 22, 29, 30, 0],
            "[CLS] paris is the[MASK] of france.[SEP]",
        ),
        (
            "Café — naïve ÉCOLE",
            [2, 153, 67, 10, 307, 375, 116, 7, 10, 280, 54, 3],
            [0, 2, 3, 4, 6, 9, 12, 13, 14, 16, 18, 0],
            "[CLS] cafe — naive ecole[SEP]",
        ),
        (
            "[MASK][MASK] a [MASK]b",
            [2, 4, 4, 15, 4, 35, 3],
            [0, 6, 12, 14, 21, 22, 0],
            "[CLS][MASK][MASK] a[MASK]b[SEP]",
        ),
        ("😀 中文", [2, 7, 1, 7, 1, 3], [0, 1, 1, 2, 4, 0], "[CLS] <unk> <unk>[SEP]"),
        ("a\tb\nc", [2, 15, 81, 110, 3], [0, 1, 3, 5, 0], "[CLS] a b c[SEP]"),
        ("   ", [2, 7, 3], [0, 3, 0], "[CLS] [SEP]"),
    ],
)
def test_the_shipped_tokenizer(checkpoints: Path, text: str, ids: list[int], ends: list[int], decoded: str) -> None:
    tokenizer = NystromformerTokenizer.from_pretrained(checkpoints / "tokenizer")
    encoding = tokenizer(text, return_offsets_mapping=True)
    assert encoding.input_ids == ids
    assert [end for _, end in encoding.offset_mapping] == ends
    assert tokenizer.decode(ids) == decoded


def test_the_shipped_tokenizer_on_a_truncated_pair(checkpoints: Path) -> None:
    tokenizer = NystromformerTokenizer.from_pretrained(checkpoints / "tokenizer")
    encoding = tokenizer("The old king", "of the city of London", truncation=True, max_length=9)
    assert encoding.input_ids == [2, 5, 643, 140, 3, 11, 5, 228, 3]
    assert encoding.token_type_ids == [0, 0, 0, 0, 0, 1, 1, 1, 1]


# ---------------------------------------------------------------------------------------------------- windows


def test_windows_hold_all_of_a_text(checkpoints: Path) -> None:
    tokenizer = NystromformerTokenizer.from_pretrained(checkpoints / "tokenizer")
    text = "The river rose after the storm, and the town was under water for days."
    every = tokenizer(text, add_special_tokens=False).input_ids
    for stride in (0, 1, 5):
        windows = tokenizer.windows(text, max_length=10, stride=stride)
        inside = [window.ids[1:-1] for window in windows]
        assert all((window.ids[0], window.ids[-1]) == (2, 3) for window in windows)
        assert [token for number, ids in enumerate(inside) for token in ids[stride if number else 0 :]] == every
        assert [len(ids) for ids in inside[:-1]] == [8] * (len(inside) - 1)
    assert [window.ids for window in tokenizer.windows(text)] == [tokenizer(text).input_ids]


def test_windows_of_a_pair_hold_all_of_the_first_text(checkpoints: Path) -> None:
    tokenizer = NystromformerTokenizer.from_pretrained(checkpoints / "tokenizer")
    first, second = "Who was it?", "Jim Henson was a nice puppet"
    asked = tokenizer(first, add_special_tokens=False).input_ids
    windows = tokenizer.windows(first, second, max_length=len(asked) + 6, stride=1)
    assert len(windows) > 1
    for window in windows:
        assert [token for token, part in zip(window.ids, window.sequence_ids, strict=True) if part == 0] == asked
    assert tokenizer(first).input_ids == [2, *asked, 3]  # nothing of it is left in the settings


def test_windows_without_a_limit_are_one() -> None:
    tokenizer = NystromformerTokenizer(backend())
    assert [window.ids for window in tokenizer.windows("a b " * 50)] == [tokenizer("a b " * 50).input_ids]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"text": ["a"]}, TypeError, "text is a str, found list"),
        ({"text": "a", "text_pair": 5}, TypeError, "text_pair is a str, found int 5"),
        ({"text": "a", "max_length": 0}, ValueError, "max_length is a positive whole number, found 0"),
        ({"text": "a", "max_length": 2}, ValueError, "max_length=2 and stride=0 leave no room: 2 tokens are the same"),
        ({"text": "a", "max_length": 9, "stride": 7}, ValueError, "max_length=9 and stride=7 leave no room"),
        ({"text": "a", "stride": -1}, ValueError, "stride=-1 leave no room"),
    ],
)
def test_windows_refuse_what_has_no_room(
    checkpoints: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    tokenizer = NystromformerTokenizer.from_pretrained(checkpoints / "tokenizer")
    with pytest.raises(error, match=message):
        tokenizer.windows(**arguments)
