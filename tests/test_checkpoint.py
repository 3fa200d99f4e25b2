"""Checkpoints: every form that transformers writes is read, and every damage is one clear error."""

import json
import resource
import signal
import stat
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save, save_file

from nystrom_np import NystromformerForMaskedLM
from nystrom_np.checkpoint import CheckpointError, load_checkpoint, save_checkpoint, stored_tensors

Parameters = dict[str, np.ndarray]
RNG = np.random.default_rng(0)
D, VOCABULARY, LABELS = 4, 7, 3
WORDS = "nystromformer.embeddings.word_embeddings.weight"
DECODER = "cls.predictions.decoder.weight"
BIAS = "cls.predictions.bias"
DECODER_BIAS = "cls.predictions.decoder.bias"


def drawn(shapes: dict[str, tuple[int, ...]]) -> Parameters:
    return {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


BODY = {
    WORDS: (VOCABULARY, D),
    "nystromformer.embeddings.LayerNorm.weight": (D,),
    "nystromformer.embeddings.LayerNorm.bias": (D,),
    "nystromformer.encoder.layer.0.attention.self.conv.weight": (2, 1, 3, 1),
    "nystromformer.encoder.layer.0.output.dense.weight": (D, 6),
}
HEADS: dict[str, dict[str, tuple[int, ...]]] = {
    "masked": {
        "cls.predictions.transform.dense.weight": (D, D),
        "cls.predictions.transform.LayerNorm.weight": (D,),
        BIAS: (VOCABULARY,),
    },
    "sequence": {"classifier.dense.weight": (D, D), "classifier.out_proj.weight": (LABELS, D)},
    "choice": {"pre_classifier.weight": (D, D), "classifier.weight": (1, D), "classifier.bias": (1,)},
    "token": {"classifier.weight": (LABELS, D), "classifier.bias": (LABELS,)},
    "question": {"qa_outputs.weight": (2, D), "qa_outputs.bias": (2,)},
}
SHAPES = {name: BODY | head for name, head in HEADS.items()}
BARE = {name.removeprefix("nystromformer."): shape for name, shape in BODY.items()}
UNTIED = SHAPES["masked"] | {DECODER: (VOCABULARY, D)}


def write(folder: Path, parameters: Parameters) -> Path:
    save_file(parameters, folder / "model.safetensors")
    return folder


def bare(parameters: Parameters) -> Parameters:
    return {name.removeprefix("nystromformer."): array for name, array in parameters.items()}


def same(loaded: Parameters, expected: Parameters) -> None:
    assert list(loaded) == list(expected)
    for name, array in expected.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


# --- what is found ---


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("head", HEADS)
def test_a_head_with_its_own_file(tmp_path: Path, head: str, dtype: str) -> None:
    parameters = {name: array.astype(dtype) for name, array in drawn(SHAPES[head]).items()}
    loaded = load_checkpoint(write(tmp_path, parameters), SHAPES[head])
    same(loaded.parameters, parameters)
    assert (loaded.initialised, loaded.ignored) == ((), ())


def test_arrays_are_read_only_views_of_the_mapped_file(tmp_path: Path) -> None:
    parameters = drawn(BODY)
    loaded = load_checkpoint(write(tmp_path, parameters), BODY).parameters
    for array in loaded.values():
        assert type(array) is np.ndarray
        assert not array.flags.writeable
        base: Any = array
        while not isinstance(base, np.memmap):
            base = base.base
        assert base.mode == "r"
    # Mapped, not copied: what is written to the file is seen.
    path, start = tmp_path / "model.safetensors", stored_tensors(tmp_path)[WORDS].start
    with path.open("r+b") as file:
        file.seek(start)
        file.write(struct.pack("<f", 42.0))
    assert loaded[WORDS][0, 0] == 42.0


def test_bfloat16_is_widened_exactly(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 3.3895314e38, 1e-40, np.inf, np.nan, -0.0, 0.0], dtype=np.float32)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    header = {"embeddings.a": {"dtype": "BF16", "shape": [2, 4], "data_offsets": [0, 16]}}
    raw(tmp_path, header, bits.tobytes())
    loaded = load_checkpoint(tmp_path, {"embeddings.a": (2, 4)}).parameters["embeddings.a"]
    assert loaded.dtype == np.float32
    assert loaded.view(np.uint32).ravel().tolist() == [int(b) << 16 for b in bits]
    assert loaded[0, 0] == 1.0
    assert loaded[0, 1] == -2.5
    assert not loaded.flags.writeable


def test_unaligned_tensors_are_copied(tmp_path: Path) -> None:
    value = np.arange(6, dtype=np.float64)
    header = {
        "cls.odd": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
        "embeddings.a": {"dtype": "F64", "shape": [6], "data_offsets": [3, 51]},
    }
    raw(tmp_path, header, b"abc" + value.tobytes())
    loaded = load_checkpoint(tmp_path, {"embeddings.a": (6,)}).parameters["embeddings.a"]
    assert loaded.flags.aligned
    assert loaded.flags.owndata
    np.testing.assert_array_equal(loaded, value)


