"""What the files beside a vocabulary say: sides, names of inputs, further tokens; values are transformers 4.37.2's."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nystrom_np.tokenization import NystromformerTokenizer

PADDING = {
    "strategy": "BatchLongest",
    "direction": "Left",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "<pad>",
}
TRUNCATION = {"direction": "Left", "max_length": 16, "strategy": "LongestFirst", "stride": 0}
LEFT_PADDED, RIGHT_PADDED = [0, 0, 0, 2, 7, 3], [2, 7, 3, 0, 0, 0]


@pytest.fixture
def folder(weights: Path, tmp_path: Path) -> Path:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(weights / "masked-lm" / name, tmp_path / name)
    return tmp_path


def edit(path: Path, without: str | None = None, **values: Any) -> None:
    changed = {**json.loads(path.read_text(encoding="utf-8")), **values}
    changed.pop(without, None)
    path.write_text(json.dumps(changed), encoding="utf-8")


def load(folder: Path, **settings: Any) -> NystromformerTokenizer:
    return NystromformerTokenizer.from_pretrained(folder, **settings)


def again(tokenizer: NystromformerTokenizer, folder: Path) -> NystromformerTokenizer:
    tokenizer.save_pretrained(folder / "saved")
    return load(folder / "saved")


# ------------------------------------------------------------------------------------------------- sides


@pytest.mark.parametrize(
    ("stored", "sides", "row", "cut"),
    [
        ({"padding": PADDING, "truncation": TRUNCATION}, ("left", "left"), LEFT_PADDED, [2, 102, 61, 3]),
        ({"padding": PADDING}, ("left", "right"), LEFT_PADDED, [2, 7, 40, 3]),
        ({"truncation": TRUNCATION}, ("right", "left"), RIGHT_PADDED, [2, 102, 61, 3]),
        ({"padding": PADDING | {"strategy": {"Fixed": 9}}}, ("left", "right"), LEFT_PADDED, [2, 7, 40, 3]),
    ],
)
def test_sides_stored_with_the_vocabulary_hold(
    folder: Path, stored: Any, sides: tuple[str, str], row: list[int], cut: list[int]
) -> None:
    edit(folder / "tokenizer.json", **stored)
    for tokenizer in (load(folder), again(load(folder), folder)):
        assert (tokenizer.padding_side, tokenizer.truncation_side) == sides
        assert tokenizer(["a b c d", "a"], padding=True).input_ids[1] == row
        assert tokenizer("a b c d", truncation=True, max_length=4).input_ids == cut


def test_the_configurations_sides_win_over_the_stored_ones(folder: Path) -> None:
    edit(folder / "tokenizer.json", padding=PADDING, truncation=TRUNCATION)
    edit(folder / "tokenizer_config.json", padding_side="right", truncation_side="right")
    tokenizer = load(folder)
    assert (tokenizer.padding_side, tokenizer.truncation_side) == ("right", "right")


@pytest.mark.parametrize(("stored", "index"), [("<unk>", 1), ("[MASK]", 4), ("[FILL]", 2048)])
def test_a_padding_token_that_is_stored_with_the_vocabulary_alone(folder: Path, stored: str, index: int) -> None:
    edit(folder / "tokenizer.json", padding=PADDING | {"pad_token": stored, "pad_id": index})
    edit(folder / "tokenizer_config.json", without="pad_token")
    for tokenizer in (load(folder), again(load(folder), folder)):
        assert (tokenizer.pad_token, tokenizer.pad_token_id) == (stored, index)
        assert tokenizer(["a b", "a"], padding=True).input_ids[1] == [index, 2, 7, 3]


def test_attributes_that_were_set_are_saved(folder: Path) -> None:
    edit(folder / "tokenizer.json", padding=PADDING)
    tokenizer = load(folder)
    tokenizer.padding_side, tokenizer.truncation_side = "right", "left"
    tokenizer.model_max_length, tokenizer.clean_up_tokenization_spaces = 9, True
    tokenizer.pad_token = "[MASK]"
    loaded = again(tokenizer, folder)
    assert (loaded.padding_side, loaded.truncation_side, loaded.model_max_length) == ("right", "left", 9)
    assert (loaded.clean_up_tokenization_spaces, loaded.pad_token_id) == (True, 4)


def test_a_configuration_that_was_not_changed_is_saved_as_it_was(folder: Path) -> None:
    saved = again(load(folder), folder).config
    assert saved == json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))


def test_settings_given_to_from_pretrained(folder: Path) -> None:
    tokenizer = load(folder, padding_side="left", model_max_length=4, use_fast=True)
    assert tokenizer(["a b c d", "a"], padding=True, truncation=True).input_ids == [[2, 7, 40, 3], [0, 2, 7, 3]]
    with pytest.raises(TypeError, match=r"the settings padding_side, .*; found 'paddingside'"):
        load(folder, paddingside="left")
    with pytest.raises(ValueError, match='padding_side is "left" or "right", found \'up\''):
        load(folder, padding_side="up")


def test_an_older_name_of_the_limit(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", without="model_max_length", max_len=5)
    assert len(load(folder)("a b c d e", truncation=True).input_ids) == 5


# ---------------------------------------------------------------------------------------- names of inputs


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["input_ids", "attention_mask"], ["input_ids", "attention_mask"]),
        (["attention_mask", "input_ids"], ["input_ids", "attention_mask"]),
        (["input_ids", "token_type_ids"], ["input_ids", "token_type_ids"]),
        (["input_ids"], ["input_ids"]),
    ],
)
def test_a_call_returns_the_inputs_that_the_configuration_names(
    folder: Path, names: list[str], expected: list[str]
) -> None:
    edit(folder / "tokenizer_config.json", model_input_names=names)
    tokenizer = load(folder)
    assert tokenizer.model_input_names == names
    assert list(tokenizer("a", "b")) == list(tokenizer(["a", "b c"], padding=True, return_tensors="np")) == expected
    every = tokenizer("a", "b", return_token_type_ids=True, return_attention_mask=True)
    assert every == {"input_ids": [2, 7, 3, 40, 3], "token_type_ids": [0, 0, 0, 1, 1], "attention_mask": [1] * 5}
    assert list(tokenizer("a", return_token_type_ids=False, return_attention_mask=False)) == ["input_ids"]


@pytest.mark.parametrize("names", ["input_ids", ["attention_mask"], ["input_ids", 3]])
def test_names_that_are_none(folder: Path, names: Any) -> None:
    edit(folder / "tokenizer_config.json", model_input_names=names)
    with pytest.raises(ValueError, match="model_input_names is a list of str with"):
        load(folder)


# ------------------------------------------------------------------------------------------ further tokens


@pytest.mark.parametrize(
    ("special", "text"), [([], "newword[ENT]"), (["[ENT]"], "newword"), (["[ENT]", "newword"], "")]
)
def test_tokens_in_a_file_of_their_own(folder: Path, special: list[str], text: str) -> None:
    edit(folder / "tokenizer_config.json", without="added_tokens_decoder", additional_special_tokens=special)
    (folder / "added_tokens.json").write_text(json.dumps({"newword": 2048, "[ENT]": 2049}))
    for tokenizer in (load(folder), again(load(folder), folder)):
        assert tokenizer("a newword [ENT] b").input_ids == [2, 7, 177, 2048, 177, 2049, 40, 3]
        assert len(tokenizer) == 2050
        assert tokenizer.additional_special_tokens == special
        assert tokenizer.decode([2048, 2049], skip_special_tokens=True).lower() == text.lower()


def test_the_configurations_own_list_of_tokens_makes_that_file_void(folder: Path) -> None:
    (folder / "added_tokens.json").write_text(json.dumps({"newword": 2048}))
    assert len(load(folder)) == 2048


@pytest.mark.parametrize("extra", [["[ENT]"], {"entity_token": "[ENT]"}, [{"content": "[ENT]", "special": True}]])
def test_extra_special_tokens_of_newer_files(folder: Path, extra: Any) -> None:
    edit(folder / "tokenizer_config.json", extra_special_tokens=extra)
    tokenizer = load(folder)
    assert tokenizer.all_special_tokens[-1] == "[ENT]"
    assert tokenizer.all_special_ids[-1] == tokenizer.convert_tokens_to_ids("[ENT]") == 2048
    assert tokenizer.convert_ids_to_tokens([7, 2048], skip_special_tokens=True) == ["▁a"]


def test_special_tokens_can_be_set(folder: Path) -> None:
    tokenizer = load(folder)
    tokenizer.pad_token, tokenizer.mask_token, tokenizer.cls_token = "[MASK]", None, "nonsense"
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id, tokenizer.cls_token_id) == (4, None, 1)
    assert tokenizer(["a b", "a"], padding=True).input_ids[1] == [2, 7, 3, 4]
    assert tokenizer.all_special_tokens == ["[CLS]", "[SEP]", "<unk>", "[MASK]", "nonsense"]
    tokenizer.pad_token, tokenizer.sep_token_id = tokenizer.eos_token, 4
    assert (tokenizer.pad_token_id, tokenizer.sep_token) == (3, "[MASK]")


@pytest.mark.parametrize("clean", [True, False])
def test_decoding_as_the_attribute_says(folder: Path, clean: bool) -> None:
    tokenizer = load(folder)
    tokenizer.clean_up_tokenization_spaces = clean
    text = "[CLS] hey, you'do[SEP]" if clean else "[CLS] hey , you ' do[SEP]"
    assert tokenizer.decode(tokenizer("hey , you ' do").input_ids) == text


# ------------------------------------------------------------------------------------------------ stand-ins


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 43\n", "is a Git LFS pointer"),
        ("<!DOCTYPE html><html><head>", "is an HTML page"),
        ("\n <HTML>\n<body>Not found", "is an HTML page"),
    ],
)
def test_what_lies_in_place_of_a_file_is_named(folder: Path, name: str, content: str, message: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=f"{name} {message}"):
        load(folder)
