"""The configuration: the reference's fields and files, and a clear refusal of everything else."""

import copy
import inspect
import json
import math
import pickle
import stat
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nystrom_np.activations import ACTIVATIONS
from nystrom_np.config import NystromformerConfig
from nystrom_np.files import parse_json_object, read_json_object, replacing

# The file that transformers 4.37.2 saves for a configuration of defaults, without its version.
DEFAULT_FILE = {
    "attention_probs_dropout_prob": 0.1,
    "bos_token_id": 0,
    "conv_kernel_size": 65,
    "eos_token_id": 2,
    "hidden_act": "gelu_new",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "inv_coeff_init_option": False,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 510,
    "model_type": "nystromformer",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "num_landmarks": 64,
    "pad_token_id": 1,
    "segment_means_seq_len": 64,
    "type_vocab_size": 2,
    "vocab_size": 30000,
}
DOCUMENTED_ORDER = [
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings"),
    *("type_vocab_size", "segment_means_seq_len", "num_landmarks", "conv_kernel_size"),
    *("inv_coeff_init_option", "initializer_range", "layer_norm_eps"),
    *("pad_token_id", "bos_token_id", "eos_token_id"),
]


def saved(folder: Path, config: NystromformerConfig) -> dict[str, Any]:
    config.save_pretrained(folder)
    return json.loads((folder / "config.json").read_text())


def write(folder: Path, content: Any) -> Path:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / "config.json").write_bytes(data)
    return folder


# --- fields and files ---


def test_documented_fields_in_order_by_position() -> None:
    parameters = list(inspect.signature(NystromformerConfig).parameters)
    assert parameters[: len(DOCUMENTED_ORDER)] == DOCUMENTED_ORDER
    config = NystromformerConfig(99, 24, 1, 3)
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers) == (99, 24, 1)
    assert config.num_attention_heads == 3


def test_defaults_are_the_reference_code() -> None:
    config = NystromformerConfig()
    assert {name: getattr(config, name) for name in DEFAULT_FILE} == DEFAULT_FILE
    assert (config.num_labels, config.problem_type, config.chunk_size_feed_forward) == (2, None, 0)
    assert (config.output_attentions, config.output_hidden_states) == (False, False)
    assert (config.return_dict, config.use_return_dict, config.tie_word_embeddings) == (True, True, True)
    assert (config.masking, config.pinv_iterations, config.pinv_method) == ("transformers", 6, "iterative")
    assert config.pinv_initial == "batch"
    assert (config.id2label, config.label2id) == ({0: "LABEL_0", 1: "LABEL_1"}, {"LABEL_0": 0, "LABEL_1": 1})


@pytest.mark.parametrize(
    ("fields", "difference"),
    [
        ({}, {}),
        ({"num_labels": 2, "problem_type": None, "masking": "transformers", "pinv_iterations": 6}, {}),
        (
            {"num_labels": 1, "problem_type": "regression"},
            {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "problem_type": "regression"},
        ),
        ({"id2label": {0: "a", 1: "b"}}, {"id2label": {"0": "a", "1": "b"}, "label2id": None}),
        (
            {"conv_kernel_size": None, "pad_token_id": None, "bos_token_id": None},
            {"conv_kernel_size": None, "pad_token_id": None, "bos_token_id": None},
        ),
        (
            {
                "output_attentions": True,
                "return_dict": False,
                "chunk_size_feed_forward": 4,
                "hidden_size": 24,
            },
            {
                "output_attentions": True,
                "return_dict": False,
                "chunk_size_feed_forward": 4,
                "hidden_size": 24,
            },
        ),
        (
            {
                "tie_word_embeddings": False,
                "output_hidden_states": True,
                "sep_token_id": 4,
                "nested": {"a": [1]},
            },
            {
                "tie_word_embeddings": False,
                "output_hidden_states": True,
                "sep_token_id": 4,
                "nested": {"a": [1]},
            },
        ),
        (
            {"masking": "invariant", "pinv_method": "svd", "pinv_iterations": 8},
            {"masking": "invariant", "pinv_method": "svd", "pinv_iterations": 8},
        ),
    ],
)
def test_saved_file_is_the_reference_one(tmp_path: Path, fields: dict[str, Any], difference: dict[str, Any]) -> None:
    config = NystromformerConfig(**fields)
    assert saved(tmp_path, config) == DEFAULT_FILE | difference
    assert NystromformerConfig.from_pretrained(tmp_path) == config


