"""Every mistake in a call is one error that names the argument, what was expected and what was found."""

import copy
import sys

import numpy as np
import pytest

from nystrom_np import NystromformerConfig, NystromformerModel
from nystrom_np.array_module import DeviceError
from nystrom_np.model.inputs import Checks, check_inputs
from nystrom_np.pipelines.question_answering import spans
from tests.models import (
    ANSWER,
    BASE,
    BODY,
    BRANCHES,
    CHOICE,
    HEADS,
    MASKED_LM,
    MODELS,
    SEQUENCE,
    TOKEN,
    assert_close,
    build,
    build_another,
    inputs_for,
    labels_for,
    logits_of,
    small_config,
    token_ids,
)

IDS = token_ids(2, 5)
EMBEDS = np.random.RandomState(0).standard_normal((2, 5, 16))


def complaint(error, call, *args, **kwargs) -> str:
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    assert caught.type in (ValueError, TypeError, IndexError, DeviceError)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ------------------------------------------------------------------------------------- ids, and their kinds

NO_INTEGERS = {
    "floats": (IDS.astype(float), "must hold integers; found float64"),
    "float32": (IDS.astype(np.float32), "must hold integers; found float32"),
    "bool": (IDS > 20, "must hold integers; found bool"),
    "complex": (IDS.astype(complex), "must hold numbers; found dtype complex128"),
    "strings": (IDS.astype(str), "must hold numbers; found dtype <U21"),
    "text": ("a text", "must hold numbers; found dtype <U6"),
    "objects": (IDS.astype(object), "must hold numbers; found dtype object"),
    "none": ([[1, None, 3]], "must hold numbers; found dtype object"),
    "too large for any integer": ([[2**70]], "must hold numbers; found dtype object"),
    "dates": (IDS.astype("datetime64[s]"), "must hold numbers; found dtype datetime64[s]"),
    "ragged": ([[1, 2, 3], [4, 5]], "must be an array or nested lists of equal lengths ("),
    "bytes": (b"ids", "must hold numbers; found dtype |S3"),
    "a set": ({1, 2}, "must hold numbers; found dtype object"),
}


@pytest.mark.parametrize("kind", NO_INTEGERS)
@pytest.mark.parametrize("name", ["input_ids", "token_type_ids", "position_ids"])
def test_ids_that_are_no_integers(name, kind):
    value, words = NO_INTEGERS[kind]
    message = complaint(ValueError, build(BODY), **{"input_ids": IDS, name: value})
    assert message.startswith(f"{name} {words}")


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8", "uint64"])
@pytest.mark.parametrize("model", MODELS)
def test_every_integer_type_is_taken(model, dtype):
    head, given = build(model, num_hidden_layers=0), inputs_for(model)
    if model is MASKED_LM and dtype.startswith("u"):
        given["labels"] = abs(given["labels"]) % 53
    if model is SEQUENCE:
        del given["labels"]  # their type chooses the loss
    expected = head(**given)
    found = head(**{name: value.astype(dtype) for name, value in given.items()})
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("model", MODELS)
def test_lists_and_tuples_are_taken(model):
    head, given = build(model, num_hidden_layers=0), inputs_for(model)
    expected = head(**given)
    for form in (
        lambda a: a.tolist(),
        lambda a: tuple(map(tuple, a.tolist())) if a.ndim == 2 else tuple(a.tolist()),
    ):
        found = head(**{name: form(value) for name, value in given.items()})
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_float_type_is_taken_for_embeddings(dtype):
    for model_dtype in ("float32", "float64"):
        model = build(BODY, dtype=model_dtype)
        expected = model(inputs_embeds=EMBEDS.astype(dtype).astype(model_dtype)).last_hidden_state
        found = model(inputs_embeds=EMBEDS.astype(dtype)).last_hidden_state
        assert found.dtype == model_dtype
        assert_close(found, expected, 1e-5)


@pytest.mark.parametrize("shape", [(), (5,), (2, 5, 1), (1, 2, 5, 1)])
def test_rank_of_ids(shape):
    message = complaint(ValueError, build(BODY), np.zeros(shape, int))
    assert message == f"input_ids must have shape (batch, length); found {shape}"


@pytest.mark.parametrize("shape", [(), (16,), (2, 16), (1, 2, 5, 16), (2, 5, 15), (2, 5, 17), (2, 16, 5)])
def test_shape_of_embeddings(shape):
    message = complaint(ValueError, build(BODY), inputs_embeds=np.zeros(shape))
    expected = "inputs_embeds must have shape (batch, length, hidden_size) with hidden_size 16"
    assert message == f"{expected}; found {shape}"


@pytest.mark.parametrize("kind", ["int64", "bool", "complex128", "<U2", "object"])
def test_embeddings_that_are_no_floats(kind):
    value = np.full((2, 5, 16), 1).astype(kind)
    found = f"floats; found {kind}" if kind in ("int64", "bool") else f"numbers; found dtype {kind}"
    assert complaint(ValueError, build(BODY), inputs_embeds=value) == f"inputs_embeds must hold {found}"


