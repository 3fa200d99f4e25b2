"""Models that are changed after they were made: another dtype, other values, another vocabulary."""

from typing import Any

import numpy as np
import pytest

from nystrom_np import NystromformerForMaskedLM
from tests.models import BODY, MASKED_LM, MODELS, SEQUENCE, build, build_another, small_config

IDS = [[7, 3, 9, 2, 5]]


def words(model: Any) -> np.ndarray:
    return np.asarray(model.get_input_embeddings().weight)


def assert_same(one: Any, other: Any) -> None:
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, value in one.state_dict().items():
        np.testing.assert_array_equal(value, other.state_dict()[name])


@pytest.mark.parametrize("cls", MODELS)
def test_half_float_and_double(cls: Any) -> None:
    model = build_another(cls)
    assert model.half() is model
    assert (model.dtype, model(np.array([IDS]) if cls.choices else IDS).to_tuple()[0].dtype) == (np.float16, np.float16)
    assert model.float() is model
    assert model.dtype == np.float32
    assert model.double().dtype == np.float64


# --- load_state_dict ---


@pytest.mark.parametrize("cls", MODELS)
def test_a_state_dict_is_copied(cls: Any) -> None:
    model, other = cls(small_config()), build(cls)
    state = {name: value.copy() for name, value in other.state_dict().items()}
    assert model.load_state_dict(state) == ([], [])
    assert model.dtype == np.float32
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, state[name].astype(np.float32))
        assert not np.shares_memory(value, state[name])


def test_the_names_that_the_reference_has_beside() -> None:
    model, state = MASKED_LM(small_config()), dict(build(MASKED_LM).state_dict())
    state["cls.predictions.decoder.weight"] = state["nystromformer.embeddings.word_embeddings.weight"]
    state["cls.predictions.decoder.bias"] = state.pop("cls.predictions.bias")
    assert model.load_state_dict(state) == ([], [])
    assert_same(model, build_another(MASKED_LM).float())
    with pytest.raises(ValueError, match="are one parameter, and have different values"):
        model.load_state_dict(state | {"cls.predictions.bias": np.ones(53)})


def test_what_is_missing_or_unexpected() -> None:
    model, before = SEQUENCE(small_config()), SEQUENCE(small_config())
    state = dict(build(SEQUENCE).state_dict())
    del state["classifier.dense.bias"]
    for changed, message in (
        (state, "lacks classifier.dense.bias; it has, unknown to the model, nothing"),
        (build(SEQUENCE).state_dict() | {"x": np.ones(1)}, "lacks nothing; it has, unknown to the model, x"),
        ({"a": [1.0]}, "lacks nystromformer.embeddings.word_embeddings.weight, .*, a$"),
    ):
        with pytest.raises(ValueError, match=message):
            model.load_state_dict(changed)
        assert_same(model, before)
    keys = model.load_state_dict(state | {"x": np.ones(1)}, strict=False)
    assert (keys.missing_keys, keys.unexpected_keys) == (["classifier.dense.bias"], ["x"])
    assert not model.state_dict()["classifier.dense.bias"].any()
    np.testing.assert_array_equal(
        model.state_dict()["classifier.dense.weight"],
        np.float32(build(SEQUENCE).state_dict()["classifier.dense.weight"]),
    )


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (np.ones(3), ValueError, r"classifier.dense.bias must have shape \(16,\); found \(3,\)"),
        (np.array(["a"] * 16), ValueError, "must be an array of numbers; found ndarray"),
        ("abc", ValueError, "must be an array of numbers; found str"),
    ],
)
def test_values_that_do_not_fit(value: Any, kind: Any, message: str) -> None:
    for strict in (True, False):
        with pytest.raises(kind, match=message):
            build_another(SEQUENCE).load_state_dict({"classifier.dense.bias": value}, strict=strict)
    with pytest.raises(TypeError, match="state_dict must be a mapping"):
        build_another(SEQUENCE).load_state_dict([value])


# --- embeddings ---


@pytest.mark.parametrize("cls", MODELS)
def test_input_embeddings_are_read_and_set(cls: Any) -> None:
    model = build_another(cls)
    table = model.get_input_embeddings()
    assert (table.num_embeddings, table.embedding_dim) == (53, 16)
    np.testing.assert_array_equal(table([[3, 5]]), table.weight[[[3, 5]]])
    new = np.random.default_rng(0).normal(size=(53, 16))
    expected = cls(model.config, parameters=model.state_dict() | {words_name(model): new})
    for value in (new, type(table)(new)):
        model.set_input_embeddings(value)
        assert_same(model, expected)
    ids = np.array([IDS]) if cls.choices else IDS
    np.testing.assert_array_equal(model(ids).to_tuple()[0], expected(ids).to_tuple()[0])
    with pytest.raises(ValueError, match=r"must have shape \(53, 16\); found \(54, 16\)"):
        model.set_input_embeddings(np.ones((54, 16)))


def words_name(model: Any) -> str:
    return next(name for name in model.state_dict() if name.endswith("word_embeddings.weight"))


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize("rows", [50, 53, 60])
def test_a_vocabulary_is_resized(cls: Any, rows: int) -> None:
    model, before = build_another(cls), build(cls)
    model.resize_token_embeddings(rows)
    assert (model.config.vocab_size, before.config.vocab_size) == (rows, 53)
    assert words(model).shape == (rows, 16)
    common = min(rows, 53)
    np.testing.assert_array_equal(words(model)[:common], words(before)[:common])
    ids = np.array([IDS]) if cls.choices else IDS
    for new, old in zip(model(ids).to_tuple(), before(ids).to_tuple(), strict=True):
        if cls is MASKED_LM:
            new, old = new[..., :common], old[..., :common]
        np.testing.assert_allclose(new, old, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("rows", "multiple", "expected"), [(3000, None, 3000), (2050, 64, 2112), (None, 100, 100)])
