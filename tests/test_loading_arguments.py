"""What ``from_pretrained`` takes beside a folder, as code for transformers gives it."""

import json
import shutil
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants

import nystrom_np
from nystrom_np import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    NystromformerConfig,
    NystromformerForMaskedLM,
    NystromformerForSequenceClassification,
    NystromformerModel,
    NystromformerTokenizer,
    pipeline,
)
from nystrom_np.checkpoint import CheckpointError
from tests.hub_server import Hub, ask_at, serving
from tests.models import build, small_config
from tests.reference.client import run_inside
from tests.reference.environment import ReferenceUnavailable, python

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
MASKED_LM, SEQUENCE = NystromformerForMaskedLM, NystromformerForSequenceClassification
HERE = Path(__file__).parent / "reference"

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("NystromformerForSequenceClassification", "masked-lm", {}),
    ("NystromformerModel", "masked-lm", {}),
    ("NystromformerForMaskedLM", "masked-lm", {}),
    ("NystromformerForSequenceClassification", "token-classification", {"ignore_mismatched_sizes": True}),
    ("NystromformerForSequenceClassification", "sequence-classification", {"num_labels": 5}),
    ("NystromformerForTokenClassification", "token-classification", {"num_labels": 2}),
    ("NystromformerForMaskedLM", "masked-lm", {"vocab_size": 2050}),
    ("NystromformerForQuestionAnswering", "question-answering", {"type_vocab_size": 3}),
    ("NystromformerModel", "masked-lm", {"vocab_size": 2050}),
    ("NystromformerModel", "question-answering", {"type_vocab_size": 3, "max_position_embeddings": 70}),
]


def loaded(head: str, folder: str, options: dict[str, Any]) -> tuple[Any, dict[str, list[Any]]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        cls = getattr(nystrom_np, head)
        answer: tuple[Any, dict[str, list[Any]]] = cls.from_pretrained(
            WEIGHTS / folder, ignore_mismatched_sizes=True, output_loading_info=True, **options
        )
    return answer


def assert_same(one: Any, other: Any) -> None:
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, value in one.state_dict().items():
        np.testing.assert_array_equal(value, other.state_dict()[name])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    build(MASKED_LM, dtype="float32").save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


# --- variant ---


@pytest.mark.parametrize("variant", ["fp16", "no_ema", "v1.0-b"])
def test_a_variant_is_written_and_read(variant: str, tmp_path: Path) -> None:
    model = build(SEQUENCE, dtype="float32")
    model.save_pretrained(tmp_path, variant=variant)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", f"model.{variant}.safetensors"}
    assert_same(SEQUENCE.from_pretrained(tmp_path, variant=variant), model)
    assert_same(AutoModelForSequenceClassification.from_pretrained(tmp_path, variant=variant), model)
    with pytest.raises(FileNotFoundError, match=f"load it with variant='{variant}'"):
        SEQUENCE.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"neither model\.other\.safetensors nor"):
        SEQUENCE.from_pretrained(tmp_path, variant="other")


def test_a_variant_in_shards(saved: Path) -> None:
    (saved / "model.safetensors").rename(saved / "model.fp16-00001-of-00001.safetensors")
    names = dict.fromkeys(build(MASKED_LM, dtype="float32").state_dict(), "model.fp16-00001-of-00001.safetensors")
    (saved / "model.safetensors.index.fp16.json").write_text(json.dumps({"weight_map": names}))
    assert_same(MASKED_LM.from_pretrained(saved, variant="fp16"), build(MASKED_LM, dtype="float32"))


@pytest.mark.parametrize("variant", ["../x", "", "a b"])
def test_what_is_no_variant(variant: str, saved: Path) -> None:
    with pytest.raises(ValueError, match="variant must be letters, digits"):
        MASKED_LM.from_pretrained(saved, variant=variant)


# --- config and state_dict ---