def test_file_text_is_sorted_indented_and_ends_in_a_newline(tmp_path: Path) -> None:
    config = NystromformerConfig(num_labels=12)
    config.save_pretrained(tmp_path / "new" / "folder")
    text = (tmp_path / "new" / "folder" / "config.json").read_text()
    assert text == config.to_json_string()
    assert text.startswith('{\n  "attention_probs_dropout_prob": 0.1,\n  "bos_token_id": 0,\n')
    assert text.endswith("}\n")
    assert text.index('"2": "LABEL_2"') < text.index('"10": "LABEL_10"')
    assert json.loads(config.to_json_string(use_diff=False))["return_dict"] is True


def test_architecture_and_dtype_are_written_without_changing_the_config(tmp_path: Path) -> None:
    config = NystromformerConfig(dtype="bfloat16", architectures=["Other"])
    before = config.to_dict()
    config.save_pretrained(tmp_path, architecture="NystromformerModel", dtype="float32")
    values = json.loads((tmp_path / "config.json").read_text())
    assert values == DEFAULT_FILE | {"architectures": ["NystromformerModel"], "torch_dtype": "float32"}
    assert config.to_dict() == before


def test_unknown_keys_are_kept_readable_and_without_effect(tmp_path: Path) -> None:
    keys = {"transformers_version": "4.37.2", "to_dict": 1, "self": 2, "unknown": 3, "torch_dtype": "float16"}
    config = NystromformerConfig.from_pretrained(write(tmp_path, DEFAULT_FILE | keys))
    assert saved(tmp_path, config) == DEFAULT_FILE | keys
    assert config.transformers_version == "4.37.2"
    assert config.to_dict()["to_dict"] == 1
    assert not hasattr(config, "weather")
    with pytest.raises(AttributeError, match="weather"):
        _ = config.weather


def test_dictionary_round_trip_shares_nothing() -> None:
    config = NystromformerConfig(num_labels=3, history={"steps": [1, 2]}, eos_token_id=[2, 3])
    values = config.to_dict()
    again = NystromformerConfig.from_dict(values)
    assert again == config
    values["history"]["steps"].append(3)
    values["id2label"][0] = "changed"
    assert (config.history, again.history) == ({"steps": [1, 2]}, {"steps": [1, 2]})
    assert again == config


def test_equality_copy_pickle_and_repr() -> None:
    config = NystromformerConfig(num_landmarks=32, note="x")
    assert config == copy.deepcopy(config) == pickle.loads(pickle.dumps(config))
    assert config != NystromformerConfig(num_landmarks=32)
    assert config != "a string"
    assert repr(config) == "NystromformerConfig(note='x', num_landmarks=32)"
    assert repr(NystromformerConfig(hidden_act=math.tanh)).startswith("NystromformerConfig(hidden_act=<built-in")
    with pytest.raises(TypeError):
        hash(config)


def test_numpy_numbers_become_plain_ones(tmp_path: Path) -> None:
    config = NystromformerConfig(
        vocab_size=np.int64(50), layer_norm_eps=np.float32(0.5), initializer_range=Fraction(1, 4)
    )
    assert type(config.vocab_size) is int
    assert type(config.layer_norm_eps) is float
    values = saved(tmp_path, config)
    assert (values["vocab_size"], values["layer_norm_eps"], values["initializer_range"]) == (50, 0.5, 0.25)


def test_nystrom_attention_is_used_where_the_two_lengths_differ() -> None:
    assert not NystromformerConfig().uses_nystrom_attention
    assert NystromformerConfig(num_landmarks=32).uses_nystrom_attention
    assert NystromformerConfig(segment_means_seq_len=128).uses_nystrom_attention
    assert not NystromformerConfig(num_landmarks=8, segment_means_seq_len=8).uses_nystrom_attention