@pytest.mark.parametrize("prefixed", [True, False])
def test_old_names_and_buffers(tmp_path: Path, prefixed: bool) -> None:
    parameters = drawn(SHAPES["masked"])
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
        for name, array in parameters.items()
    }
    assert len(set(old) - set(parameters)) == 3
    old["nystromformer.embeddings.position_ids"] = np.arange(5)[None]
    old["nystromformer.embeddings.token_type_ids"] = np.zeros((1, 5), dtype=np.int64)
    loaded = load_checkpoint(write(tmp_path, old if prefixed else bare(old)), SHAPES["masked"])
    same(loaded.parameters, parameters)
    assert loaded.ignored == ()


def test_old_and_new_name_together(tmp_path: Path) -> None:
    parameters = drawn(BODY)
    gamma = "nystromformer.embeddings.LayerNorm.gamma"
    parameters[gamma] = parameters["nystromformer.embeddings.LayerNorm.weight"]
    with pytest.raises(CheckpointError, match=r"LayerNorm\.gamma' and '.*LayerNorm\.weight' are one parameter"):
        load_checkpoint(write(tmp_path, parameters), BODY)


@pytest.mark.parametrize("head", HEADS)
def test_a_heads_file_in_the_bare_model(tmp_path: Path, head: str) -> None:
    parameters = drawn(SHAPES[head])
    loaded = load_checkpoint(write(tmp_path, parameters), BARE)
    same(loaded.parameters, bare({name: parameters[name] for name in BODY}))
    assert loaded.initialised == ()
    assert set(loaded.ignored) == set(HEADS[head])


@pytest.mark.parametrize("prefixed", [True, False])
@pytest.mark.parametrize("head", HEADS)
def test_a_bare_file_in_a_head(tmp_path: Path, head: str, prefixed: bool) -> None:
    parameters = drawn(BODY)
    write(tmp_path, parameters if prefixed else bare(parameters))
    with pytest.warns(UserWarning, match="drawn at random, as the checkpoint lacks them") as caught:
        loaded = load_checkpoint(tmp_path, SHAPES[head])
    same(loaded.parameters, parameters)
    assert (loaded.initialised, loaded.ignored) == (tuple(HEADS[head]), ())
    assert len(caught) == 1
    assert all(name in str(caught[0].message) for name in HEADS[head])


@pytest.mark.parametrize("wanted", HEADS)
@pytest.mark.parametrize("stored", HEADS)
def test_another_heads_file_in_a_head(tmp_path: Path, stored: str, wanted: str) -> None:
    parameters = drawn(SHAPES[stored])
    write(tmp_path, parameters)
    if stored == wanted:
        same(load_checkpoint(tmp_path, SHAPES[wanted]).parameters, parameters)
        return
    with pytest.warns(UserWarning, match="ignored, as they belong to another head") as caught:
        loaded = load_checkpoint(tmp_path, SHAPES[wanted])
    same(loaded.parameters, {name: parameters[name] for name in BODY})
    assert set(loaded.initialised) == set(HEADS[wanted])
    assert set(loaded.ignored) == set(HEADS[stored])
    assert len(caught) == 1
    for name in (*HEADS[wanted], *HEADS[stored]):
        assert name in str(caught[0].message)


# --- ties and the bias ---


def test_tied_decoder_present_and_the_same(tmp_path: Path) -> None:
    parameters = drawn(SHAPES["masked"])
    loaded = load_checkpoint(write(tmp_path, parameters | {DECODER: parameters[WORDS]}), SHAPES["masked"])
    same(loaded.parameters, parameters)


