"""The same as the parity tests, and checkpoints in both directions, against transformers itself.

``pytest -m reference`` runs this with transformers 4.37.2 and 5.23.0, each in an environment of its own,
which is made the first time and kept: see ``tests/reference/environment.py``.
"""

import json
import math
import warnings
import zlib
from functools import cache

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import nystrom_np
from tests.reference import cases, compare, store
from tests.reference.client import Item, ask, run_inside
from tests.reference.environment import VERSIONS, ReferenceUnavailable, python

pytestmark = pytest.mark.reference

ALL = cases.all_cases()
REPRODUCED = 1e-12  # between two runs of the reference, on whatever machine


def identity(case):
    return f"{case.head.removeprefix('Nystromformer')}-{case.name}"


def available(version):
    try:
        python(version)
    except ReferenceUnavailable as error:
        pytest.skip(str(error))
    return version


@pytest.fixture(scope="module", params=VERSIONS)
def version(request):
    return available(request.param)


@cache
def every_case(version):
    """Answers to every case, asked in one go."""
    return dict(zip(map(identity, ALL), ask(version, [Item.of(case) for case in ALL]), strict=True))


@pytest.fixture(scope="module")
def version_4():
    return available("4.37.2")


@pytest.mark.parametrize("case", ALL, ids=identity)
def test_outputs_equal_the_reference(case, version, tmp_path):
    answer = every_case(version)[identity(case)]
    if version.startswith("5") and case.not_in_5:
        assert answer.error.startswith(case.not_in_5.partition(":")[0])  # the reason it is left out still holds
        return
    assert answer.error is None
    folder = compare.write_checkpoint(tmp_path, case)
    for dtype in ("float64", "float32"):
        actual = compare.run(compare.load(case.head, folder, dtype), case.inputs, case.flags)
        compare.assert_agree(actual, answer.outputs, dtype, answer.float32_distance)


def test_stored_outputs_are_the_references(version_4):
    for case in ALL:
        stored, answer = store.read(case), every_case(version_4)[identity(case)]
        assert list(answer.outputs) == list(stored.outputs)
        for name, array in stored.outputs.items():
            np.testing.assert_allclose(answer.outputs[name], array, rtol=0, atol=REPRODUCED, err_msg=identity(case))


# ------------------------------------------------------------------------------------------------ checkpoints

CONFIG = {**cases.BASE, **cases.NYSTROM, "num_labels": 3}
UNTIED = {"tie_word_embeddings": False}
EVERYTHING = {"output_hidden_states": True, "output_attentions": True}


def checkpoint_case(head, branch="nystrom", **changes):
    """A case without padding, which both versions run."""
    config = {**CONFIG, **cases.BRANCHES[branch], **changes}
    if head not in (cases.SEQUENCE, cases.TOKEN):
        config.pop("num_labels")
    shape = (2, 3, 16) if head == cases.CHOICE else (2, 16)
    ids = np.random.RandomState(zlib.crc32(head.encode())).randint(3, 60, size=shape).astype(np.int64)
    return cases.Case(f"checkpoint-{branch}", head, config, {"input_ids": ids}, EVERYTHING)


CHECKPOINTS = {
    **{(head, branch): checkpoint_case(head, branch) for head in cases.HEADS for branch in cases.BRANCHES},
    (cases.MASKED_LM, "untied"): checkpoint_case(cases.MASKED_LM, **UNTIED),
}
ANY = cases.TOKEN, "nystrom"
SAVES = {
    "one-file": {},
    "shards": {"max_shard_size": "8KB"},
    "float16": {"dtype": "float16"},
    "bfloat16": {"dtype": "bfloat16"},
    "float64": {"dtype": "float64"},
}
# A file read by another head than its own: the bare model, and a head whose parameters the file lacks.
CROSSED = {
    (*ANY, "one-file", cases.MODEL),
    (cases.MODEL, "nystrom", "one-file", cases.MASKED_LM),
    (cases.ANSWER, "nystrom", "one-file", cases.MASKED_LM),
}


def ours(head, folder, case, dtype="float64"):
    return compare.run(compare.load(head, folder, dtype), case.inputs, case.flags)