def test_a_configuration_in_place_of_the_folders(saved: Path, tmp_path: Path) -> None:
    config = NystromformerConfig.from_pretrained(saved)
    config.pinv_iterations = 2
    model = MASKED_LM.from_pretrained(saved, config=config)
    assert model.config == config
    assert model.config is not config  # as in 4.37.2: what is done to the model's does not come back
    config.save_pretrained(tmp_path / "other")
    assert MASKED_LM.from_pretrained(saved, config=tmp_path / "other").config == config
    changed = MASKED_LM.from_pretrained(saved, config=str(tmp_path / "other"), num_landmarks=3).config
    assert (changed.pinv_iterations, changed.num_landmarks) == (2, 3)


@pytest.mark.parametrize(
    "names", [str, "module.{}".format, lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma")]
)
@pytest.mark.filterwarnings("ignore:all names in:UserWarning")
def test_a_state_dict_in_place_of_the_folders(names: Any, saved: Path) -> None:
    other = MASKED_LM(small_config(), seed=7)
    state = {names(name): value for name, value in other.state_dict().items()}
    assert_same(MASKED_LM.from_pretrained(saved, state_dict=state), other)
    assert_same(MASKED_LM.from_pretrained(None, config=other.config, state_dict=state), other)
    (saved / "model.safetensors").unlink()
    assert_same(MASKED_LM.from_pretrained(saved, state_dict=state), other)


def test_what_is_neither(saved: Path) -> None:
    config = NystromformerConfig.from_pretrained(saved)
    for options in ({}, {"config": config}, {"state_dict": {}}):
        with pytest.raises(TypeError, match="without a folder, config and state_dict must both be given"):
            MASKED_LM.from_pretrained(None, **options)
    with pytest.raises(TypeError, match="num_labels: where config is given, its own fields are changed instead"):
        MASKED_LM.from_pretrained(saved, config=config, num_labels=3)
    with pytest.raises(TypeError, match="config must be a NystromformerConfig or a folder; found dict"):
        MASKED_LM.from_pretrained(saved, config={})
    with pytest.raises(TypeError, match="state_dict must be a mapping"):
        MASKED_LM.from_pretrained(saved, state_dict=[1])
    with pytest.raises(CheckpointError, match="the state dict lacks"):
        MASKED_LM.from_pretrained(saved, state_dict={})
    with pytest.raises(TypeError, match="no such configuration field"):
        MASKED_LM.from_pretrained(saved, confg=config)


# --- what does not fit ---


@pytest.mark.parametrize(("labels", "shape"), [(1, (1, 16)), (3, (3, 16)), (27, (27, 16))])
def test_a_head_of_another_size_is_drawn(labels: int, shape: tuple[int, int], tmp_path: Path) -> None:
    build(SEQUENCE, dtype="float32").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="has shape"):
        SEQUENCE.from_pretrained(tmp_path, num_labels=labels)
    with pytest.warns(UserWarning, match="drawn at random, as they have another shape: classifier.out_proj"):
        model = SEQUENCE.from_pretrained(tmp_path, num_labels=labels, ignore_mismatched_sizes=True)
    assert set(model.initialised) == {"classifier.out_proj.weight", "classifier.out_proj.bias"}
    assert model.state_dict()["classifier.out_proj.weight"].shape == shape
    assert_same(model.nystromformer, build(SEQUENCE, dtype="float32").nystromformer)
    assert model([[7, 3]]).logits.shape == (1, labels)


def test_a_pipeline_takes_no_drawn_head(tmp_path: Path) -> None:
    shutil.copytree(WEIGHTS / "sequence-classification", tmp_path / "copy")
    with pytest.raises(ValueError, match=r"holds no .*classifier\.out_proj\.weight are missing or of another shape"):
        pipeline(
            "text-classification", tmp_path / "copy", model_kwargs={"num_labels": 3, "ignore_mismatched_sizes": True}
        )


