"""``convert``: from what torch.save wrote to a folder that loads, or to nothing at all."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import load_file

from nystrom_np import NystromformerForMaskedLM, NystromformerTokenizer, cli, convert
from nystrom_np.checkpoint import CheckpointError, widen_bfloat16
from nystrom_np.demo import CLASSES
from tests.hub_server import ask_at, serving
from tests.models import HEADS, MASKED_LM, MODELS, TOKEN, build, build_another
from tests.torch_files import Tensor, archive, state_dict

Arrays = dict[str, np.ndarray]


def pickled(folder: Path, arrays: Arrays, name: str = "pytorch_model.bin") -> Path:
    return archive(state_dict(arrays)).write(folder / name)


def source_of(model: Any, folder: Path) -> Path:
    """Write a model as transformers wrote it before safetensors."""
    folder.mkdir(exist_ok=True)
    model.config.save_pretrained(folder, architecture=type(model).__name__)
    pickled(folder, model.state_dict())
    return folder


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return source_of(build(MASKED_LM, dtype="float32"), tmp_path / "tiny")


def assert_holds(folder: Path, model: Any) -> None:
    again = type(model).from_pretrained(folder, dtype=model.dtype)
    assert again.config.to_dict().items() >= model.config.to_dict().items()
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], value)


def nothing_is_left(folder: Path, but: set[str]) -> None:
    assert {path.name for path in folder.iterdir()} == but


@pytest.mark.parametrize("head", MODELS, ids=lambda head: head.__name__)
def test_every_head(head: Any, tmp_path: Path) -> None:
    model = build(head, dtype="float32")
    made = convert.convert(source_of(model, tmp_path / "source"), tmp_path / "new" / "target")
    assert made == (tmp_path / "new" / "target", head.__name__, model.num_parameters(), "float32", False)
    assert_holds(made.folder, model)
    told = json.loads((made.folder / "config.json").read_text())
    assert (told["architectures"], told["torch_dtype"]) == ([head.__name__], "float32")
    nothing_is_left(tmp_path / "new", {"target"})


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_data_types_are_kept(dtype: str, tmp_path: Path) -> None:
    model = build(TOKEN, dtype=dtype)
    assert convert.convert(source_of(model, tmp_path / "source"), tmp_path / "target").dtype == dtype
    assert_holds(tmp_path / "target", model)


def test_a_tied_decoder_without_the_words(tiny: Path, tmp_path: Path) -> None:
    arrays = load_from(tiny)
    arrays["cls.predictions.decoder.weight"] = arrays.pop("nystromformer.embeddings.word_embeddings.weight")
    pickled(tiny, arrays)
    assert_holds(convert.convert(tiny, tmp_path / "target").folder, build(MASKED_LM, dtype="float32"))
    settings = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps(settings | {"tie_word_embeddings": False}))
    with pytest.raises(CheckpointError, match=r"lacks 'nystromformer\.embeddings\.word_embeddings\.weight'"):
        convert.convert(tiny, tmp_path / "other")


def test_bfloat16_and_views_of_shared_memory(tiny: Path, tmp_path: Path) -> None:
    arrays = load_from(tiny)
    words = "nystromformer.embeddings.word_embeddings.weight"
    bits = {name: (array.view(np.uint32) >> 16).astype(np.uint16) for name, array in arrays.items()}
    tensors = state_dict(bits)
    tensors["cls.predictions.decoder.weight"] = tensors[words]  # tied: two views of one storage
    dense = "nystromformer.encoder.layer.0.attention.output.dense.weight"
    turned = np.ascontiguousarray(bits[dense].T)
    tensors[dense] = Tensor(turned, key="turned", size=bits[dense].shape, stride=(1, turned.shape[1]))
    archive(tensors).write(tiny / "pytorch_model.bin")
    assert convert.convert(tiny, tmp_path / "target").dtype == "float32"
    found = load_file(tmp_path / "target" / "model.safetensors")
    assert "cls.predictions.decoder.weight" not in found
    for name, array in bits.items():
        np.testing.assert_array_equal(found[name], widen_bfloat16(array))


def load_from(folder: Path) -> Arrays:
    model = NystromformerForMaskedLM.from_pretrained(converted(folder))
    return dict(model.state_dict())


def converted(folder: Path) -> Path:
    return convert.convert(folder, folder.parent / f"{folder.name}-converted").folder


def test_shards(tiny: Path, tmp_path: Path) -> None:
    arrays = load_from(tiny)
    (tiny / "pytorch_model.bin").unlink()
    files = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    weight_map = {name: files[i % 2] for i, name in enumerate(arrays)}
    for file in files:
        pickled(tiny, {name: arrays[name] for name, place in weight_map.items() if place == file}, file)
    index = tiny / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert_holds(convert.convert(tiny, tmp_path / "target").folder, build(MASKED_LM, dtype="float32"))

    index.write_text(json.dumps({"weight_map": {**weight_map, "more": files[0]}}))
    assert_holds(convert.convert(tiny, tmp_path / "more").folder, build(MASKED_LM, dtype="float32"))
    index.write_text(json.dumps({"weight_map": {name: place for name, place in weight_map.items() if "dense" in name}}))
    assert_holds(convert.convert(tiny, tmp_path / "fewer").folder, build(MASKED_LM, dtype="float32"))
    index.write_text(json.dumps({"weight_map": weight_map}))
    pickled(tiny, arrays, files[1])
    with pytest.raises(CheckpointError, match=r"pytorch_model-00002.* and a file before it both have '"):
        convert.convert(tiny, tmp_path / "other")
    index.write_text(json.dumps({"weight_map": {"a": "../tiny/pytorch_model.bin"}}))
    with pytest.raises(ValueError, match="is not the name of a file beside it"):
        convert.convert(tiny, tmp_path / "other")
    (tiny / files[1]).unlink()
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(FileNotFoundError, match="00002-of-00002"):
        convert.convert(tiny, tmp_path / "other")
    assert not (tmp_path / "other").exists()


AUTHORS = (
    (r"^nystromformer\.", "model."),
    (r"encoder\.layer\.(\d+)\.", r"transformer_\1."),
    (r"attention\.output\.LayerNorm", "norm1"),
    (r"(?<!attention\.)output\.LayerNorm", "norm2"),
    (r"attention\.self\.query", "mha.W_q"),
    (r"attention\.self\.key", "mha.W_k"),
    (r"attention\.self\.value", "mha.W_v"),
    (r"attention\.self\.conv", "mha.attn.conv"),
    (r"attention\.output\.dense", "mha.ff"),
    (r"intermediate\.dense", "ff1"),
    (r"(?<!attention\.)output\.dense", "ff2"),
    (r"^cls\.predictions\.transform\.LayerNorm", "mlm.norm"),
    (r"^cls\.predictions\.transform", "mlm"),
    (r"^cls\.predictions\.bias", "mlm.mlm_class.bias"),
    (r"LayerNorm", "norm"),
)


def authors_name(name: str) -> str:
    for pattern, replacement in AUTHORS:
        name = re.sub(pattern, replacement, name)
    return name


def test_the_authors_own_checkpoints(tmp_path: Path) -> None:
    model = build(MASKED_LM, dtype="float32")
    arrays = {authors_name(name): array for name, array in model.state_dict().items()}
    assert "model.transformer_0.mha.W_q.weight" in arrays
    arrays["mlm.mlm_class.weight"] = arrays["model.embeddings.word_embeddings.weight"]
    arrays["model.pooler.weight"] = np.ones((2, 2), np.float32)  # not part of the model in transformers
    path = archive({"model_state_dict": state_dict(arrays), "epoch": 7}).write(tmp_path / "cp-0007.model")
    model.config.save_pretrained(tmp_path / "settings")
    made = convert.convert(path, tmp_path / "target", config=tmp_path / "settings" / "config.json")
    assert made.model == "NystromformerForMaskedLM"
    assert_holds(made.folder, model)


def test_the_tokenizer_comes_along(checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    shutil.copytree(checkpoints / "masked-lm-nystrom", source)
    model = NystromformerForMaskedLM.from_pretrained(source)
    pickled(source, model.state_dict())
    (source / "spiece.model").write_bytes(b"a model")
    (tmp_path / "target").mkdir()
    assert cli.main(["convert", str(source), str(tmp_path / "target"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "folder": str(tmp_path / "target"),
        "model": "NystromformerForMaskedLM",
        "parameters": model.num_parameters(),
        "dtype": "float32",
        "tokenizer": True,
    }
    assert_holds(tmp_path / "target", model)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model"):
        assert (tmp_path / "target" / name).read_bytes() == (source / name).read_bytes()
    assert len(NystromformerTokenizer.from_pretrained(tmp_path / "target")) == model.config.vocab_size

    assert cli.main(["convert", str(source), str(tmp_path / "again")]) == 0
    assert "NystromformerForMaskedLM of 54,312 parameters in float32, and its tokenizer" in capsys.readouterr().out


def test_a_repository_of_the_hub(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with serving() as hub:
        ask_at(hub.endpoint, monkeypatch)
        hub.add("owner/tiny", tiny, "old")
        assert_holds(
            convert.convert("owner/tiny", tmp_path / "target", revision="old").folder,
            build(MASKED_LM, dtype="float32"),
        )
        (tiny / "pytorch_model.bin").unlink()
        hub.add("owner/none", tiny)
        with pytest.raises(FileNotFoundError, match=r"owner/none on .* has no pytorch_model\.bin"):
            convert.convert("owner/none", tmp_path / "other")


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_there_is_not_touched(
    kind: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "target"
    if kind == "file":
        target.write_text("mine")
    elif kind == "folder":
        target.mkdir()
        (target / "mine").write_text("mine")
    else:
        target.symlink_to(tmp_path / "absent")
    assert cli.main(["convert", str(tiny), str(target)]) == 2
    assert capsys.readouterr().err == f"nystrom-np: {target} exists already and is not an empty folder\n"
    nothing_is_left(tmp_path, {"tiny", "target"})


def change(arrays: Arrays, **changes: Any) -> Arrays:
    return {**arrays, **changes}


BREAKS: list[tuple[str, Callable[[Arrays], Any], str]] = [
    (
        "a missing parameter",
        lambda a: {name: x for name, x in a.items() if "layer.1.output" not in name},
        r"lacks .*layer\.1\.output",
    ),
    (
        "half a head",
        lambda a: {name: x for name, x in a.items() if "transform.dense" not in name},
        "only a part of the head",
    ),
    ("an unknown one", lambda a: {**a, "nystromformer.pooler.weight": np.ones(2, np.float32)}, "unknown to the model"),
    ("another shape", lambda a: {**a, "cls.predictions.bias": np.ones(7, np.float32)}, r"has shape \(7,\), expected"),
    (
        "integers",
        lambda a: {**a, "cls.predictions.bias": np.ones(53, np.int64)},
        "has data type I64, expected one of",
    ),
    ("another model", lambda a: {"bert.weight": np.ones(2, np.float32)}, "lacks"),
    ("nothing", lambda a: {}, "lacks"),
]


@pytest.mark.parametrize(("name", "broken", "match"), BREAKS, ids=[name for name, _, _ in BREAKS])
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    name: str, broken: Callable[[Arrays], Any], match: str, tiny: Path, tmp_path: Path
) -> None:
    pickled(tiny, broken(dict(build(MASKED_LM, dtype="float32").state_dict())))
    with pytest.raises(CheckpointError, match=match) as caught:
        convert.convert(tiny, tmp_path / "target")
    assert str(tiny) in str(caught.value)
    assert ".target." not in str(caught.value)
    nothing_is_left(tmp_path, {"tiny"})


def test_a_head_of_which_only_the_mark_is_there(tmp_path: Path) -> None:
    tiny = source_of(build(TOKEN, dtype="float32"), tmp_path / "tiny")
    arrays = dict(build(TOKEN, dtype="float32").state_dict())
    arrays["mlm.more"] = arrays.pop("classifier.weight")
    del arrays["classifier.bias"]
    pickled(tiny, arrays)
    with pytest.raises(CheckpointError, match=r"tiny lacks .*cls\.predictions.* of a NystromformerForMaskedLM"):
        convert.convert(tiny, tmp_path / "target")


def test_a_second_head_is_left_out_with_a_warning(tiny: Path, tmp_path: Path) -> None:
    model = build(MASKED_LM, dtype="float32")
    pickled(tiny, {**model.state_dict(), "qa_outputs.weight": np.ones((2, 16), np.float32)})
    with pytest.warns(UserWarning, match=r"qa_outputs\.weight of .*tiny are left out: .* NystromformerForMaskedLM"):
        convert.convert(tiny, tmp_path / "target")
    assert_holds(tmp_path / "target", model)


def test_files_that_are_missing_or_broken(
    tiny: Path, tmp_path: Path, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for source, said in [
        (tmp_path / "absent", "is neither a folder with pytorch_model.bin nor a file"),
        (checkpoints / "masked-lm-dense", "is neither a folder with pytorch_model.bin nor a file"),
        (checkpoints / "masked-lm-dense" / "model.safetensors", "not a zip archive"),
    ]:
        assert cli.main(["convert", str(source), str(tmp_path / "target")]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert len(err.splitlines()) == 1
    (tiny / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json cannot be read"):
        convert.convert(tiny, tmp_path / "target")
    (tiny / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not usable JSON"):
        convert.convert(tiny, tmp_path / "target")
    (tiny / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        convert.convert(tiny, tmp_path / "target")
    nothing_is_left(tmp_path, {"tiny"})


@pytest.mark.parametrize("file", ["raw", "made"])
def test_a_disk_that_does_not_keep_what_is_written(
    file: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if file == "raw":
        monkeypatch.setattr("safetensors.numpy.load_file", lambda path: dict.fromkeys(load_file(path), np.ones(1)))
        match = "does not hold what was written to it"
    else:
        save = MASKED_LM.save_pretrained

        def forgetful(model: Any, folder: Path) -> None:
            other = build_another(MASKED_LM, dtype="float32")
            other.state_dict()["cls.predictions.bias"][3] += 1
            save(other, folder)

        monkeypatch.setattr(MASKED_LM, "save_pretrained", forgetful)
        match = "what was written is not what was read"
    with pytest.raises(OSError, match=match):
        convert.convert(tiny, tmp_path / "target")
    nothing_is_left(tmp_path, {"tiny"})


def test_heads_are_told_apart() -> None:
    for head in HEADS:
        assert convert._head_of(build(head).state_dict()) is head
    assert {head for _, head in convert.HEADS} | {CLASSES["NystromformerModel"]} == set(CLASSES.values())


@pytest.mark.parametrize(
    ("subfolder", "variant", "name"),
    [
        ("", "fp16", "pytorch_model.fp16.bin"),
        ("a/b", None, "pytorch_model.bin"),
        ("unet", "no_ema", "pytorch_model.no_ema.bin"),
    ],
)
def test_a_variant_and_a_subfolder(subfolder: str, variant: str | None, name: str, tiny: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(tiny, source / subfolder)
    (source / subfolder / "pytorch_model.bin").rename(source / subfolder / name)
    options = [*(["--subfolder", subfolder] if subfolder else []), *(["--variant", variant] if variant else [])]
    assert cli.main(["convert", str(source), str(tmp_path / "target"), *options]) == 0
    assert_holds(tmp_path / "target", build(MASKED_LM, dtype="float32"))
    with pytest.raises(FileNotFoundError, match=r"with pytorch_model\.other\.bin"):
        convert.convert(source, tmp_path / "other", subfolder=subfolder, variant="other")


def test_a_variant_in_shards(tiny: Path, tmp_path: Path) -> None:
    (tiny / "pytorch_model.bin").rename(tiny / "pytorch_model.fp16-00001-of-00001.bin")
    names = dict.fromkeys(build(MASKED_LM).state_dict(), "pytorch_model.fp16-00001-of-00001.bin")
    (tiny / "pytorch_model.bin.index.fp16.json").write_text(json.dumps({"weight_map": names}))
    assert_holds(convert.convert(tiny, tmp_path / "target", variant="fp16").folder, build(MASKED_LM, dtype="float32"))