@pytest.mark.parametrize("shape", [(0, 5), (2, 0), (0, 0)])
@pytest.mark.parametrize("masking", ["transformers", "invariant"])
def test_nothing_to_encode(shape, masking):
    model = build(BODY, masking=masking)
    words = "must not be empty; found shape"
    assert complaint(ValueError, model, np.zeros(shape, int)) == f"input_ids {words} {shape}"
    embeds = np.zeros((*shape, 16))
    assert complaint(ValueError, model, inputs_embeds=embeds) == f"inputs_embeds {words} {embeds.shape}"


@pytest.mark.parametrize(("value", "shape"), [([], (0,)), ([[]], (1, 0)), ([[], []], (2, 0))])
@pytest.mark.parametrize(
    "name", ["input_ids", "attention_mask", "token_type_ids", "position_ids", "head_mask", "labels"]
)
def test_an_empty_list(name, value, shape):
    """NumPy makes floats of it, of which the message does not speak."""
    message = complaint(ValueError, build(TOKEN), **{"input_ids": IDS, name: value})
    assert message == f"{name} must not be empty; found shape {shape}"


@pytest.mark.parametrize("model", MODELS)
def test_both_or_neither(model):
    head = build(model)
    ids, embeds = (IDS[None], EMBEDS[None]) if model is CHOICE else (IDS, EMBEDS)
    words = "exactly one of input_ids and inputs_embeds must be given; found "
    assert complaint(ValueError, head) == words + "neither"
    assert complaint(ValueError, head, attention_mask=np.ones_like(ids)) == words + "neither"
    assert complaint(ValueError, head, ids, inputs_embeds=embeds) == words + "both"


TABLES = {
    "input_ids": (BASE["vocab_size"], "the word embedding"),
    "position_ids": (BASE["max_position_embeddings"] + 2, "the position embedding"),
    "token_type_ids": (BASE["type_vocab_size"], "the token type embedding"),
}


@pytest.mark.parametrize("masking", ["transformers", "original", "invariant"])
@pytest.mark.parametrize("name", TABLES)
def test_ids_outside_their_table(name, masking):
    model, (rows, table) = build(BODY, masking=masking), TABLES[name]
    mask = np.ones((2, 5), int)
    mask[0, 4] = 0
    for wrong in (rows, -1, -rows, 2**62, -(2**63)):
        ids = np.zeros((2, 5), int)
        ids[1, 3] = wrong
        ids[1, 4] = -7  # the first one is named
        for given in ({}, {"attention_mask": mask}):
            message = complaint(IndexError, model, **{"input_ids": IDS, **given, name: ids})
            assert message == f"{name}[1, 3] is {wrong}, but {table} has {rows} rows: 0 to {rows - 1}"


@pytest.mark.parametrize(
    "masking",
    [
        "transformers",
        "original",
        "invariant",
    ],
)
@pytest.mark.parametrize("name", TABLES)
def test_unsigned_ids_outside_their_table(name, masking):
    unsigned = np.zeros((2, 5), np.uint64)
    unsigned[0, 1] = 2**64 - 1
    message = complaint(IndexError, build(BODY, masking=masking), **{"input_ids": IDS, name: unsigned})
    assert message.startswith(f"{name}[0, 1] is {2**64 - 1}, but ")


@pytest.mark.parametrize("name", ["position_ids", "token_type_ids"])
def test_shapes_of_ids_for_each_token(name):
    model, ids = build(BODY), token_ids(3, 5)
    state = np.random.RandomState(0)
    for shape in ((5,), (1, 5), (3, 5), (3, 1)):
        value = state.randint(0, 3, size=shape)
        expected = model(ids, **{name: np.broadcast_to(value, (3, 5)).copy()}).last_hidden_state
        np.testing.assert_array_equal(model(ids, **{name: value}).last_hidden_state, expected)
    expected = f"{name} must have shape (1, 5) or (3, 5) or (3, 1), which is "
    expected += "(length,), (1, length), (batch, length) or (batch, 1)"
    for shape, found in (
        ((4,), (1, 4)),
        ((3,), (1, 3)),
        ((2, 5), (2, 5)),
        ((3, 4), (3, 4)),
        ((1, 1), (1, 1)),
        ((), ()),
    ):
        assert complaint(ValueError, model, ids, **{name: np.zeros(shape, int)}) == f"{expected}; found {found}"
    assert complaint(ValueError, model, ids, **{name: np.zeros((3, 5, 1), int)}).endswith("found (3, 5, 1)")