def from_folder(case, folder, head=None):
    """Ask in float64 alone: what 5.x does not find in the file it may leave as the memory held it."""
    return Item(head or case.head, case.inputs, folder=folder, flags=case.flags, measured=())


def test_what_this_package_saves_the_reference_loads(version, tmp_path):
    written = []
    for (head, kind), case in CHECKPOINTS.items():
        source = compare.write_checkpoint(tmp_path / f"{head}-{kind}", case)
        for dtype in ("float32", "float64", "float16") if kind == "nystrom" else ("float32",):
            folder = tmp_path / f"{head}-{kind}-{dtype}"
            compare.load(head, source, dtype).save_pretrained(folder)
            written.append((case, folder))
    case = checkpoint_case(cases.SEQUENCE)  # weights that this package drew
    drawn = nystrom_np.NystromformerForSequenceClassification(compare.config_of(case), seed=3)
    drawn.save_pretrained(tmp_path / "drawn")
    written.append((case, tmp_path / "drawn"))
    for (case, folder), answer in zip(written, ask(version, [from_folder(*pair) for pair in written]), strict=True):
        assert answer.error is None, folder
        compare.assert_agree(ours(case.head, folder, case), answer.outputs, "float64", {})


@pytest.fixture(scope="module")
def saved(version, tmp_path_factory):
    """Every head as the reference saves it in every way: its folder, by head, kind and way."""
    root = tmp_path_factory.mktemp(f"saved-by-{version}")
    ways = {(*key, way): root / "-".join((*key, way)) for key in CHECKPOINTS for way in SAVES if kept(*key, way)}
    items = [
        Item.of(CHECKPOINTS[head, kind], save={"folder": str(folder), **SAVES[way]})
        for (head, kind, way), folder in ways.items()
    ]
    assert [answer.error for answer in ask(version, items)] == [None] * len(items)
    return ways


def kept(head, kind, way):
    """Say whether to save it so: what does not depend on the branch is saved on one."""
    return way == "one-file" or kind != "dense"


@pytest.fixture(scope="module")
def reread(version, saved):
    """What the reference computes from each folder, with its own head and where crossed with another."""
    wanted = [(*key, key[0]) for key in saved] + sorted(CROSSED)
    items = [from_folder(CHECKPOINTS[head, kind], saved[head, kind, way], reader) for head, kind, way, reader in wanted]
    answers = dict(zip(wanted, ask(version, items), strict=True))
    assert {answer.error for answer in answers.values()} == {None}
    return answers


def test_what_the_reference_saves_this_package_loads(saved, reread):
    for (head, kind, way), folder in saved.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            actual = ours(head, folder, CHECKPOINTS[head, kind])
        compare.assert_agree(actual, reread[head, kind, way, head].outputs, "float64", {})


def test_the_files_are_of_the_kinds_meant(saved):
    """Shards are shards, half precision is half precision, an untied decoder is in the file."""
    for (_, _, way), folder in saved.items():
        assert (folder / "model.safetensors.index.json").exists() == (way == "shards")
        if way in ("float16", "float64"):
            dtypes = {str(array.dtype) for array in load_file(folder / "model.safetensors").values()}
            assert dtypes == {way}
    for kind in ("nystrom", "untied"):
        file = load_file(saved[cases.MASKED_LM, kind, "one-file"] / "model.safetensors")
        assert ("cls.predictions.decoder.weight" in file) == (kind == "untied")


def test_a_heads_file_in_the_bare_model(saved, reread):
    actual = ours(cases.MODEL, saved[(*ANY, "one-file")], CHECKPOINTS[ANY])
    compare.assert_agree(actual, reread[(*ANY, "one-file", cases.MODEL)].outputs, "float64", {})


@pytest.mark.parametrize("source", [cases.MODEL, cases.ANSWER])
def test_a_bare_or_another_heads_file_in_a_head(saved, reread, source):
    expected = reread[source, "nystrom", "one-file", cases.MASKED_LM].outputs
    with pytest.warns(UserWarning, match=r"cls\.predictions"):
        actual = ours(cases.MASKED_LM, saved[source, "nystrom", "one-file"], CHECKPOINTS[source, "nystrom"])
    body = [name for name in expected if name.startswith(("hidden_states", "attentions"))]
    assert len(body) == 5
    for name in body:
        np.testing.assert_allclose(actual[name], expected[name], rtol=0, atol=compare.FLOAT64_TOLERANCE)