@pytest.mark.parametrize("change", [lambda w: w + 1, lambda w: w.astype(np.float64)])
def test_tied_decoder_present_and_different(tmp_path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    parameters = drawn(SHAPES["masked"])
    write(tmp_path, parameters | {DECODER: change(parameters[WORDS])})
    with pytest.raises(CheckpointError, match=r"decoder\.weight' differs from .*word_embeddings.*tie_word_embeddings"):
        load_checkpoint(tmp_path, SHAPES["masked"])


def test_tied_decoder_compared_to_its_last_element(tmp_path: Path) -> None:
    shapes = SHAPES["masked"] | {WORDS: (20_000, D), BIAS: (20_000,)}  # more than one piece
    parameters = drawn(shapes)
    decoder = parameters[WORDS].copy()
    same(load_checkpoint(write(tmp_path, parameters | {DECODER: decoder}), shapes).parameters, parameters)
    decoder[-1, -1] += 1
    with pytest.raises(CheckpointError, match="differs"):
        load_checkpoint(write(tmp_path, parameters | {DECODER: decoder}), shapes)


def test_tied_decoder_of_another_shape(tmp_path: Path) -> None:
    parameters = drawn(SHAPES["masked"] | {DECODER: (VOCABULARY + 1, D)})
    with pytest.raises(CheckpointError, match=r"decoder\.weight' has shape \(8, 4\), expected \(7, 4\)"):
        load_checkpoint(write(tmp_path, parameters), SHAPES["masked"])


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
@pytest.mark.parametrize("head", ["masked", "token", "bare"])
def test_of_two_names_of_one_tensor_a_file_may_keep_the_decoders(tmp_path: Path, head: str, prefix: str) -> None:
    parameters = drawn(SHAPES["masked"])
    kept = {DECODER if name == WORDS else name: array for name, array in parameters.items()}
    write(tmp_path, {prefix + name: array for name, array in kept.items()})
    shapes = BARE if head == "bare" else SHAPES[head]
    plain = bare(parameters) if head == "bare" else parameters
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the prefix, and of another head
        loaded = load_checkpoint(tmp_path, shapes)
        same(loaded.parameters, {name: plain[name] for name in shapes if name in plain})
        with pytest.raises(CheckpointError, match=r"lacks '.*word_embeddings"):
            load_checkpoint(tmp_path, shapes, tied=False)


def test_a_decoder_that_is_not_tied_stands_for_nothing_else(tmp_path: Path) -> None:
    parameters = drawn(UNTIED)
    del parameters[WORDS]
    with pytest.raises(CheckpointError, match=r"lacks '.*word_embeddings"):
        load_checkpoint(write(tmp_path, parameters), UNTIED)


def test_the_decoder_in_place_of_the_words_has_their_shape(tmp_path: Path) -> None:
    parameters = drawn(SHAPES["masked"] | {DECODER: (VOCABULARY + 1, D)})
    del parameters[WORDS]
    with pytest.raises(CheckpointError, match=r"decoder\.weight' has shape \(8, 4\), expected \(7, 4\)"):
        load_checkpoint(write(tmp_path, parameters), SHAPES["masked"])


def test_a_foreign_decoder_is_not_compared(tmp_path: Path) -> None:
    write(tmp_path, drawn(UNTIED))
    assert DECODER in load_checkpoint(tmp_path, BARE).ignored
    with pytest.warns(UserWarning, match=r"decoder\.weight"):
        load_checkpoint(tmp_path, SHAPES["token"])


@pytest.mark.parametrize("shapes", [SHAPES["masked"], UNTIED], ids=["tied", "untied"])
@pytest.mark.parametrize(("stored", "winner"), [((BIAS,), 0), ((DECODER_BIAS,), 0), ((BIAS, DECODER_BIAS), 1)])
def test_bias_under_either_name_or_both(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], stored: tuple[str, ...], winner: int
) -> None:
    parameters = drawn(shapes)
    biases = {name: parameters[BIAS] + i for i, name in enumerate(stored)}
    others = {name: array for name, array in parameters.items() if name != BIAS}
    loaded = load_checkpoint(write(tmp_path, others | biases), shapes)
    same(loaded.parameters, parameters | {BIAS: parameters[BIAS] + winner})
    assert loaded.ignored == ()


def test_untied_decoder_is_a_parameter_of_its_own(tmp_path: Path) -> None:
    parameters = drawn(UNTIED)
    same(load_checkpoint(write(tmp_path, parameters), UNTIED).parameters, parameters)
    write(tmp_path, {name: array for name, array in parameters.items() if name != DECODER})
    with pytest.raises(CheckpointError, match=r"only a part of the head.* lacks 'cls\.predictions\.decoder\.weight'"):
        load_checkpoint(tmp_path, UNTIED)


# --- what does not fit ---


@pytest.mark.parametrize("name", BODY)
def test_missing_body_parameter(tmp_path: Path, name: str) -> None:
    parameters = drawn(SHAPES["token"])
    del parameters[name]
    with pytest.raises(CheckpointError, match=f"lacks '{name}'"):
        load_checkpoint(write(tmp_path, parameters), SHAPES["token"])


@pytest.mark.parametrize("name", ["encoder.layer.1.output.dense.weight", "nystromformer.pooler.dense.weight"])
def test_unknown_body_parameter(tmp_path: Path, name: str) -> None:
    parameters = drawn(BODY | {name: (D,)})
    with pytest.raises(CheckpointError, match=f"unknown to the model: '{name}'"):
        load_checkpoint(write(tmp_path, parameters), BARE)


def test_many_names_are_cut_short(tmp_path: Path) -> None:
    extra = {f"nystromformer.encoder.layer.{i}.x": (1,) for i in range(10, 20)}
    with pytest.raises(CheckpointError, match=r"layer\.15\.x' and 4 more$"):
        load_checkpoint(write(tmp_path, drawn(BODY | extra)), BARE)