# --- labels ---


def test_labels_from_any_one_of_the_three() -> None:
    named = {0: "no", 1: "yes", 2: "maybe"}
    assert NystromformerConfig(num_labels=3).id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert NystromformerConfig(id2label={"2": "maybe", "0": "no", "1": "yes"}).id2label == named
    assert NystromformerConfig(id2label=named).label2id is None
    assert NystromformerConfig(label2id={"no": 0, "maybe": 2, "yes": 1}).id2label == named
    assert NystromformerConfig(id2label=named, num_labels=3).num_labels == 3


@pytest.mark.parametrize(
    ("fields", "id2label", "label2id"),
    [  # the values are those of transformers 4.37.2, but for label2id's, which are integers here
        ({"id2label": {"0": "a", "1": "b"}, "label2id": {"a": "0", "b": "1"}}, {0: "a", 1: "b"}, {"a": 0, "b": 1}),
        ({"id2label": {"0": 0, "1": 1}, "label2id": {"0": 0, "1": 1}}, {0: 0, 1: 1}, {"0": 0, "1": 1}),
        ({"id2label": {0: 3, 1: 4}, "label2id": {"3": "0", "4": "1"}}, {0: 3, 1: 4}, {"3": 0, "4": 1}),
        ({"id2label": {"0": 1.5, "1": True}}, {0: 1.5, 1: True}, None),
        ({"label2id": {"a": "0", "b": "1"}}, {0: "a", 1: "b"}, {"a": 0, "b": 1}),
    ],
)
def test_labels_that_are_numbers_or_numbered_in_strings(
    tmp_path: Path, fields: dict[str, Any], id2label: Any, label2id: Any
) -> None:
    config = NystromformerConfig(**fields)
    assert (config.id2label, config.label2id) == (id2label, label2id)
    assert list(map(type, config.id2label.values())) == list(map(type, id2label.values()))
    config.save_pretrained(tmp_path)
    assert NystromformerConfig.from_pretrained(tmp_path) == config


def test_setting_the_number_of_labels_renames_them() -> None:
    config = NystromformerConfig(id2label={0: "a", 1: "b"})
    config.num_labels = 2
    assert config.id2label == {0: "a", 1: "b"}
    config.num_labels = 1
    assert (config.id2label, config.label2id) == ({0: "LABEL_0"}, {"LABEL_0": 0})
    with pytest.raises(ValueError, match="num_labels must be an integer from 1"):
        config.num_labels = 0