def test_the_loading_info_of_three_kinds() -> None:
    _, missing = loaded(*CASES[0])
    dense, projection = ("classifier.dense", "classifier.out_proj")
    assert missing["missing_keys"] == [f"{name}.{kind}" for name in (dense, projection) for kind in ("bias", "weight")]
    assert len(missing["unexpected_keys"]) == 5
    assert loaded(*CASES[2])[1] == {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": [], "error_msgs": []}
    model, other = loaded(*CASES[4])
    assert type(model) is SEQUENCE
    assert sorted(other["mismatched_keys"]) == [
        ("classifier.out_proj.bias", (2,), (5,)),
        ("classifier.out_proj.weight", (2, 192), (5, 192)),
    ]
    words = "nystromformer.embeddings.word_embeddings.weight"  # as in the file, although the model has it without that
    assert loaded(*CASES[8])[1]["mismatched_keys"] == [(words, (2048, 192), (2050, 192))]


@pytest.mark.reference
def test_the_loading_info_is_that_of_the_reference() -> None:
    try:
        python("4.37.2")
    except ReferenceUnavailable as error:
        pytest.skip(str(error))
    asked = [(head, str(WEIGHTS / folder), {"ignore_mismatched_sizes": True} | more) for head, folder, more in CASES]
    answers = json.loads(run_inside("4.37.2", HERE / "run_loading.py", json.dumps(asked)))
    for (head, folder, options), answer in zip(CASES, answers, strict=True):
        options = {name: value for name, value in options.items() if name != "ignore_mismatched_sizes"}
        info = loaded(head, folder, options)[1]
        assert json.loads(json.dumps({key: sorted(value) for key, value in info.items()})) == answer, (head, folder)


# --- where it lies, and what only concerns torch ---


@pytest.mark.parametrize("subfolder", ["unet", "a/b", "with space"])
def test_a_subfolder(subfolder: str, tmp_path: Path) -> None:
    shutil.copytree(WEIGHTS / "masked-lm", tmp_path / subfolder)
    model = MASKED_LM.from_pretrained(tmp_path, subfolder=subfolder)
    assert_same(model, MASKED_LM.from_pretrained(WEIGHTS / "masked-lm"))
    assert AutoModelForMaskedLM.from_pretrained(tmp_path, subfolder=subfolder).config == model.config
    assert AutoConfig.from_pretrained(tmp_path, subfolder=subfolder) == model.config
    expected = NystromformerTokenizer.from_pretrained(WEIGHTS / "masked-lm")("A word.").input_ids
    assert AutoTokenizer.from_pretrained(tmp_path, subfolder=subfolder)("A word.").input_ids == expected
    text = "Paris is the [MASK]."
    answer = pipeline("fill-mask", tmp_path, model_kwargs={"subfolder": subfolder})(text)
    assert answer == pipeline("fill-mask")(text)


@pytest.mark.parametrize("subfolder", ["..", "a/../../b", "/etc", "/"])
def test_what_is_no_subfolder(subfolder: Any, saved: Path) -> None:
    with pytest.raises(ValueError, match="subfolder must be the name of a folder inside"):
        NystromformerModel.from_pretrained(saved, subfolder=subfolder)


@pytest.mark.parametrize(
    "options",
    [
        {"device_map": "auto", "low_cpu_mem_usage": True, "max_memory": {0: "1GB"}, "offload_folder": "x"},
        {"device_map": {"": "cpu"}, "use_safetensors": True, "trust_remote_code": True, "proxies": None},
        {"device_map": "cpu", "attn_implementation": "eager", "from_tf": False, "load_in_8bit": False, "token": None},
        {"device_map": "balanced", "offload_state_dict": True, "_fast_init": False, "quantization_config": None},
    ],
)
def test_what_only_concerns_torch_changes_nothing(options: dict[str, Any], saved: Path) -> None:
    plain = MASKED_LM.from_pretrained(saved)
    for cls in (MASKED_LM, AutoModelForMaskedLM):
        model = cls.from_pretrained(saved, **options)
        assert_same(model, plain)
        assert (model.config, model.device, model.dtype) == (plain.config, "cpu", plain.dtype)
    text = "Paris is the [MASK]."
    assert pipeline("fill-mask", WEIGHTS / "masked-lm", model_kwargs=options)(text) == pipeline("fill-mask")(text)


@pytest.mark.parametrize(
    "options",
    [
        {"safe_serialization": True},
        {"max_shard_size": "200MB", "push_to_hub": False},
        {"variant": "fp16", "is_main_process": True, "token": None},
    ],
)
def test_saving_takes_what_changes_nothing(options: dict[str, Any], tmp_path: Path) -> None:
    model = build(MASKED_LM, dtype="float32")
    model.save_pretrained(tmp_path, **options)
    assert_same(MASKED_LM.from_pretrained(tmp_path, variant=options.get("variant")), model)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"safe_serialization": False}, ValueError, "safe_serialization must be True; found False"),
        ({"push_to_hub": True}, ValueError, "push_to_hub must be False; found True"),
        ({"safe": True}, TypeError, "save_pretrained has the options variant, safe_serialization, .*; found 'safe'"),
    ],
)
def test_saving_refuses_what_is_not_here(options: Any, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        build(MASKED_LM).save_pretrained(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cls", [AutoConfig, AutoModelForMaskedLM, AutoTokenizer, MASKED_LM, NystromformerTokenizer])
def test_an_older_name_of_the_token(cls: Any) -> None:
    with pytest.warns(UserWarning, match="use_auth_token is an older name: use token"):
        cls.from_pretrained(WEIGHTS / "masked-lm", use_auth_token=True)
    with pytest.raises(ValueError, match="token and use_auth_token are two names of one thing, found both"):
        cls.from_pretrained(WEIGHTS / "masked-lm", use_auth_token=True, token="a")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"load_in_8bit": True}, "load_in_8bit must be False or None; found True"),
        ({"use_safetensors": False}, "use_safetensors must be True or None; found False; nystrom-np convert makes"),
        ({"attn_implementation": "sdpa"}, "attn_implementation must be None or 'eager'; found 'sdpa'"),
        ({"from_tf": True}, "from_tf must be False; found True"),
        ({"device_map": {"a": 0, "b": 1}}, "device_map must put the whole model on one device"),
        ({"device_map": "tpu"}, "'tpu'"),
    ],
)
def test_what_asks_for_what_is_not_here(options: dict[str, Any], message: str, saved: Path) -> None:
    with pytest.raises(ValueError, match=message):
        MASKED_LM.from_pretrained(saved, **options)