@pytest.mark.parametrize("shape", [(5,), (1, 5), (2, 5), (2, 1)])
@pytest.mark.parametrize("name", ["position_ids", "token_type_ids"])
def test_padding_may_hold_anything_in_every_shape(name, shape):
    """Ids that stand for several tokens may be out of range where all of those are padding, and only there."""
    model = build(BODY, masking="invariant")
    mask = np.ones((2, 5), int)
    place = (1, ...) if shape == (2, 1) else (..., 2)
    mask[place] = 0
    ids = np.array([2, 1, 0, 2, 1, 1, 2, 0, 1, 2])[: np.prod(shape)].reshape(shape)
    expected = model(IDS, attention_mask=mask, **{name: ids}).last_hidden_state
    assert abs(expected - model(IDS, attention_mask=mask).last_hidden_state).max() > 0.1
    for wrong in (99, -1):
        ids[place] = wrong
        np.testing.assert_array_equal(model(IDS, attention_mask=mask, **{name: ids}).last_hidden_state, expected)
        mask[1, 2] = 1
        message = complaint(IndexError, model, IDS, attention_mask=mask, **{name: ids})
        assert message.startswith(f"{name}[1, 2] is {wrong}, but ")
        mask[1, 2] = 0


@pytest.mark.parametrize("branch", BRANCHES)
def test_too_long(branch):
    model, long = build(BODY, branch), token_ids(2, 41)
    expected = "the sequence has 41 tokens, but max_position_embeddings is 40: shorten it, or give position_ids"
    assert complaint(ValueError, model, long) == expected
    assert complaint(ValueError, model, inputs_embeds=np.zeros((1, 41, 16))) == expected
    assert model(long, position_ids=np.zeros((1, 41), int)).last_hidden_state.shape == (2, 41, 16)
    assert model(long[:, :40]).last_hidden_state.shape == (2, 40, 16)
    default = model(long[:, :40]).last_hidden_state
    np.testing.assert_array_equal(default, model(long[:, :40], position_ids=np.arange(2, 42)).last_hidden_state)


# ---------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize(
    ("branch", "masking"), [("nystrom", "transformers"), ("nystrom", "original"), ("dense", "invariant")]
)
def test_shape_of_the_mask(branch, masking):
    model, ids = build(BODY, branch, masking=masking), token_ids(3, 6)
    for shape in (
        (),
        (6,),
        (3,),
        (3, 5),
        (2, 6),
        (6, 3),
        (3, 1),
        (3, 6, 6),
        (1, 6, 6),
        (3, 1, 6),
        (3, 1, 1, 6),
    ):
        message = complaint(ValueError, model, ids, attention_mask=np.ones(shape))
        assert message == f"attention_mask must have shape (3, 6) or (1, 6), which is (batch, length); found {shape}"


@pytest.mark.parametrize(("branch", "length"), [("dense", 6), ("nystrom", 4)])
@pytest.mark.parametrize("masking", ["transformers", "original"])
def test_shape_of_the_mask_where_attention_is_exact(branch, masking, length):
    model, ids, n = build(BODY, branch, masking=masking), token_ids(3, length), length
    expected = f"attention_mask must have shape (3, {n}) or (1, {n}) or (3, {n}, {n}) or (1, {n}, {n}), which is "
    expected += "(batch, length), or (batch, length, length) where attention is exact"
    for shape in (
        (n,),
        (3, n + 1),
        (2, n),
        (3, 1, n),
        (3, n, 1),
        (2, n, n),
        (3, n, n + 1),
        (3, 1, 1, n),
        (3, 1, n, n),
    ):
        message = complaint(ValueError, model, ids, attention_mask=np.ones(shape))
        assert message == f"{expected}; found {shape}"
    for shape in ((3, n), (1, n), (3, n, n), (1, n, n)):
        assert model(ids, attention_mask=np.ones(shape)).last_hidden_state.shape == (3, n, 16)


@pytest.mark.parametrize("name", ["attention_mask", "head_mask"])
@pytest.mark.parametrize("wrong", [0.5, 2.0, -1.0, np.nan, np.inf, 1 - 1e-9, 2, -1, 255])
def test_masks_are_binary(name, wrong):
    shape, place = ((2, 5), "1, 3") if name == "attention_mask" else ((2, 2), "1, 0")
    mask = np.ones(shape, type(wrong))
    mask[1, -2] = wrong
    message = complaint(ValueError, build(BODY), IDS, **{name: mask})
    assert message == f"{name} must hold only 0 and 1 (or bool); found {wrong} at [{place}]"


@pytest.mark.parametrize("name", ["attention_mask", "head_mask"])
@pytest.mark.parametrize("kind", ["complex128", "<U1", "object"])
def test_masks_hold_numbers(name, kind):
    value = np.ones((2, 5) if name == "attention_mask" else (2,), int).astype(kind)
    message = complaint(ValueError, build(BODY), IDS, **{name: value})
    assert message == f"{name} must hold numbers; found dtype {kind}"
    assert complaint(ValueError, build(BODY), IDS, **{name: [[1, 0], [1]]}).startswith(f"{name} must be an array or")