@pytest.mark.parametrize(
    ("overrides", "labels"),
    [
        ({}, {0: "a", 1: "b"}),
        ({"num_labels": 2}, {0: "a", 1: "b"}),
        ({"num_labels": 3}, {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}),
        ({"id2label": {0: "x"}}, {0: "x"}),
        ({"label2id": {"x": 0, "y": 1, "z": 2}}, {0: "x", 1: "y", 2: "z"}),
    ],
)
def test_label_overrides(tmp_path: Path, overrides: dict[str, Any], labels: dict[int, str]) -> None:
    folder = write(tmp_path, DEFAULT_FILE | {"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}})
    assert NystromformerConfig.from_pretrained(folder, **overrides).id2label == labels


@pytest.mark.parametrize(
    "fields",
    [
        {"id2label": {0: "a", 1: "b"}, "num_labels": 3},
        {"label2id": {"a": 0, "b": 1}, "num_labels": 3},
        {"id2label": {}},
        {"id2label": ["a", "b"]},
        {"id2label": {0: None}},
        {"id2label": {0: ["a"]}},
        {"id2label": {1: "a", 2: "b"}},
        {"id2label": {"0": "a", 0: "b"}},
        {"id2label": {"zero": "a"}},
        {"id2label": {"-1": "a"}},
        {"id2label": {True: "a", 0: "b"}},
        {"id2label": {"9" * 5000: "a"}},
        {"label2id": {"a": "1"}},
        {"label2id": {"a": "LABEL_0"}},
        {"id2label": {0: "a"}, "label2id": {"a": "first"}},
        {"label2id": {"a": 0, "b": "00"}},
        {"label2id": {"a": 0, "b": 0}},
        {"label2id": {"a": 0, "b": 2}},
        {"label2id": {None: 0}},
        {"label2id": [0]},
        {"num_labels": 0},
        {"num_labels": True},
        {"num_labels": 2.0},
        {"num_labels": 2_000_000_000},
    ],
)
def test_bad_labels(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"id2label|label2id|num_labels"):
        NystromformerConfig(**fields)


# --- validation ---

SIZES = [
    *("vocab_size", "hidden_size", "num_attention_heads", "intermediate_size", "max_position_embeddings"),
    *("type_vocab_size", "segment_means_seq_len", "num_landmarks", "pinv_iterations"),
]
INTEGERS = [*SIZES, "num_hidden_layers", "chunk_size_feed_forward", "conv_kernel_size"]
REALS = ["hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range", "layer_norm_eps"]
BOOLEANS = [
    *("inv_coeff_init_option", "output_attentions", "output_hidden_states", "return_dict"),
    "tie_word_embeddings",
]
WORDS = ("masking", "pinv_method", "pinv_initial")
BAD: list[tuple[str, Any]] = [
    *((name, value) for name in INTEGERS for value in (True, 2.5, "3", [1], 2**31, math.nan)),
    *((name, None) for name in INTEGERS if name != "conv_kernel_size"),
    *((name, value) for name in SIZES for value in (0, -1)),
    *((name, value) for name in REALS for value in (True, "0.1", None, -0.1, -1, math.inf, math.nan, 1j)),
    *((name, 1.5) for name in REALS[:2]),
    *((name, 2) for name in REALS[:2]),
    *((name, value) for name in BOOLEANS for value in (0, 1, None, "true")),
    *((name, value) for name in ("problem_type", *WORDS) for value in ("other", 1, [], {})),
    *((name, None) for name in WORDS),
    *(("conv_kernel_size", value) for value in (0, -1, 2, 64)),
    *(("hidden_act", value) for value in ("gelu-new", "", None, 3, ["relu"])),
    *(("pad_token_id", value) for value in (30000, -30001, 1.0, True, "1")),
    *((name, value) for name in ("bos_token_id", "eos_token_id") for value in (1.0, True, "1")),
    ("eos_token_id", [2, None]),
    ("num_hidden_layers", -1),
    ("num_hidden_layers", 1_000_000),
    *(("position_embedding_type", value) for value in ("relative_key", None)),
    ("is_decoder", True),
    ("add_cross_attention", True),
    ("pruned_heads", {"0": [1]}),
    ("model_type", "bert"),
    *((name, np.array([1, 1])) for name in (*INTEGERS, *REALS, *BOOLEANS, "problem_type", *WORDS)),
    *((name, np.array([1, 1])) for name in ("hidden_act", "pad_token_id", "eos_token_id", "position_embedding_type")),
    *((name, np.array([1, 1])) for name in ("is_decoder", "add_cross_attention", "pruned_heads", "model_type")),
    *(("label2id", value) for value in ({}, {"a": 1}, {"a": 0, "b": 2})),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda part: str(part)[:30])
def test_bad_value_is_named_with_what_is_allowed(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be ") as caught:
        NystromformerConfig(**{name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"num_hidden_layers": 0, "layer_norm_eps": 0, "hidden_dropout_prob": 1},
        {"chunk_size_feed_forward": -3, "conv_kernel_size": 1, "type_vocab_size": 1},
        {"pad_token_id": -1, "eos_token_id": [1, 2]},
        {"pad_token_id": 0, "vocab_size": 1, "eos_token_id": None},
        {"position_embedding_type": "absolute", "is_decoder": False, "pruned_heads": {}},
        {"add_cross_attention": False, "model_type": "nystromformer"},
        {"problem_type": "multi_label_classification", "masking": "original"},
        {"hidden_act": np.tanh},
        *({"hidden_act": name} for name in sorted(ACTIVATIONS)),
    ],
)
def test_values_at_the_edge_are_kept(fields: dict[str, Any]) -> None:
    config = NystromformerConfig(**fields)
    assert {name: getattr(config, name) for name in fields} == fields


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValueError, match="hidden_size must be a multiple of num_attention_heads=5, not 768"):
        NystromformerConfig(num_attention_heads=5)


def test_pad_token_lies_in_the_vocabulary() -> None:
    with pytest.raises(ValueError, match=r"pad_token_id must be None or an integer from -1 to 0 \(vocab_size is 1\)"):
        NystromformerConfig(vocab_size=1)


@pytest.mark.parametrize(("name", "value"), [("hidden_size", 5), ("masking", "none"), ("id2label", {1: "a"})])
def test_validate_sees_a_later_change(name: str, value: Any) -> None:
    config = NystromformerConfig()
    setattr(config, name, value)
    with pytest.raises(ValueError, match=name):
        config.validate()


def test_function_as_activation_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        NystromformerConfig(hidden_act=np.tanh).save_pretrained(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        NystromformerConfig(note=math.nan).to_json_string()


def test_overrides_are_validated_and_known(tmp_path: Path) -> None:
    folder = write(tmp_path, DEFAULT_FILE | {"task": "a"})
    config = NystromformerConfig.from_pretrained(folder, num_landmarks=32, is_decoder=False)
    assert (config.num_landmarks, config.task) == (32, "a")
    with pytest.raises(ValueError, match=r"config.json: num_landmarks must be an integer from 1"):
        NystromformerConfig.from_pretrained(folder, num_landmarks=0)
    for name in ("num_landmark", "unknown", "to_dict", "task", "architectures", "transformers_version"):
        with pytest.raises(TypeError, match=f"no such configuration field: {name}"):
            NystromformerConfig.from_pretrained(folder, **{name: 1})


# --- hostile files ---


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not usable JSON"),
        (b"{", "is not usable JSON"),
        (b"\xff\xfe{}", "is not usable JSON: 'utf-8' codec"),
        (b"\xef\xbb\xbf{}", "is not usable JSON"),
        (b"[]", "must hold a JSON object, not a list"),
        (b"null", "must hold a JSON object, not a NoneType"),
        (b'{"layer_norm_eps": NaN}', "NaN is not a finite number"),
        (b'{"anything": -Infinity}', "-Infinity is not a finite number"),
        (b'{"anything": 1e999}', "1e999 is not a finite number"),
        (b'{"hidden_size": 12, "hidden_size": 24}', "the key 'hidden_size' is there twice"),
        (b'{"id2label": {"0": "a", "0": "b"}}', "the key '0' is there twice"),
        (b'{"hidden_size": "768"}', "hidden_size must be an integer from 1 to 2147483647, not '768'"),
        (b'{"hidden_size": 1' + b"0" * 400 + b"}", "hidden_size must be an integer"),
        (b'{"hidden_size": 1' + b"0" * 9000 + b"}", "JSON|hidden_size"),
        (b'{"num_labels": 1' + b"0" * 12 + b"}", "num_labels must be an integer"),
        (b'{"a": ' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"[" * 100_000, "JSON"),
    ],
)
def test_hostile_json_is_one_clear_error(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        NystromformerConfig.from_pretrained(write(tmp_path, data))
    assert str(tmp_path / "config.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*config\.json"):
        NystromformerConfig.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"a local folder with a config\.json is expected"):
        NystromformerConfig.from_pretrained(tmp_path / "uw-madison" / "nystromformer-512")
    (tmp_path / "config.json").mkdir()
    with pytest.raises(FileNotFoundError):
        NystromformerConfig.from_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"absent\.json"):
        read_json_object(tmp_path / "absent.json")