def test_new_rows_are_drawn_as_in_the_reference(tied: bool, rows: Any, multiple: Any, expected: int) -> None:
    """4.37.2: rows of standard deviation initializer_range, a bias of 0; untied, the stored bias stays short."""
    model = build_another(MASKED_LM, tie_word_embeddings=tied, initializer_range=0.3)
    model.state_dict()["cls.predictions.bias"][:] = 2.0
    model.resize_token_embeddings(rows, multiple)
    state = model.state_dict()
    tables = [words(model)] + ([] if tied else [state["cls.predictions.decoder.weight"]])
    for table in tables:
        assert table.shape == (expected, 16)
        assert np.std(table[53:]) == pytest.approx(0.3, rel=0.1)
    if not tied:
        assert not np.array_equal(*(table[53:] for table in tables))
    np.testing.assert_array_equal(state["cls.predictions.bias"], [2.0] * 53 + [0.0] * (expected - 53))
    assert model([[expected - 1]]).logits.shape == (1, 1, expected)


def test_a_resized_model_is_saved_and_loaded(tmp_path: Any) -> None:
    model = build_another(MASKED_LM, dtype="float32")
    model.resize_token_embeddings(60, seed=4)
    model.save_pretrained(tmp_path)
    assert_same(NystromformerForMaskedLM.from_pretrained(tmp_path), model)
    again = build_another(MASKED_LM, dtype="float32")
    again.resize_token_embeddings(60, seed=4)
    assert_same(again, model)
    again = build_another(MASKED_LM, dtype="float32")
    again.resize_token_embeddings(60, seed=5)
    assert not np.array_equal(words(again)[53:], words(model)[53:])


@pytest.mark.parametrize("number", [0, -1, 2.0, True, "7"])
def test_what_is_no_size(number: Any) -> None:
    model = build_another(BODY)
    with pytest.raises(ValueError, match="new_num_tokens must be a positive integer"):
        model.resize_token_embeddings(number)
    with pytest.raises(ValueError, match="pad_to_multiple_of must be a positive integer"):
        model.resize_token_embeddings(50, number)
    with pytest.raises(ValueError, match="pad_token_id must be"):
        model.resize_token_embeddings(1)
    assert_same(model, build(BODY))


# --- a configuration that is changed ---


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_size", 32),
        ("num_hidden_layers", 3),
        ("num_hidden_layers", 1),
        ("num_attention_heads", 4),
        ("vocab_size", 60),
        ("max_position_embeddings", 41),
        ("type_vocab_size", 2),
        ("conv_kernel_size", None),
        ("intermediate_size", 8),
    ],
)
def test_a_configuration_that_the_parameters_contradict(cls: Any, name: str, value: Any) -> None:
    model = build_another(cls)
    ids = np.array([IDS]) if cls.choices else IDS
    before = model(ids).to_tuple()[0]
    old = getattr(model.config, name)
    setattr(model.config, name, value)
    for call in (lambda: model(ids), lambda: list(model.predict({"input_ids": ids}))):
        with pytest.raises(ValueError, match=name):
            call()
    setattr(model.config, name, old)
    np.testing.assert_array_equal(model(ids).to_tuple()[0], before)


@pytest.mark.parametrize("cls", [SEQUENCE, MASKED_LM])
def test_only_what_a_head_has_is_contradicted(cls: Any) -> None:
    labels, tie = build_another(cls), build_another(cls)
    labels.config.num_labels = 5
    tie.config.tie_word_embeddings = False
    wrong, right = (labels, tie) if cls is SEQUENCE else (tie, labels)
    np.testing.assert_array_equal(right(IDS).logits, build(cls)(IDS).logits)
    with pytest.raises(ValueError, match=r"changed in (num_labels|tie_word_embeddings) after the model was made"):
        wrong(IDS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("pruned_heads", {0: [1]}),
        ("hidden_act", "nonsense"),
        ("masking", "none"),
        ("pinv_iterations", 0),
        ("layer_norm_eps", -1.0),
    ],
)
@pytest.mark.parametrize("cls", [BODY, SEQUENCE])
def test_a_configuration_that_is_wrong_by_now(cls: Any, name: str, value: Any) -> None:
    model = build_another(cls)
    setattr(model.config, name, value)
    for _ in range(2):
        with pytest.raises(ValueError, match=f"{name} must be"):
            model(IDS)


@pytest.mark.parametrize(("name", "value"), [("num_landmarks", 16), ("hidden_act", "relu"), ("pinv_method", "svd")])
def test_a_configuration_that_the_model_follows(name: str, value: Any) -> None:
    model = build_another(BODY)
    before = model(IDS).last_hidden_state
    model.config.update({name: value})
    expected = BODY(small_config(**{name: value}), parameters=model.state_dict())
    np.testing.assert_array_equal(model(IDS).last_hidden_state, expected(IDS).last_hidden_state)
    assert not np.array_equal(model(IDS).last_hidden_state, before)