def test_shape_of_the_head_mask():
    model = build(BODY, num_hidden_layers=3)
    for shape in ((), (3,), (1,), (2, 2), (3, 1), (3, 3), (2, 3), (1, 2), (3, 1, 2, 1, 1)):
        message = complaint(ValueError, model, IDS, head_mask=np.ones(shape))
        expected = "head_mask must have shape (2,) or (3, 2), which is (heads,) or (layers, heads); found "
        assert message == expected + str(shape)
    for same in ([1, 0], [[1, 0]] * 3, [True, False], np.array([1.0, 0.0])):
        found = model(IDS, head_mask=same).last_hidden_state
        np.testing.assert_array_equal(found, model(IDS, head_mask=np.array([1, 0])).last_hidden_state)


# --------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(("model", "classes"), [(MASKED_LM, 53), (TOKEN, 4)])
def test_labels_of_tokens(model, classes):
    head = build(model, num_labels=4, num_hidden_layers=0)
    for wrong in (classes, -1, -99, -101, 10**9):
        labels = np.full((2, 5), -100)
        labels[1, 2] = wrong
        message = complaint(IndexError, head, IDS, labels=labels)
        expected = f"labels[1, 2] is {wrong}, but there are {classes} classes: 0 to {classes - 1}, "
        assert message == expected + "or -100 for a label to ignore"
    for shape in ((), (5,), (2,), (1, 5), (2, 4), (5, 2), (2, 5, 1)):
        message = complaint(ValueError, head, IDS, labels=np.zeros(shape, int))
        assert message == f"labels must have shape (2, 5), which is (batch, length); found {shape}"
    for value, found in ((np.zeros((2, 5)), "integers; found float64"), (IDS > 2, "integers; found bool")):
        assert complaint(ValueError, head, IDS, labels=value) == f"labels must hold {found}"
    assert complaint(ValueError, head, IDS, labels="yes") == "labels must hold numbers; found dtype <U3"
    for label in (0, classes - 1, -100):
        assert np.isfinite(head(IDS, labels=[[label, 0, 0, 0, 0]] * 2).loss)
    assert np.isnan(head(IDS, labels=np.full((2, 5), -100)).loss)


@pytest.mark.parametrize("problem_type", [None, "single_label_classification"])
def test_labels_of_one_class(problem_type):
    head = build(SEQUENCE, num_labels=3, problem_type=problem_type, num_hidden_layers=0)
    expected = "labels[1] is {}, but there are 3 classes: 0 to 2, or -100 for a label to ignore"
    for wrong in (3, -1, 100):
        assert complaint(IndexError, head, IDS, labels=[0, wrong]) == expected.format(wrong)
    assert complaint(IndexError, head, IDS, labels=[[0], [7]]).startswith("labels[1, 0] is 7, but")
    for shape in ((), (1,), (3,), (2, 3), (1, 2), (2, 1, 1)):
        message = complaint(ValueError, head, IDS, labels=np.zeros(shape, int))
        assert message == f"labels must have shape (2,) or (2, 1), which is (batch,) or (batch, 1); found {shape}"
    assert head(IDS, labels=[2, 0]).loss == head(IDS, labels=[[2], [0]]).loss
    if problem_type:
        assert complaint(ValueError, head, IDS, labels=[0.0, 1.0]) == "labels must hold integers; found float64"
        assert complaint(ValueError, head, IDS, labels=[True, False]) == "labels must hold integers; found bool"
        assert head(IDS, labels=np.array([2, 0], np.uint8)).loss == head(IDS, labels=[2, 0]).loss


@pytest.mark.parametrize("problem_type", [None, "multi_label_classification"])
def test_labels_of_several_classes(problem_type):
    head = build(SEQUENCE, num_labels=3, problem_type=problem_type, num_hidden_layers=0)
    for shape in ((), (2,), (3,), (2, 2), (1, 3), (2, 1), (2, 3, 1)):
        message = complaint(ValueError, head, IDS, labels=np.zeros(shape))
        assert message == f"labels must have shape (2, 3), which is (batch, num_labels); found {shape}"
    targets = np.array([[1, 0, 1], [0, 0, 1]])
    expected = head(IDS, labels=targets.astype(float)).loss
    for dtype in ("float32", "bool", "uint8", "int8", "int16"):
        assert head(IDS, labels=targets.astype(dtype)).loss == expected
    assert complaint(ValueError, head, IDS, labels=targets.astype(str)).startswith("labels must hold numbers")


@pytest.mark.parametrize("problem_type", [None, "regression"])
def test_targets_of_one_number(problem_type):
    head = build(SEQUENCE, num_labels=1, problem_type=problem_type, num_hidden_layers=0)
    for shape in ((), (1,), (3,), (2, 2), (1, 2), (2, 1, 1)):
        message = complaint(ValueError, head, IDS, labels=np.zeros(shape))
        assert message == f"labels must have shape (2,) or (2, 1), which is (batch,) or (batch, 1); found {shape}"
    logits = head(IDS).logits[:, 0]
    for labels in ([1.5, -2.0], [[1.5], [-2.0]]):
        assert_close(head(IDS, labels=labels).loss, np.mean((logits - np.array([1.5, -2.0])) ** 2))
    assert_close(head(IDS, labels=[3, -4]).loss, np.mean((logits - np.array([3, -4])) ** 2))