@pytest.mark.parametrize("name", SHAPES["sequence"])
def test_wrong_shape(tmp_path: Path, name: str) -> None:
    parameters = drawn(SHAPES["sequence"])
    parameters[name] = np.zeros((5, 2), dtype=np.float32)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(write(tmp_path, parameters), SHAPES["sequence"])
    assert f"{tmp_path / 'model.safetensors'}: '{name}' has shape (5, 2), expected" in str(caught.value)
    assert str(SHAPES["sequence"][name]) in str(caught.value)


@pytest.mark.parametrize("dtype", ["int64", "int8", "bool"])
def test_wrong_data_type(tmp_path: Path, dtype: str) -> None:
    parameters = drawn(BODY)
    parameters[WORDS] = parameters[WORDS].astype(dtype)
    with pytest.raises(CheckpointError, match=f"{WORDS}' has data type .*, expected one of F16, F32, F64, BF16"):
        load_checkpoint(write(tmp_path, parameters), BODY)


@pytest.mark.parametrize(("head", "name"), [(head, name) for head, shapes in HEADS.items() for name in shapes])
def test_head_only_partly_there(tmp_path: Path, head: str, name: str) -> None:
    parameters = drawn(SHAPES[head])
    del parameters[name]
    if name == "pre_classifier.weight":  # what is left is a token classifier's, of another head
        with pytest.warns(UserWarning, match=r"drawn at random.*pre_classifier"):
            load_checkpoint(write(tmp_path, parameters), SHAPES[head])
        return
    with pytest.raises(CheckpointError, match=f"only a part of the head.*lacks '{name}'"):
        load_checkpoint(write(tmp_path, parameters), SHAPES[head])


# --- shards ---


def shard(folder: Path, parameters: Parameters, parts: int = 3) -> dict[str, str]:
    """Write a sharded checkpoint and return its weight map."""
    names = sorted(parameters)
    weight_map = {}
    for i in range(parts):
        place = f"model-{i + 1:05}-of-{parts:05}.safetensors"
        save_file({name: parameters[name] for name in names[i::parts]}, folder / place)
        weight_map |= dict.fromkeys(names[i::parts], place)
    write_index(folder, {"metadata": {"total_size": 1}, "weight_map": weight_map})
    return weight_map


def write_index(folder: Path, index: Any) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_shards(tmp_path: Path) -> None:
    parameters = drawn(UNTIED)
    shard(tmp_path, parameters)
    same(load_checkpoint(tmp_path, UNTIED).parameters, parameters)


def test_tie_across_shards(tmp_path: Path) -> None:
    parameters = drawn(SHAPES["masked"])
    place = shard(tmp_path, parameters | {DECODER: parameters[WORDS]})
    assert place[DECODER] != place[WORDS]
    same(load_checkpoint(tmp_path, SHAPES["masked"]).parameters, parameters)
    shard(tmp_path, parameters | {DECODER: parameters[WORDS] * 2})
    with pytest.raises(CheckpointError, match="differs"):
        load_checkpoint(tmp_path, SHAPES["masked"])


def test_a_single_file_goes_before_shards(tmp_path: Path) -> None:
    shard(tmp_path, drawn(BODY))
    parameters = drawn(BODY)
    same(load_checkpoint(write(tmp_path, parameters), BODY).parameters, parameters)


def test_missing_shard(tmp_path: Path) -> None:
    shard(tmp_path, drawn(BODY))
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file 'model-00002-of-00003\.safetensors'"):
        load_checkpoint(tmp_path, BODY)


@pytest.mark.parametrize("name", [DECODER, DECODER_BIAS, "nystromformer.embeddings.position_ids", "classifier.weight"])
def test_an_index_may_list_what_no_shard_has(tmp_path: Path, name: str) -> None:
    parameters = drawn(SHAPES["masked"])
    weight_map = shard(tmp_path, parameters)
    write_index(tmp_path, {"weight_map": weight_map | {name: weight_map[WORDS]}})
    loaded = load_checkpoint(tmp_path, SHAPES["masked"])
    same(loaded.parameters, parameters)
    assert (loaded.initialised, loaded.ignored) == ((), ())


@pytest.mark.parametrize("name", [DECODER, WORDS, BIAS, "classifier.weight"])
def test_an_index_may_omit_what_a_shard_has(tmp_path: Path, name: str) -> None:
    parameters = drawn(SHAPES["masked"])
    weight_map = shard(tmp_path, parameters | ({} if name in parameters else {name: parameters[WORDS]}))
    write_index(tmp_path, {"weight_map": {key: place for key, place in weight_map.items() if key != name}})
    with warnings.catch_warnings():
        warnings.simplefilter("error" if name != "classifier.weight" else "ignore")  # of another head
        same(load_checkpoint(tmp_path, SHAPES["masked"]).parameters, parameters)


def test_an_index_may_name_another_shard(tmp_path: Path) -> None:
    parameters = drawn(BODY)
    weight_map = shard(tmp_path, parameters)
    turned = dict(zip(weight_map, sorted(weight_map.values(), reverse=True), strict=True))
    assert turned != weight_map
    write_index(tmp_path, {"weight_map": turned})
    same(load_checkpoint(tmp_path, BODY).parameters, parameters)