def test_keys_that_are_not_strings() -> None:
    with pytest.raises(ValueError, match="keys of a configuration must be strings"):
        NystromformerConfig.from_dict({1: 2})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
field_names = st.sampled_from([*DOCUMENTED_ORDER, *BOOLEANS, "id2label", "label2id", "num_labels", "pruned_heads"])


@given(st.dictionaries(field_names | st.text(), json_values, max_size=4))
def test_any_json_object_is_a_config_or_a_value_error(values: dict[str, Any]) -> None:
    try:
        config = NystromformerConfig.from_dict(parse_json_object(json.dumps(values).encode(), "here"))
    except ValueError:
        return
    assert NystromformerConfig.from_dict(json.loads(config.to_json_string())) == config


@given(st.binary(max_size=60))
def test_any_bytes_are_an_object_or_a_value_error(data: bytes) -> None:
    with suppress(ValueError):
        assert isinstance(parse_json_object(data, "here"), dict)


# --- replacing a file ---


def test_replacing_writes_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_keeps_the_mode_that_new_files_have(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with replacing(tmp_path / "file") as temporary:
        temporary.chmod(0o600)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


# --- files of any name, and updates ---


@pytest.mark.parametrize("fields", [{}, {"num_labels": 4, "task": "x"}, {"hidden_act": "relu", "eos_token_id": [1, 2]}])
def test_a_json_file_of_any_name(fields: dict[str, Any], tmp_path: Path) -> None:
    config = NystromformerConfig(**fields)
    for use_diff in (True, False):
        config.to_json_file(tmp_path / "mine.json", use_diff)
        assert (tmp_path / "mine.json").read_text(encoding="utf-8") == config.to_json_string(use_diff)
        assert NystromformerConfig.from_json_file(tmp_path / "mine.json") == config
    with pytest.raises(FileNotFoundError):
        NystromformerConfig.from_json_file(tmp_path / "none.json")
    (tmp_path / "mine.json").write_text('{"conv_kernel_size": 2}')
    with pytest.raises(ValueError, match=r"mine\.json: conv_kernel_size must be an odd integer"):
        NystromformerConfig.from_json_file(tmp_path / "mine.json")


def test_an_update_is_whole_or_not_at_all() -> None:
    """4.37.2 gives for the first 4, 3 and LABEL_0 to LABEL_3."""
    config = NystromformerConfig()
    config.update({"num_labels": 4, "foo": 3})
    assert (config.num_labels, config.foo, config.id2label[3]) == (4, 3, "LABEL_3")
    config.update({"id2label": {0: "a"}, "num_landmarks": 7})
    assert (config.num_labels, config.label2id, config.num_landmarks, config.foo) == (1, None, 7, 3)
    before = config.to_dict()
    for wrong in ({"num_landmarks": 8, "conv_kernel_size": 2}, {"position_embedding_type": "relative_key"}):
        with pytest.raises(ValueError, match=r"conv_kernel_size|position_embedding_type"):
            config.update(wrong)
        assert config.to_dict() == before
    config.update({})
    assert config.to_dict() == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [  # the values are those of transformers 4.37.2
        ("num_landmarks=32", {"num_landmarks": 32}),
        ("layer_norm_eps=1e-6,hidden_act=gelu", {"layer_norm_eps": 1e-6, "hidden_act": "gelu"}),
        ("return_dict=No,tie_word_embeddings=0", {"return_dict": False, "tie_word_embeddings": False}),
        ("output_attentions=Y,num_hidden_layers= 3 ", {"output_attentions": True, "num_hidden_layers": 3}),
    ],
)
def test_fields_changed_by_a_text(text: str, expected: dict[str, Any]) -> None:
    config = NystromformerConfig()
    config.update_from_string(text)
    assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("landmarks=32", "'landmarks=32' is not a field of the configuration and its value: name=value"),
        ("num_landmarks", "'num_landmarks' is not a field"),
        ("", "'' is not a field"),
        ("num_landmarks=3.5", "num_landmarks is 64, and '3.5' is no int"),
        ("return_dict=maybe", "return_dict is True, and 'maybe' is no bool"),
        ("num_landmarks=32,num_hidden_layers=-1", "num_hidden_layers must be"),
        ("id2label=a", "only integers, floats, booleans and strings can be changed by a text"),
    ],
)
def test_a_text_that_changes_nothing(text: str, message: str) -> None:
    config = NystromformerConfig()
    with pytest.raises(ValueError, match=message):
        config.update_from_string(text)
    assert config == NystromformerConfig()