def test_targets_of_several_numbers():
    head = build(SEQUENCE, num_labels=3, problem_type="regression", num_hidden_layers=0)
    logits = head(IDS).logits
    for shape in ((2, 3), (1, 3), (2, 1), (1, 1), (3,), (1,)):
        targets = np.random.RandomState(0).standard_normal(shape)
        assert_close(head(IDS, labels=targets).loss, np.mean((logits - targets) ** 2))
    for shape in ((), (2,), (4,), (3, 2), (2, 2), (2, 3, 1)):
        message = complaint(ValueError, head, IDS, labels=np.zeros(shape))
        assert message.startswith("labels must have shape (2, 3) or ")
        assert message.endswith(f"which is broadcastable to (batch, num_labels); found {shape}")


def test_labels_of_choices():
    head, ids = build(CHOICE, num_hidden_layers=0), token_ids(2, 3, 5)
    for wrong in (3, -1, 12):
        message = complaint(IndexError, head, ids, labels=[0, wrong])
        assert message == f"labels[1] is {wrong}, but there are 3 classes: 0 to 2, or -100 for a label to ignore"
    for shape in ((), (1,), (3,), (2, 1), (2, 3)):
        message = complaint(ValueError, head, ids, labels=np.zeros(shape, int))
        assert message == f"labels must have shape (2,), which is (batch,); found {shape}"
    for shape in ((2,), (3, 2), (1, 3), (2, 3, 1)):
        message = complaint(ValueError, head, ids, labels=np.zeros(shape))
        expected = "labels must have shape (2, 3), which is (batch, choices) for a distribution"
        assert message == f"{expected}; found {shape}"
    assert complaint(ValueError, head, ids, labels=[True, False]) == "labels must hold integers or floats; found bool"


def test_positions_of_answers():
    head = build(ANSWER, num_hidden_layers=0)
    for name, other in (("start_positions", "end_positions"), ("end_positions", "start_positions")):
        for shape in ((), (1,), (5,), (1, 2), (2, 2), (2, 1, 1)):
            message = complaint(ValueError, head, IDS, **{name: np.zeros(shape, int), other: [0, 0]})
            assert message == f"{name} must have shape (2,) or (2, 1), which is (batch,) or (batch, 1); found {shape}"
        for value, found in (
            ([0.0, 1.0], "integers; found float64"),
            ([True, False], "integers; found bool"),
        ):
            message = complaint(ValueError, head, IDS, **{name: value, other: [0, 0]})
            assert message == f"{name} must hold {found}"
        assert head(IDS, **{name: [0, 0]}).loss is None
    expected = head(IDS, start_positions=[0, 5], end_positions=[4, 5]).loss  # out of range is no error: clamped
    assert head(IDS, start_positions=[-100, 99], end_positions=[[4], [10**9]]).loss == expected
    assert (
        head(IDS, start_positions=np.array([-100, 99], np.int8), end_positions=np.array([4, 7], np.uint8)).loss
        == expected
    )


@pytest.mark.parametrize("model", [MASKED_LM, TOKEN])
def test_unsigned_labels_beside_padding(model):
    head = build(model, masking="invariant", num_hidden_layers=0)
    given = inputs_for(model)
    given["labels"] = abs(given["labels"]) % 2
    expected = head(**given).loss
    for dtype in (np.uint8, np.int8, np.uint64):
        given["labels"] = given["labels"].astype(dtype)
        assert head(**given).loss == expected


@pytest.mark.parametrize("model", [MASKED_LM, TOKEN])
def test_labels_at_padding_may_be_anything(model):
    head = build(model, masking="invariant", num_hidden_layers=0)
    given = inputs_for(model)
    expected = head(**given).loss
    for anything in (999, -1, -(2**63)):
        given["labels"] = np.where(given["attention_mask"] == 1, given["labels"], anything)
        assert head(**given).loss == expected
    given["labels"][1, 2] = 999
    assert complaint(IndexError, head, **given).startswith("labels[1, 2] is 999, but there are ")


# -------------------------------------------------------------------------------------------------- choices