# --- a repository ---


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setattr(time, "sleep", lambda _: None)  # it waits before it asks again
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    with serving() as server:
        ask_at(server.endpoint, monkeypatch)
        yield server


@pytest.mark.parametrize("subfolder", ["", "deep/er"])
def test_variant_subfolder_and_token_of_a_repository(subfolder: str, hub: Hub, tmp_path: Path) -> None:
    place = tmp_path / "served" / subfolder
    shutil.copytree(WEIGHTS / "masked-lm", place)
    (place / "model.safetensors").rename(place / "model.fp16.safetensors")
    hub.add("owner/name", tmp_path / "served")
    where: dict[str, Any] = {"subfolder": subfolder, "token": "hf_mine"}
    model = MASKED_LM.from_pretrained("owner/name", variant="fp16", **where)
    assert_same(model, MASKED_LM.from_pretrained(WEIGHTS / "masked-lm"))
    assert hub.tokens == {"Bearer hf_mine"}
    text = "Paris is the [MASK]."
    answer = pipeline("fill-mask", "owner/name", token="hf_mine", model_kwargs=where | {"variant": "fp16"})(text)
    assert answer == pipeline("fill-mask")(text)
    assert hub.tokens == {"Bearer hf_mine"}
    with pytest.raises(FileNotFoundError, match=r"has no (deep/er/)?model\.other\.safetensors"):
        MASKED_LM.from_pretrained("owner/name", variant="other", **where)
    asked = len(hub.requests)
    MASKED_LM.from_pretrained("owner/name", variant="fp16", local_files_only=True, **where)
    assert len(hub.requests) == asked
    MASKED_LM.from_pretrained("owner/name", variant="fp16", force_download=True, **where)
    assert any(f"GET owner/name {hub_commit(hub)} " in request for request in hub.requests[asked:])


def hub_commit(hub: Hub) -> str:
    return next(revision for _, revision in hub.folders if revision != "main")