def test_a_parameter_in_no_shard_is_missing_whatever_the_index_says(tmp_path: Path) -> None:
    parameters = drawn(BODY)
    weight_map = shard(tmp_path, {name: array for name, array in parameters.items() if name != WORDS})
    write_index(tmp_path, {"weight_map": weight_map | {WORDS: next(iter(weight_map.values()))}})
    with pytest.raises(CheckpointError, match=f"lacks '{WORDS}'"):
        load_checkpoint(tmp_path, BODY)


def test_tensor_in_two_shards(tmp_path: Path) -> None:
    parameters = drawn(BODY)
    weight_map = shard(tmp_path, parameters)
    other = next(place for place in weight_map.values() if place != weight_map[WORDS])
    save_file(load_file(tmp_path / other) | {WORDS: parameters[WORDS]}, tmp_path / other)
    with pytest.raises(CheckpointError, match=f"and a file before it both have '{WORDS}'"):
        load_checkpoint(tmp_path, BODY)


@pytest.mark.parametrize(
    "place",
    ["../outside.safetensors", "/outside.safetensors", "a/../b", "..", ".", "", "a\\b", "c:d", "a\0b"],
)
def test_shard_outside_the_folder(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    save_file(drawn(BODY), tmp_path / "outside.safetensors")
    write_index(folder, {"weight_map": dict.fromkeys(BODY, place)})
    with pytest.raises(CheckpointError, match="is not the name of a file beside it"):
        load_checkpoint(folder, BODY)


@pytest.mark.parametrize(
    "index", [[], {}, {"weight_map": None}, {"weight_map": ["a"]}, {"weight_map": {WORDS: 3}}, "text"]
)
def test_bad_index(tmp_path: Path, index: Any) -> None:
    write_index(tmp_path, index)
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json"):
        load_checkpoint(tmp_path, BODY)


def test_index_that_names_itself_or_nothing(tmp_path: Path) -> None:
    write_index(tmp_path, {"weight_map": {WORDS: "model.safetensors.index.json"}})
    with pytest.raises(CheckpointError, match="not a sound safetensors file"):
        load_checkpoint(tmp_path, BODY)
    write_index(tmp_path, {"weight_map": {}})
    with pytest.raises(CheckpointError, match="lacks"):
        load_checkpoint(tmp_path, BODY)


# --- files that are missing or damaged ---


def test_missing_folder_and_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*absent"):
        load_checkpoint(tmp_path / "absent", BODY)
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor .*index\.json in ") as caught:
        load_checkpoint(tmp_path, BODY)
    assert "pytorch_model.bin" not in str(caught.value)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"pytorch_model\.bin is a pickle, which can run code"):
        load_checkpoint(tmp_path, BODY)