def test_shapes_of_choices():
    head, ids = build(CHOICE), token_ids(2, 3, 5)
    for shape in ((5,), (3, 5), (2, 3, 5, 1)):
        message = complaint(ValueError, head, np.zeros(shape, int))
        assert message == f"input_ids must have shape (batch, choices, length); found {shape}"
    for shape in ((5, 16), (2, 5, 16), (2, 3, 1, 5, 16)):
        message = complaint(ValueError, head, inputs_embeds=np.zeros(shape))
        assert message == f"inputs_embeds must have shape (batch, choices, length, hidden_size); found {shape}"
    assert complaint(ValueError, head, inputs_embeds=np.zeros((2, 3, 5, 8))).startswith("inputs_embeds must have shape")
    for name in ("attention_mask", "token_type_ids", "position_ids"):
        for shape in ((2, 2, 5), (2, 3, 4), (2, 3, 5, 1)):
            message = complaint(ValueError, head, ids, **{name: np.zeros(shape, int)})
            assert message.startswith(f"{name} must have shape (")
        assert complaint(ValueError, head, ids, **{name: [[1, 2], [3]]}).startswith(f"{name} must be an array or")
    assert complaint(ValueError, head, ids.astype(float)) == "input_ids must hold integers; found float64"
    assert complaint(ValueError, head, inputs_embeds=np.ones((2, 3, 5, 16), int)).startswith(
        "inputs_embeds must hold floats"
    )


def test_a_mask_per_query_of_choices():
    """There is none: it has an axis more than the choices that are folded, and is named as it was given."""
    message = complaint(ValueError, build(CHOICE, "dense"), token_ids(2, 3, 5), np.ones((2, 3, 5, 5), int))
    assert message.endswith("; found (2, 3, 5, 5)")


@pytest.mark.parametrize("name", ["attention_mask", "token_type_ids", "position_ids"])
def test_choices_and_batch_swapped(name):
    """(3, 2, 5) folds into as many rows as (2, 3, 5), and is another batch all the same."""
    for shape in ((3, 2, 5), (1, 6, 5), (6, 1, 5), (2, 2, 5)):
        message = complaint(ValueError, build(CHOICE), token_ids(2, 3, 5), **{name: np.ones(shape, int)})
        assert message.startswith(f"{name} must have shape (2, 3, 5), ")
        assert message.endswith(f"; found {shape}")


@pytest.mark.parametrize("shape", [(2, 0, 5), (0, 3, 5), (2, 3, 0), (2, 0, 0)])
def test_no_choices(shape):
    head, words = build(CHOICE), "must not be empty; found shape"
    assert complaint(ValueError, head, np.zeros(shape, int)) == f"input_ids {words} {shape}"
    embeds = np.zeros((*shape, 16))
    assert complaint(ValueError, head, inputs_embeds=embeds) == f"inputs_embeds {words} {embeds.shape}"


def test_the_place_of_a_wrong_id_among_choices():
    for name in TABLES:
        ids = np.zeros((2, 3, 5), int)
        ids[1, 2, 4] = 99
        message = complaint(IndexError, build(CHOICE), **{"input_ids": token_ids(2, 3, 5), name: ids})
        assert message.startswith(f"{name}[1, 2, 4] is 99, but ")


def test_the_place_of_a_wrong_mask_among_choices():
    mask = np.ones((2, 3, 5), int)
    mask[1, 2, 3] = 2
    message = complaint(ValueError, build(CHOICE), token_ids(2, 3, 5), attention_mask=mask)
    assert message == "attention_mask must hold only 0 and 1 (or bool); found 2 at [1, 2, 3]"


# --------------------------------------------------------------------------- settings, parameters and devices


@pytest.mark.parametrize("masking", ["transformers", "invariant"])
@pytest.mark.parametrize("length", [11, 13, 3])
def test_chunks_that_do_not_divide_the_length(length, masking):
    model = build(BODY, chunk_size_feed_forward=4, masking=masking)
    message = complaint(ValueError, model, token_ids(2, length))
    expected = "the sequence length must be a multiple of chunk_size_feed_forward=4; found "
    assert message == expected + str(length)


@pytest.mark.parametrize("act", ["gelu_old", ""])
@pytest.mark.parametrize("model", MODELS)
def test_activation_changed_to_nonsense(model, act):
    head = build_another(model)
    head.config.hidden_act = act
    message = complaint(ValueError, head, IDS[None] if model is CHOICE else IDS)
    assert message.startswith("hidden_act must be a function or one of gelu, ")
    assert message.endswith(f", not {act!r}")


@pytest.mark.parametrize("labels", [[1, 0], [[0.0, 1.0, 0.0]] * 2])
def test_problem_type_changed_to_nonsense(labels):
    head = build_another(SEQUENCE, num_labels=3)
    head.config.problem_type = "multi_class"
    kinds = "'regression', 'single_label_classification', 'multi_label_classification'"
    expected = f"problem_type must be one of None, {kinds}, not 'multi_class'"
    assert complaint(ValueError, head, IDS, labels=labels) == expected
    assert complaint(ValueError, head, IDS) == expected


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("masking", "none", "masking must be one of 'transformers', 'original', 'invariant', not 'none'"),
        ("pinv_method", "exact", "pinv_method must be one of 'iterative', 'svd', not 'exact'"),
        ("num_attention_heads", 3, "hidden_size must be a multiple of num_attention_heads=3, not 16"),
        ("num_landmarks", 0, "num_landmarks must be an integer from 1 to 2147483647, not 0"),
    ],
)
@pytest.mark.parametrize("model", [BODY, CHOICE])
def test_configuration_changed_to_nonsense(model, name, value, words):
    """A field may be changed after the model was made, and is checked again."""
    head = build_another(model, num_hidden_layers=0)
    setattr(head.config, name, value)
    assert complaint(ValueError, head, IDS[None] if model is CHOICE else IDS) == words