def read(version, case, folder):
    [answer] = ask(version, [from_folder(case, folder)])
    assert answer.error is None
    return answer


def test_old_names_of_the_layer_norm_and_old_buffers(version_4, tmp_path):
    case = checkpoint_case(cases.MASKED_LM)
    compare.write_checkpoint(tmp_path, case)
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
        for name, array in case.parameters().items()
    }
    renamed["nystromformer.embeddings.position_ids"] = np.arange(2, 42)[None]
    renamed["nystromformer.embeddings.token_type_ids"] = np.zeros((1, 40), np.int64)
    save_file(renamed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    expected = read(version_4, case, tmp_path)
    compare.assert_agree(ours(case.head, tmp_path, case), expected.outputs, "float64", {})


def test_the_bias_under_both_names(version_4, tmp_path):
    """4.37.2 computes with the decoder's bias where the two differ."""
    case = checkpoint_case(cases.MASKED_LM)
    compare.write_checkpoint(tmp_path, case)
    weights = case.parameters()
    weights["cls.predictions.decoder.bias"] = weights["cls.predictions.bias"] + np.float32(0.5)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    expected = read(version_4, case, tmp_path)
    compare.assert_agree(ours(case.head, tmp_path, case), expected.outputs, "float64", {})


# ----------------------------------------------------------------------------- the data of the ordinary tests


def test_checkpoints_come_out_the_same(version_4, checkpoints, tmp_path):
    run_inside(version_4, "-m", "tests.checkpoints.make", tmp_path)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert len(made) == 10
    for name in made:
        shipped, again = checkpoints / name, tmp_path / name
        assert {path.name for path in again.iterdir()} <= {path.name for path in shipped.iterdir()}
        for file in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"):
            assert (again / file).read_bytes() == (shipped / file).read_bytes(), f"{name}/{file}"
        same_arrays(load_file(again / "reference.safetensors"), load_file(shipped / "reference.safetensors"))


def same_arrays(actual, expected):
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, rtol=0, atol=REPRODUCED, err_msg=name)


def test_stored_checkpoints_in_the_reference(version, checkpoints):
    """The folders load in both versions, to the stored outputs wherever the version can run the case."""
    items, stored = [], []
    for folder in sorted(path.parent for path in checkpoints.glob("*/reference.json")):
        told = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "reference.safetensors")
        for case in told["cases"]:
            inputs = {name: arrays[f"{case['name']}/inputs/{name}"] for name in case["inputs"]}
            padded = folder.name.endswith("nystrom") and not inputs["attention_mask"].all()
            if version.startswith("5") and padded:
                continue  # cases.PADDED_NYSTROM
            kinds = {name.partition(".")[0] for name in case["outputs"]}
            flags = {f"output_{kind}": True for kind in ("hidden_states", "attentions") if kind in kinds}
            items.append(Item(told["head"], inputs, folder=folder, flags=flags))
            stored.append({name: arrays[f"{case['name']}/outputs/{name}"] for name in case["outputs"]})
    assert len(items) >= 10
    for answer, expected in zip(ask(version, items), stored, strict=True):
        assert answer.error is None
        assert all(0.4 <= median <= 0.95 for median in answer.median_row_max)
        for name, array in expected.items():
            np.testing.assert_allclose(answer.outputs[name], array, rtol=0, atol=compare.FLOAT64_TOLERANCE)


def test_documented_examples_come_out_the_same(version, checkpoints):
    script = store.TESTS / "reference" / "run_documented_examples.py"
    again = json.loads(run_inside(version, script, checkpoints))
    same_values(again, json.loads(store.DOCUMENTED.read_text()))


def same_values(actual, expected):
    """Compare nested JSON, numbers within what two versions may differ by."""
    assert type(actual) is type(expected)
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for name in expected:
            same_values(actual[name], expected[name])
    elif isinstance(expected, list):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            same_values(one, other)
    elif isinstance(expected, float):
        assert math.isclose(actual, expected, rel_tol=0, abs_tol=compare.FLOAT64_TOLERANCE)
    else:
        assert actual == expected