def raw(folder: Path, header: Any, data: bytes, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    prefix = struct.pack("<Q", len(text) if length is None else length)
    (folder / "model.safetensors").write_bytes(prefix + text + data)
    return folder


def entry(start: int, stop: int, **other: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [start, stop]} | other


HOSTILE = {
    "short data": ({"embeddings.a": entry(0, 8)}, 7, None),
    "long data": ({"embeddings.a": entry(0, 8)}, 9, None),
    "length too small": ({"embeddings.a": entry(0, 8)}, 8, 5),
    "length too large": ({"embeddings.a": entry(0, 8)}, 8, 2**40),
    "length absurd": ({"embeddings.a": entry(0, 8)}, 8, 2**64 - 1),
    "overlap": ({"embeddings.a": entry(0, 8), "b": entry(4, 12)}, 12, None),
    "alias": ({"embeddings.a": entry(0, 8), "b": entry(0, 8)}, 8, None),
    "hole": ({"embeddings.a": entry(4, 12)}, 12, None),
    "backwards": ({"embeddings.a": entry(8, 0)}, 8, None),
    "shape lies": ({"embeddings.a": entry(0, 8, shape=[3])}, 8, None),
    "shape overflows": ({"embeddings.a": entry(0, 8, shape=[2**62, 4])}, 8, None),
    "negative shape": ({"embeddings.a": entry(0, 8, shape=[-2])}, 8, None),
    "unknown type": ({"embeddings.a": entry(0, 8, dtype="X9")}, 8, None),
    "not an object": ([], 8, None),
    "not an entry": ({"embeddings.a": 3}, 8, None),
    "no header": (b"", 0, None),
    "not UTF-8": (b"\xff\xfe", 0, None),
    "too deep": (b'{"a":' * 100_000, 0, None),
    "bad metadata": ({"__metadata__": {"a": 1}, "embeddings.a": entry(0, 8)}, 8, None),
    "line break": ({"embeddings.a": entry(0, 8), "x\ny": entry(4, 12)}, 12, None),
    "twice": (
        b'{"embeddings.a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},'
        b' "embeddings.a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
        8,
        None,
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_header(tmp_path: Path, case: str) -> None:
    header, size, length = HOSTILE[case]
    with pytest.raises(CheckpointError, match="is not a sound safetensors file") as caught:
        load_checkpoint(raw(tmp_path, header, b"\0" * size, length), {"embeddings.a": (2,)})
    assert str(caught.value).startswith(str(tmp_path / "model.safetensors"))
    assert "\n" not in str(caught.value)


def test_the_good_form_of_the_hostile_headers_loads(tmp_path: Path) -> None:
    raw(tmp_path, {"embeddings.a": entry(0, 8)}, b"\0" * 8)
    assert load_checkpoint(tmp_path, {"embeddings.a": (2,)}).parameters["embeddings.a"].tolist() == [0, 0]


INTACT = drawn(SHAPES["masked"])
INTACT_FILE = save(INTACT, metadata={"format": "pt"})
HEADER_END = 8 + struct.unpack("<Q", INTACT_FILE[:8])[0]
one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@one_folder
@given(size=st.integers(0, len(INTACT_FILE) - 1))
def test_truncated_anywhere(tmp_path: Path, size: int) -> None:
    (tmp_path / "model.safetensors").write_bytes(INTACT_FILE[:size])
    with pytest.raises(CheckpointError, match="not a sound safetensors file"):
        load_checkpoint(tmp_path, SHAPES["masked"])


@one_folder
@given(position=st.integers(0, HEADER_END - 1), byte=st.integers(0, 255))
def test_one_wrong_byte_in_the_header(tmp_path: Path, position: int, byte: int) -> None:
    """Whatever a byte of the header becomes, the outcome is an error, a warning or parameters that fit."""
    damaged = bytearray(INTACT_FILE)
    damaged[position] = byte
    (tmp_path / "model.safetensors").write_bytes(damaged)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loaded = load_checkpoint(tmp_path, SHAPES["masked"])
        except CheckpointError:
            return
    assert {name: array.shape for name, array in loaded.parameters.items()} == {
        name: shape for name, shape in SHAPES["masked"].items() if name not in loaded.initialised
    }


@one_folder
@given(data=st.binary(max_size=200))
def test_any_bytes(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path, BODY)


# --- saving ---


@pytest.mark.parametrize("shapes", [*SHAPES.values(), UNTIED, BARE], ids=[*SHAPES, "untied", "bare"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_save_then_load_is_the_identity(tmp_path: Path, shapes: dict[str, tuple[int, ...]], dtype: str) -> None:
    parameters = {name: array.astype(dtype) for name, array in drawn(shapes).items()}
    save_checkpoint(tmp_path / "new" / "folder", parameters)
    same(load_checkpoint(tmp_path / "new" / "folder", shapes).parameters, parameters)
    with safe_open(tmp_path / "new" / "folder" / "model.safetensors", framework="np") as file:
        assert file.metadata() == {"format": "pt"}


def test_saved_names_are_those_that_transformers_reads(tmp_path: Path) -> None:
    parameters = drawn(SHAPES["masked"])
    save_checkpoint(tmp_path, parameters)
    assert set(stored_tensors(tmp_path)) == set(parameters)
    parameters = drawn(UNTIED)
    save_checkpoint(tmp_path, parameters)
    stored = load_file(tmp_path / "model.safetensors")
    assert set(stored) == {*parameters, DECODER_BIAS}
    np.testing.assert_array_equal(stored[DECODER_BIAS], parameters[BIAS])
    np.testing.assert_array_equal(stored[BIAS], parameters[BIAS])


@pytest.mark.parametrize("bits", [0x7FC00001, 0xFFC00000, 0x80000000, 0x00000001, 0xFF800000])
def test_saved_to_the_bit(tmp_path: Path, bits: int) -> None:
    value = np.full((2, 3), bits, dtype=np.uint32)
    save_checkpoint(tmp_path, {"embeddings.a": value.view(np.float32)})
    loaded = load_checkpoint(tmp_path, {"embeddings.a": (2, 3)}).parameters["embeddings.a"]
    np.testing.assert_array_equal(loaded.view(np.uint32), value)


@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: a[::-1][::-1],
        lambda a: a.astype(">f4"),
    ],
    ids=["fortran", "strided", "reversed", "big-endian"],
)
def test_saved_in_any_memory_layout(tmp_path: Path, layout: Callable[[np.ndarray], np.ndarray]) -> None:
    value = np.arange(12, dtype=np.float32).reshape(3, 4)
    array = layout(value)
    array.flags.writeable = False
    save_checkpoint(tmp_path, {"embeddings.a": array})
    loaded = load_checkpoint(tmp_path, {"embeddings.a": (3, 4)}).parameters["embeddings.a"]
    np.testing.assert_array_equal(loaded, value)


def test_saving_onto_the_file_that_is_mapped(tmp_path: Path) -> None:
    parameters = drawn(UNTIED)
    save_checkpoint(tmp_path, parameters)
    loaded = load_checkpoint(tmp_path, UNTIED).parameters
    save_checkpoint(tmp_path, loaded)
    same(loaded, parameters)
    same(load_checkpoint(tmp_path, UNTIED).parameters, parameters)
    save_checkpoint(tmp_path, {name: array + 1 for name, array in loaded.items()})
    same(loaded, parameters)  # what was mapped before stays
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_saved_file_has_the_usual_mode(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, drawn(BODY))
    (tmp_path / "plain").touch()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize("value", [np.arange(3), np.zeros(2, dtype=complex), [1.0], np.zeros(2, dtype=bool), None])
def test_what_cannot_be_saved(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TypeError, match=r"'embeddings\.a' must be a float16, float32 or float64 NumPy array, not "):
        save_checkpoint(tmp_path, {"embeddings.a": value})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    parameters = drawn(BODY)
    save_checkpoint(tmp_path, parameters)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match=r"model\.safetensors could not be written"):
            save_checkpoint(tmp_path, {"embeddings.a": np.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    same(load_checkpoint(tmp_path, BODY).parameters, parameters)


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        save_checkpoint(tmp_path / "file", drawn(BODY))
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_checkpoint(tmp_path / "file", BODY)


@one_folder
@given(
    shape=st.lists(st.integers(1, 4), max_size=4),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_bits_survive_saving(tmp_path: Path, shape: list[int], dtype: str, seed: int) -> None:
    """Save → load is the identity to the bit, for any shape and any bits (NaNs included)."""
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    data = np.random.default_rng(seed).bytes(size)
    value = np.frombuffer(data, dtype=dtype).reshape(shape)
    save_checkpoint(tmp_path, {"embeddings.a": value})
    loaded = load_checkpoint(tmp_path, {"embeddings.a": tuple(shape)}).parameters["embeddings.a"]
    assert (loaded.shape, loaded.dtype, loaded.tobytes()) == (value.shape, value.dtype, data)


AUTHORS_NAMES = {
    "nystromformer.embeddings.LayerNorm.bias": "embeddings.norm.bias",
    "nystromformer.encoder.layer.1.attention.self.query.weight": "transformer_1.mha.W_q.weight",
    "nystromformer.encoder.layer.0.attention.self.key.bias": "transformer_0.mha.W_k.bias",
    "nystromformer.encoder.layer.0.attention.self.value.weight": "transformer_0.mha.W_v.weight",
    "nystromformer.encoder.layer.0.attention.self.conv.weight": "transformer_0.mha.attn.conv.weight",
    "nystromformer.encoder.layer.0.attention.output.dense.weight": "transformer_0.mha.ff.weight",
    "nystromformer.encoder.layer.0.attention.output.LayerNorm.weight": "transformer_0.norm1.weight",
    "nystromformer.encoder.layer.0.intermediate.dense.weight": "transformer_0.ff1.weight",
    "nystromformer.encoder.layer.0.output.dense.bias": "transformer_0.ff2.bias",
    "nystromformer.encoder.layer.0.output.LayerNorm.bias": "transformer_0.norm2.bias",
    "cls.predictions.transform.dense.weight": "mlm.dense.weight",
    "cls.predictions.transform.LayerNorm.weight": "mlm.norm.weight",
    "cls.predictions.bias": "mlm.mlm_class.bias",
}
"""As in mlpen/Nystromformer; transformers 4.37.2 translates them in its conversion script."""


@pytest.mark.parametrize("prefix", ["", "model."])
def test_the_authors_names_are_translated(tmp_path: Path, prefix: str) -> None:
    values = {name: np.full(2, number, np.float32) for number, name in enumerate(AUTHORS_NAMES)}
    stored = {prefix + AUTHORS_NAMES[name]: value for name, value in values.items()}
    for left_out in ("pooler.dense.weight", "sen_class.weight", "transformer_0.mha.attn.conv.bias"):
        stored[prefix + left_out] = np.zeros(3, np.float32)
    words = np.ones((2, 1), np.float32)
    stored |= {prefix + name: words for name in ("embeddings.word_embeddings.weight", "mlm.mlm_class.weight")}
    save_file(stored, tmp_path / "model.safetensors", metadata={"format": "pt"})
    name = "nystromformer.embeddings.word_embeddings.weight"
    loaded = load_checkpoint(tmp_path, {name: (2, 1)} | dict.fromkeys(values, (2,)))
    assert not loaded.ignored
    assert not loaded.initialised
    for name, value in values.items():
        np.testing.assert_array_equal(loaded.parameters[name], value)


class TorchDtype:
    """What ``torch.float16`` and its like are, as far as this package looks at them."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return f"torch.{self.name}"


TorchDtype.__module__ = "torch"


@pytest.mark.parametrize("dtype", ["float16", np.float64, np.dtype("float32"), TorchDtype("float16")], ids=repr)
def test_dtype_under_its_other_name(dtype, checkpoints):
    """``torch_dtype`` of transformers 4 is obeyed, as a string, a NumPy or a torch dtype; others are refused."""
    folder = checkpoints / "masked-lm-dense"
    model = NystromformerForMaskedLM.from_pretrained(folder, torch_dtype=dtype)
    assert model.dtype == (dtype.name if isinstance(dtype, TorchDtype) else np.dtype(dtype))
    with pytest.raises(ValueError, match=r"dtype must be one of float32, float64, float16; found torch\.bfloat16"):
        NystromformerForMaskedLM.from_pretrained(folder, torch_dtype=TorchDtype("bfloat16"))


# --- variants, other shapes, and what lies in memory ---


def test_a_variant_is_a_file_of_its_own(tmp_path: Path) -> None:
    plain, half = drawn(BODY), drawn(BODY)
    save_checkpoint(tmp_path, plain)
    save_checkpoint(tmp_path, half, variant="fp16")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.fp16.safetensors", "model.safetensors"]
    same(load_checkpoint(tmp_path, BODY).parameters, plain)
    same(load_checkpoint(tmp_path, BODY, variant="fp16").parameters, half)


def test_a_variant_in_shards(tmp_path: Path) -> None:
    parameters = drawn(BODY)
    shard(tmp_path, parameters)
    (tmp_path / "model.safetensors.index.json").rename(tmp_path / "model.safetensors.index.fp16.json")
    same(load_checkpoint(tmp_path, BODY, variant="fp16").parameters, parameters)
    with pytest.raises(FileNotFoundError, match=r"but model\.safetensors\.index\.fp16\.json: load .* variant='fp16'"):
        load_checkpoint(tmp_path, BODY)


@pytest.mark.parametrize(("there", "asked"), [("fp16", None), (None, "fp16"), ("non_ema", "fp16")])
def test_an_absent_variant_is_told_beside_what_is_there(tmp_path: Path, there: str | None, asked: str | None) -> None:
    save_checkpoint(tmp_path, drawn(BODY), variant=there)
    with pytest.raises(FileNotFoundError, match=f"but model.*: load it with variant={there!r}"):
        load_checkpoint(tmp_path, BODY, variant=asked)


@pytest.mark.parametrize("variant", ["", "a/b", "../x", "a b"])
def test_a_variant_is_part_of_a_name(tmp_path: Path, variant: str) -> None:
    with pytest.raises(ValueError, match="variant must be letters, digits"):
        load_checkpoint(tmp_path, BODY, variant=variant)


@pytest.mark.parametrize("head", ["token", "sequence", "masked"])
def test_tensors_of_another_shape_are_left_out_where_that_is_asked(tmp_path: Path, head: str) -> None:
    parameters = drawn(SHAPES[head])
    name = list(HEADS[head])[-1]
    shapes = SHAPES[head] | {name: (11, *SHAPES[head][name][1:])}
    write(tmp_path, parameters)
    with pytest.warns(UserWarning, match=f"drawn at random, as they have another shape: {name}"):
        loaded = load_checkpoint(tmp_path, shapes, ignore_mismatched_sizes=True)
    same(loaded.parameters, {key: array for key, array in parameters.items() if key != name})
    assert loaded.mismatched == {name: (name, SHAPES[head][name], shapes[name])}
    assert (loaded.initialised, loaded.ignored) == ((), ())
    with pytest.raises(CheckpointError, match="has shape"):
        load_checkpoint(tmp_path, shapes)


def test_tied_tensors_of_another_shape_go_together(tmp_path: Path) -> None:
    parameters = drawn(SHAPES["masked"])
    write(tmp_path, parameters | {DECODER: parameters[WORDS]})
    shapes = SHAPES["masked"] | {WORDS: (9, D), BIAS: (9,)}
    with pytest.warns(UserWarning, match="another shape"):
        loaded = load_checkpoint(tmp_path, shapes, ignore_mismatched_sizes=True)
    assert set(loaded.mismatched) == {WORDS, DECODER, BIAS}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4"])
def test_a_state_dict_in_memory_is_read_as_a_file_is(head: str, dtype: str) -> None:
    parameters = {name: array.astype(dtype) for name, array in drawn(SHAPES[head]).items()}
    given = {f"module.{name}": array for name, array in parameters.items()}
    given["module.nystromformer.embeddings.position_ids"] = np.arange(3)
    with pytest.warns(UserWarning, match="begin with 'module.'"):
        loaded = load_checkpoint(given, SHAPES[head])
    for name, array in parameters.items():
        np.testing.assert_array_equal(loaded.parameters[name], array)
        assert not np.shares_memory(loaded.parameters[name], array)


@pytest.mark.parametrize("wrong", [np.zeros((VOCABULARY, D), np.int64), np.zeros((2, 2), np.float32)])
def test_a_wrong_state_dict_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(CheckpointError, match=f"state_dict: '{WORDS}' has"):
        load_checkpoint(drawn(BODY) | {WORDS: wrong}, BODY)