@pytest.mark.parametrize("dtype", ["bfloat16", "int64", "complex64", "bool", "nonsense", "", 3, object, [], {}])
def test_unknown_dtype(dtype, tmp_path):
    words = f"dtype must be one of float32, float64, float16; found {dtype!r}"
    model = build_another(BODY)
    assert complaint(ValueError, model.to, dtype=dtype) == words
    assert complaint(ValueError, NystromformerModel, model.config, dtype=dtype) == words
    assert complaint(ValueError, NystromformerModel.from_pretrained, tmp_path, dtype=dtype) == words
    assert model.dtype == np.float64


def test_no_dtype(tmp_path):
    words = "dtype must be one of float32, float64, float16; found None"
    assert complaint(ValueError, NystromformerModel.from_pretrained, tmp_path, dtype=None) == words


@pytest.mark.parametrize("device", ["tpu", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "CPU", "", "gpu"])
def test_unknown_device(device, tmp_path):
    words = f'device must be "cpu", "cuda" or "cuda:N", found {device!r}'
    model = build_another(BODY)
    assert complaint(DeviceError, model.to, device) == words
    assert complaint(DeviceError, NystromformerModel.from_pretrained, tmp_path, device=device) == words
    assert model.device == "cpu"


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:1"])
def test_cuda_without_cupy(device, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    words = 'device "cuda" needs CuPy, which is not installed: pip install "nystrom_np[cuda12]" '
    words += '(or [cuda13], to match the driver), or use "cpu"'
    assert complaint(DeviceError, build_another(BODY).to, device) == words
    assert complaint(DeviceError, NystromformerModel.from_pretrained, tmp_path, device=device) == words


@pytest.mark.parametrize("model", MODELS)
def test_parameters_that_do_not_fit(model):
    config, good = small_config(), build(model).state_dict()
    first, last = next(iter(good)), list(good)[-1]
    fewer = {name: value for name, value in good.items() if name not in (first, last)}
    assert complaint(ValueError, model, config, parameters=fewer) == f"parameters are missing: {first}, {last}"
    more = {**good, "pooler.weight": good[first], "pooler.bias": good[last]}
    message = complaint(ValueError, model, config, parameters=more)
    assert message == "parameters of this model do not include: pooler.weight, pooler.bias"
    for name in (first, last):
        shape = good[name].shape
        for wrong in ((*shape, 1), shape[:-1], (shape[0] - 1, *shape[1:])):
            message = complaint(ValueError, model, config, parameters={**good, name: np.zeros(wrong)})
            assert message == f"parameter {name} must have shape {shape}; found {wrong}"
    assert complaint(ValueError, model, config, parameters={}).startswith(f"parameters are missing: {first}, ")


@pytest.mark.parametrize("value", [[("embeddings", np.zeros(3))], "weights", 5, np.zeros(3)])
def test_parameters_that_are_no_mapping(value):
    expected = f"parameters must be a mapping from names to arrays; found {type(value).__name__}"
    assert complaint(ValueError, BODY, small_config(), parameters=value) == expected


@pytest.mark.parametrize("dtype", ["int64", "bool", "complex128", "object", "<U1"])
def test_a_parameter_of_a_wrong_dtype(dtype):
    name = "embeddings.LayerNorm.weight"
    parameters = {**build(BODY).state_dict(), name: np.ones(16, int).astype(dtype)}
    message = complaint(ValueError, BODY, small_config(), parameters=parameters)
    assert message == f"parameter {name} must be one of float32, float64, float16; found {dtype}"


@pytest.mark.parametrize("value", [[1.0] * 16, "weights", None])
def test_a_parameter_that_is_no_array_is_named(value):
    name = "embeddings.LayerNorm.weight"
    parameters = {**build(BODY).state_dict(), name: value}
    message = complaint((ValueError, TypeError), BODY, small_config(), parameters=parameters)
    assert name in message
    assert type(value).__name__ in message


@pytest.mark.parametrize(("dtype", "other"), [("float64", "float32"), ("float32", "float64")])
def test_parameters_of_mixed_dtypes(dtype, other):
    name, good = "embeddings.LayerNorm.weight", build(BODY, dtype=dtype).state_dict()
    mixed = {**good, name: good[name].astype(other)}
    message = complaint(ValueError, BODY, small_config(), parameters=mixed)
    first = f"embeddings.word_embeddings.weight is {dtype}"
    assert message == f"parameters must have one dtype: {first}, {name} is {other}"


@pytest.mark.parametrize("seed", [-1, "one", 1.5, 2.0, True, None, np.int64(-1), [1]])
def test_seeds(seed):
    message = complaint(ValueError, BODY, small_config(), seed=seed)
    assert message == f"seed must be an integer from 0; found {seed!r}"


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3)])
def test_seeds_of_numpy(seed):
    expected, found = BODY(small_config(), seed=3).state_dict(), BODY(small_config(), seed=seed).state_dict()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_configuration_is_checked_again_when_a_model_is_made():
    config = small_config()
    config.num_attention_heads = 3
    assert complaint(ValueError, BODY, config) == "hidden_size must be a multiple of num_attention_heads=3, not 16"


