"""Every output equals the reference's, from the stored answers of transformers 4.37.2.

Each head on both branches, with every way of calling it, every loss and configurations of all kinds: see
``tests/reference/cases.py``. ``pytest -m reference`` asks the reference itself.
"""

from contextlib import nullcontext

import numpy as np
import pytest

from nystrom_np import NystromformerForSequenceClassification, NystromformerModel
from nystrom_np.fast import definitions
from tests.backends import make_backend
from tests.reference import cases, compare, store

ALL = cases.all_cases()


def identity(case):
    return f"{case.head.removeprefix('Nystromformer')}-{case.name}"


def find(head, name):
    return next(case for case in ALL if (case.head, case.name) == (head, name))


@pytest.fixture(params=ALL, ids=identity)
def case(request):
    return request.param


# NumPy stores weights and outputs in half precision and computes in single; a device, and its stand-in, compute in it.
# The twins are what runs there; shut out, it is the definition itself.
RUNS = [
    ("numpy", "float64", "twins"),
    ("numpy", "float32", "twins"),
    ("numpy", "float64", "definition"),
    pytest.param("numpy", "float16", "twins", marks=pytest.mark.slow),
    pytest.param("strict", "float64", "definition", marks=pytest.mark.slow),
    *(pytest.param("strict", dtype, "twins", marks=pytest.mark.slow) for dtype in ("float64", "float16")),
    *(pytest.param("cupy", dtype, "twins", marks=pytest.mark.gpu) for dtype in ("float64", "float32", "float16")),
    pytest.param("cupy", "float64", "definition", marks=pytest.mark.gpu),
]


@pytest.mark.parametrize(("place", "dtype", "form"), RUNS)
def test_outputs_equal_the_reference(case, place, dtype, form, tmp_path):
    stored, backend = store.read(case), make_backend(place)
    model = compare.load(case.head, compare.write_checkpoint(tmp_path, case), dtype)
    if place != "numpy":
        parameters = {name: backend.array(value) for name, value in model.state_dict().items()}
        model = type(model)(model.config, parameters=parameters)
    # a device says nothing of an overflow to ∞ on the way to the right limit
    quiet = np.errstate(all="ignore" if place == "strict" else None)
    with quiet, definitions() if form == "definition" else nullcontext():
        actual = compare.run(model, case.inputs, case.flags)
    actual = {name: backend.numpy(array) for name, array in actual.items()}
    compare.assert_agree(actual, stored.outputs, dtype, stored.float32_distance, stored.float16_distance)


def test_stored_outputs_belong_to_the_case(case):
    assert store.read(case).digest == case.digest(), "run python -m tests.reference.store"


def test_attention_is_peaked(case):
    """Nearly uniform attention would hide a wrong inverse."""
    medians = store.read(case).median_row_max
    assert len(medians) == case.config["num_hidden_layers"]
    if case.config["num_landmarks"] == 1:
        assert medians == [1.0] * len(medians)  # a matrix of one entry
    else:
        assert all(0.4 <= median <= 0.95 for median in medians), medians


@pytest.mark.parametrize("branch", cases.BRANCHES)
@pytest.mark.parametrize("head", cases.HEADS)
def test_every_head_and_branch_is_there(head, branch):
    """The suite covers what it says: no case was lost in the table."""
    wanted = {"plain", "mask", "bool_mask", "masked_row", "token_types", "inputs_embeds", "everything"}
    wanted |= {f"position_ids_{shape}" for shape in ("L", "1_L", "B_L", "B_1")}
    names = {case.name for case in ALL if case.head == head}
    assert {f"{name}-{branch}" for name in wanted} <= names
    assert head == cases.MODEL or any(name.startswith("loss-") and name.endswith(branch) for name in names)


def test_the_inverse_starts_from_the_whole_batch():
    """The reference's output for a sequence depends on the others in its batch, and so does ours."""
    alone, batch = (store.read(find(cases.MODEL, f"nystrom-batch_of_{size}")) for size in (1, 4))
    first = [stored.outputs["last_hidden_state"][0] for stored in (alone, batch)]
    assert np.abs(first[0] - first[1]).max() > 1e-3


def test_padding_changes_the_real_tokens():
    """The convolution sees padded positions, so these stored cases prove that ours does."""
    plain, masked = (store.read(find(cases.MODEL, f"{name}-dense")) for name in ("plain", "mask"))
    name = "hidden_states.1"
    assert np.abs(plain.outputs[name] - masked.outputs[name])[0].max() > 1e-3


def test_int32_labels_are_classes():
    """The reference takes int32 labels for classes, and then its torch refuses them in the loss."""
    case = find(cases.SEQUENCE, "loss-inferred_single_label-dense")
    model = NystromformerForSequenceClassification(
        compare.config_of(case), parameters=case.parameters(), dtype="float64"
    )
    out = model(case.inputs["input_ids"], labels=case.inputs["labels"].astype(np.int32))
    assert abs(out.loss - store.read(case).outputs["loss"]) <= compare.FLOAT64_TOLERANCE


def test_parameters_given_as_a_dictionary():
    case = find(cases.MODEL, "plain-nystrom")
    stored = store.read(case)
    model = NystromformerModel(compare.config_of(case), parameters=case.parameters(), dtype="float64")
    actual = compare.run(model, case.inputs, case.flags)
    compare.assert_agree(actual, stored.outputs, "float64", stored.float32_distance)