# --------------------------------------------------------------------------------------- what stays as it was


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("masking", ["transformers", "original", "invariant"])
@pytest.mark.parametrize("model", MODELS)
def test_no_input_is_modified(model, masking, branch):
    """Neither arguments nor parameters: all of them are read-only here, and are the same afterwards."""
    fields = {"masking": masking, "num_labels": 2}
    head = build_another(model, branch, **fields, num_hidden_layers=1)
    given = inputs_for(model) | {"head_mask": np.array([[1, 0]])}
    arrays = [*given.values(), *head.state_dict().values()]
    before = copy.deepcopy(arrays)
    for array in arrays:
        array.flags.writeable = False
    head(**given, output_attentions=True, output_hidden_states=True)
    ids = given.pop("input_ids")
    embeds = np.random.RandomState(0).standard_normal((*ids.shape, 16))
    kept = embeds.copy()
    embeds.flags.writeable = False
    out = head(**given, inputs_embeds=embeds)
    for array, copied in zip([*arrays, embeds], [*before, kept], strict=True):
        np.testing.assert_array_equal(array, copied)
    for value in out.values():  # and what comes back is the caller's own
        assert not any(np.shares_memory(value, array) for array in (*arrays, embeds))


@pytest.mark.parametrize("model", MODELS)
def test_inputs_of_any_memory_layout(model):
    head, given = build(model), inputs_for(model)
    expected = head(**given)
    for change in (
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
        lambda a: a[..., ::-1].copy()[..., ::-1],
    ):
        found = head(**{name: change(value) for name, value in given.items()})
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("model", MODELS)
def test_a_forward_pass_never_changes_the_configuration(model):
    head, given = build_another(model), inputs_for(model)
    before = head.config.to_dict()
    head(**given, output_attentions=True, output_hidden_states=True, return_dict=False)
    assert head.config.to_dict() == before
    for name in ("labels", "start_positions", "end_positions"):
        given.pop(name, None)
    assert all(np.isfinite(logits).all() for logits in logits_of(head(**given)))
    assert head.config.to_dict() == before


def test_labels_choose_the_loss_anew_in_each_call():
    """The reference writes its first guess into the configuration, and then computes another loss."""
    head = build_another(SEQUENCE, num_labels=3, num_hidden_layers=0)
    before = head.config.to_dict()
    assert before["problem_type"] is None
    logits = head(IDS).logits
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    single = -(log_p[0, 2] + log_p[1, 0]) / 2
    targets = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    several = -(targets * np.log(1 / (1 + np.exp(-logits))) + (1 - targets) * np.log(1 / (1 + np.exp(logits)))).mean()
    for _ in range(2):
        assert_close(head(IDS, labels=[2, 0]).loss, single)
        assert_close(head(IDS, labels=np.array([2, 0], np.int32)).loss, single)
        assert_close(head(IDS, labels=targets).loss, several)
        assert_close(head(IDS, labels=targets.astype(bool)).loss, several)
    assert head.config.to_dict() == before
    assert abs(single - several) > 0.01


@pytest.mark.parametrize("model", HEADS)
def test_an_error_leaves_the_model_as_it_was(model):
    head, given = build(model), inputs_for(model)
    expected = logits_of(head(**given))
    complaint(IndexError, head, **{**given, "input_ids": given["input_ids"] + 1000})
    complaint(
        (IndexError, ValueError),
        head,
        **{**given, **{name: value.reshape(-1)[:0] for name, value in labels_for(model).items()}},
    )
    for found, logits in zip(logits_of(head(**given)), expected, strict=True):
        np.testing.assert_array_equal(found, logits)


def test_what_is_nested_too_deeply_or_fails_to_be_an_array_is_a_value_error() -> None:
    nested: list[object] = []
    for _ in range(5000):
        nested = [nested]
    with pytest.raises(ValueError, match="nested too deeply"):
        NystromformerConfig.from_dict({"task": nested})

    class Failing:
        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise RuntimeError("no array")

    with pytest.raises(ValueError, match=r"input_ids must be an array or nested lists of equal lengths \(no array\)"):
        check_inputs(Checks(np.zeros(1)), NystromformerConfig(), Failing())
    assert spans(np.array([0.5, 0.5]), np.array([0.5, 0.5]), 1, 10**30) == [(0.25, 1, 1)]
