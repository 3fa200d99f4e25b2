"""The model and its heads: every argument, what comes back, where the parameters come from and go to."""

import inspect
import math
import threading

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

from nystrom_np import NystromformerConfig, outputs
from tests.models import (
    ANSWER,
    BODY,
    BRANCHES,
    CHOICE,
    HEADS,
    MASKED_LM,
    MODELS,
    SEQUENCE,
    TOKEN,
    assert_close,
    assert_everything,
    build,
    build_another,
    defined,
    inputs_for,
    logits_of,
    small_config,
    token_ids,
)

pytestmark = pytest.mark.usefixtures("anywhere")

EVERYTHING = {"output_attentions": True, "output_hidden_states": True}
ENCODER = ["input_ids", "attention_mask", "token_type_ids", "position_ids", "head_mask", "inputs_embeds"]
LABELS = {BODY: [], ANSWER: ["start_positions", "end_positions"]}
RECORDS = {
    BODY: outputs.BaseModelOutput,
    MASKED_LM: outputs.MaskedLMOutput,
    SEQUENCE: outputs.SequenceClassifierOutput,
    CHOICE: outputs.MultipleChoiceModelOutput,
    TOKEN: outputs.TokenClassifierOutput,
    ANSWER: outputs.QuestionAnsweringModelOutput,
}


def same(found, expected):
    """Two records or tuples that are equal to the bit."""
    found, expected = ((x if isinstance(x, tuple) else x.to_tuple()) for x in (found, expected))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert isinstance(one, tuple) == isinstance(other, tuple)
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other), strict=True)


# ------------------------------------------------------------------------------------------------ arguments


@pytest.mark.parametrize("model", MODELS)
def test_arguments_have_the_documented_order(model):
    names = [
        *ENCODER,
        *LABELS.get(model, ["labels"]),
        *("output_attentions", "output_hidden_states", "return_dict"),
    ]
    parameters = inspect.signature(model.__call__).parameters
    assert list(parameters) == ["self", *names]
    assert all(parameters[name].default is None for name in names)
    assert inspect.signature(model.forward) == inspect.signature(model.__call__)
    head, given = build(model), inputs_for(model)
    by_place = [given.get(name) for name in names[:-3]]
    same(head.forward(*by_place, True, True, True), head(**given, **EVERYTHING))


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("model", MODELS)
def test_every_argument_matters(model, branch):
    """Leaving any one of them out changes the answer, and so does another value."""
    head, given = build(model, branch, num_hidden_layers=1), inputs_for(model)
    given["head_mask"] = np.array([[1, 0]])
    answer = logits_of(head(**given))
    for name in ("attention_mask", "token_type_ids", "position_ids", "head_mask"):
        without = logits_of(head(**{key: value for key, value in given.items() if key != name}))
        assert all(abs(one - other).max() > 1e-3 for one, other in zip(answer, without, strict=True))
    given["input_ids"] = (given["input_ids"] + 7) % 53
    assert all(abs(one - other).max() > 1e-3 for one, other in zip(answer, logits_of(head(**given)), strict=True))


@pytest.mark.parametrize("branch", BRANCHES)
def test_positions_and_types_index_their_tables(branch):
    model, state = build(BODY, branch), np.random.RandomState(0)
    ids, types, positions = (
        token_ids(3, 11),
        state.randint(0, 3, size=(3, 11)),
        state.randint(0, 42, size=(3, 11)),
    )
    mask = np.ones((3, 11), int)
    mask[1, 7:] = 0
    found = model(ids, attention_mask=mask, token_type_ids=types, position_ids=positions, **EVERYTHING)
    rows = {name.removesuffix("_embeddings.weight"): table for name, table in model.state_dict().items()}
    x = rows["embeddings.word"][ids] + rows["embeddings.token_type"][types] + rows["embeddings.position"][positions]
    affine = (rows["embeddings.LayerNorm.weight"], rows["embeddings.LayerNorm.bias"])
    assert_close(found.hidden_states[0], norm(x, *affine), 1e-12)
    expected = defined(model, ids, attention_mask=mask, token_type_ids=types, position_ids=positions)
    assert_everything(found, expected)
    zeros = np.zeros((3, 11), int)
    same(model(ids, token_type_ids=zeros), model(ids))
    same(model(ids, position_ids=zeros + np.arange(2, 13)), model(ids))
    same(model(ids, attention_mask=zeros + 1, head_mask=[1, 1]), model(ids))


@pytest.mark.parametrize("model", MODELS)
def test_embeddings_in_place_of_ids(model):
    head, given = build(model), inputs_for(model)
    name = "embeddings.word_embeddings.weight" if model is BODY else "nystromformer.embeddings.word_embeddings.weight"
    embeds = head.state_dict()[name][given["input_ids"]]
    expected = head(**given, **EVERYTHING)
    del given["input_ids"]
    same(head(**given, inputs_embeds=embeds, **EVERYTHING), expected)


@pytest.mark.parametrize("branch", BRANCHES)
def test_long_sequences_are_cut_into_blocks(branch):
    """More positions, scores and rows than any block holds: threads and bounded memory change no number."""
    model = build(BODY, branch, 300, max_position_embeddings=300, num_hidden_layers=1, conv_kernel_size=9)
    ids, mask = token_ids(2, 300), np.ones((2, 300), int)
    mask[1, 200:] = 0
    expected = defined(model, ids, mask)
    assert_everything(model(ids, attention_mask=mask, **EVERYTHING), expected)
    assert_close(model(ids, attention_mask=mask).last_hidden_state, expected[0])


# ------------------------------------------------------------------------------------------ what comes back


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("model", MODELS)
def test_records_and_tuples(model, branch):
    """In order: the loss if there is one, the logits, hidden states and attentions if asked for."""
    head, given = build(model, branch, num_hidden_layers=1), inputs_for(model)
    rows, length = (6, 11) if model is CHOICE else (2, 11)
    columns = 11 if branch == "dense" else 4
    shapes = {
        BODY: [(2, 11, 16)],
        MASKED_LM: [(2, 11, 53)],
        SEQUENCE: [(2, 2)],
        CHOICE: [(2, 3)],
        TOKEN: [(2, 11, 2)],
        ANSWER: [(2, 11), (2, 11)],
    }[model]
    every = [(True, True, True), (True, False, False), (False, True, False), (False, False, True)]
    for labelled, states, attentions in every:
        chosen = {n: v for n, v in given.items() if labelled or n not in ("labels", "start_positions", "end_positions")}
        asked = {"output_hidden_states": states, "output_attentions": attentions}
        record = head(**chosen, **asked)
        assert type(record) is RECORDS[model]
        values = head(**chosen, **asked, return_dict=False)
        assert type(values) is tuple
        same(values, record)
        left = list(values)
        if labelled and model is not BODY:
            assert left.pop(0).shape == ()
            assert float(record.loss) > 0
        for shape in shapes:
            assert left.pop(0).shape == shape
        if states:
            assert [state.shape for state in left.pop(0)] == [(rows, length, 16)] * 2
        if attentions:
            assert [weights.shape for weights in left.pop(0)] == [(rows, 2, length, columns)]
        assert not left


@pytest.mark.parametrize("model", MODELS)
def test_the_configuration_says_what_comes_back(model):
    given = inputs_for(model)
    head = build(model, num_hidden_layers=1, output_attentions=True, output_hidden_states=True, return_dict=False)
    everything = build(model, num_hidden_layers=1)(**given, **EVERYTHING)
    same(head(**given), everything)
    assert type(head(**given)) is tuple
    assert type(head(**given, return_dict=True)) is RECORDS[model]
    less = head(**given, output_attentions=False, output_hidden_states=False)
    assert len(less) == len(everything) - 2
    assert build(model, num_hidden_layers=1, output_attentions=True)(**given).attentions is not None
    assert build(model, num_hidden_layers=1, output_attentions=True)(**given).hidden_states is None
    assert build(model, num_hidden_layers=1, output_hidden_states=True)(**given).attentions is None


@pytest.mark.parametrize("branch", BRANCHES)
def test_hidden_states_begin_with_the_embeddings(branch):
    model, ids = build(BODY, branch), token_ids(2, 11)
    out, expected = model(ids, **EVERYTHING), defined(model, ids)
    assert_close(out.hidden_states[0], expected.hidden_states[0], 1e-13)
    assert out.hidden_states[-1] is out.last_hidden_state
    assert_everything(out, expected)
    none = build(BODY, branch, num_hidden_layers=0)(ids, **EVERYTHING)
    assert none.attentions == ()
    assert len(none.hidden_states) == 1
    assert_close(none.last_hidden_state, expected.hidden_states[0], 1e-13)


# ---------------------------------------------------------------------------------------------------- heads


def head_of(model, branch, **fields):
    """A head, its parameters by short names, and the encoder's output for some ids."""
    head = build(model, branch, **fields)
    ids = token_ids(2, 3, 11) if model is CHOICE else token_ids(2, 11)
    p = {name: value for name, value in head.state_dict().items() if not name.startswith("nystromformer.")}
    return head, ids, p, defined(head, ids).hidden_states[-1]


def cross_entropy(logits, labels):
    logits = np.asarray(logits).reshape(-1, np.shape(logits)[-1])
    terms = [
        math.log(sum(math.exp(x - row.max()) for x in row)) + row.max() - row[label]
        for row, label in zip(logits, np.ravel(labels), strict=True)
        if label != -100
    ]
    return sum(terms) / len(terms)


def gelu_new(x):
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def norm(x, weight, bias, eps=1e-5):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * weight + bias


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("tied", [True, False])
def test_masked_language_model(branch, tied):
    head, ids, p, x = head_of(MASKED_LM, branch, tie_word_embeddings=tied)
    p = {name.removeprefix("cls.predictions."): value for name, value in p.items()}
    x = gelu_new(x @ p["transform.dense.weight"].T + p["transform.dense.bias"])
    x = norm(x, p["transform.LayerNorm.weight"], p["transform.LayerNorm.bias"])
    words = head.state_dict()["nystromformer.embeddings.word_embeddings.weight"]
    assert ("decoder.weight" in p) == (not tied)
    logits = x @ (words if tied else p["decoder.weight"]).T + p["bias"]
    labels = np.where(np.arange(22).reshape(2, 11) % 3, token_ids(2, 11, seed=5), -100)
    out = head(ids, labels=labels)
    assert_close(out.logits, logits)
    assert_close(out.loss, cross_entropy(logits, labels))


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("act", ["gelu_new", "tanh"])
def test_sequence_classification(branch, act):
    """The head's activation is the configuration's."""
    head, ids, p, x = head_of(SEQUENCE, branch, hidden_act=act, num_labels=3)
    function = {"gelu_new": gelu_new, "tanh": np.tanh}[act]
    first = x[:, 0]
    hidden = function(first @ p["classifier.dense.weight"].T + p["classifier.dense.bias"])
    logits = hidden @ p["classifier.out_proj.weight"].T + p["classifier.out_proj.bias"]
    assert_close(head(ids).logits, logits)
    assert_close(head(ids, labels=[2, 0]).loss, cross_entropy(logits, [2, 0]))
    assert_close(head(ids, labels=[-100, 0]).loss, cross_entropy(logits[1:], [0]))
    assert np.isnan(head(ids, labels=[-100, -100]).loss)


@pytest.mark.parametrize("branch", BRANCHES)
def test_multiple_choice(branch):
    """The head's activation is ReLU, and −100 is ignored; floats are a distribution over the choices."""
    head, ids, p, x = head_of(CHOICE, branch)
    hidden = np.maximum(x[:, 0] @ p["pre_classifier.weight"].T + p["pre_classifier.bias"], 0)
    logits = (hidden @ p["classifier.weight"].T + p["classifier.bias"]).reshape(2, 3)
    out = head(ids, **EVERYTHING)
    assert_close(out.logits, logits)
    assert_close(out.hidden_states[-1], x)
    assert_close(head(ids, labels=[2, 0]).loss, cross_entropy(logits, [2, 0]))
    assert_close(head(ids, labels=[2, -100]).loss, cross_entropy(logits[:1], [2]))
    targets = np.array([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]])
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    assert_close(head(ids, labels=targets).loss, -(targets * log_p).sum(axis=-1).mean())
    folded = head(ids, attention_mask=np.ones((6, 11), int), position_ids=np.arange(2, 13)).logits
    assert_close(folded, logits)  # folded already, or the same for all


@pytest.mark.parametrize("branch", BRANCHES)
def test_token_classification(branch):
    head, ids, p, x = head_of(TOKEN, branch, num_labels=4)
    logits = x @ p["classifier.weight"].T + p["classifier.bias"]
    labels = np.arange(22).reshape(2, 11) % 5 - 1
    labels[labels == -1] = -100
    out = head(ids, labels=labels)
    assert_close(out.logits, logits)
    assert_close(out.loss, cross_entropy(logits, labels))


@pytest.mark.parametrize("branch", BRANCHES)
def test_question_answering(branch):
    """Two outputs whatever the labels are; positions are clamped to [0, L], and L itself is ignored."""
    head, ids, p, x = head_of(ANSWER, branch, num_labels=5)
    logits = x @ p["qa_outputs.weight"].T + p["qa_outputs.bias"]
    start, end = logits[..., 0], logits[..., 1]
    out = head(ids, start_positions=[1, 10], end_positions=[4, 0])
    assert_close(out.start_logits, start)
    assert_close(out.end_logits, end)
    assert_close(out.loss, (cross_entropy(start, [1, 10]) + cross_entropy(end, [4, 0])) / 2)
    clamped = (cross_entropy(start, [0, 3]) + cross_entropy(end[:1], [2])) / 2
    assert_close(head(ids, start_positions=[-100, 3], end_positions=[2, 11]).loss, clamped)
    assert_close(head(ids, start_positions=[[-1], [3]], end_positions=[[2], [500]]).loss, clamped)
    assert np.isnan(head(ids, start_positions=[11, 12], end_positions=[1, 1]).loss)
    assert head(ids, start_positions=[1, 1]).loss is None
    assert head(ids, end_positions=[1, 1]).loss is None


# ------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("chunk", [1, 3, 12, -1, 0])
def test_chunks_of_the_feed_forward_change_nothing(branch, chunk):
    ids = token_ids(3, 12)
    expected = build(BODY, branch)(ids, **EVERYTHING)
    found = build(BODY, branch, chunk_size_feed_forward=chunk)(ids, **EVERYTHING)
    for one, other in zip(
        (*found.hidden_states, *found.attentions),
        (*expected.hidden_states, *expected.attentions),
        strict=True,
    ):
        assert_close(one, other, 1e-13)


@pytest.mark.parametrize("chunk", [1, 3])
def test_chunks_are_what_the_feed_forward_sees(chunk):
    """No more rows at once than the chunk has."""
    seen = []

    def act(x):
        seen.append(x.shape)
        return np.tanh(x)

    build_another(BODY, hidden_act=act, chunk_size_feed_forward=chunk, num_hidden_layers=1)(token_ids(2, 12))
    assert sum(rows for rows, _ in seen) == 24
    assert max(rows for rows, _ in seen) <= chunk
    assert {width for _, width in seen} == {24}


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("model", MODELS)
def test_the_activation_may_be_a_function(model, branch):
    """Also for sequence classification, where the reference looks a name up."""
    given = inputs_for(model)
    by_name = build(model, branch, hidden_act="tanh")(**given, **EVERYTHING).to_tuple()
    by_function = build_another(model, branch, hidden_act=np.tanh)(**given, **EVERYTHING).to_tuple()
    for found, expected in zip(by_function, by_name, strict=True):
        for one, other in zip(*((x if isinstance(x, tuple) else (x,)) for x in (found, expected)), strict=True):
            assert_close(one, other)


@pytest.mark.parametrize("model", MODELS)
def test_selu_in_every_head(model):
    head, given = build(model, hidden_act="selu"), inputs_for(model)

    def selu(x):
        return 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))

    by_hand = build_another(model, hidden_act=selu)(**given)
    for found, expected in zip(head(**given).to_tuple(), by_hand.to_tuple(), strict=True):
        assert_close(found, expected)


@pytest.mark.parametrize("iterations", [1, 2, 6, 10])
def test_iterations_of_the_inverse(iterations):
    model, ids = build(BODY, pinv_iterations=iterations), token_ids(2, 16)
    assert_close(model(ids).last_hidden_state, defined(model, ids)[0])
    if iterations != 6:
        assert abs(model(ids).last_hidden_state - build(BODY)(ids).last_hidden_state).max() > 1e-4


def test_exact_inverse():
    """By singular values; what the iteration tends to."""
    ids = token_ids(2, 16)
    svd = build(BODY, pinv_method="svd", num_hidden_layers=1)(ids, **EVERYTHING)
    steps = build(BODY, pinv_iterations=30, num_hidden_layers=1)(ids, **EVERYTHING)
    assert_close(svd.attentions[0], steps.attentions[0], 1e-8)
    assert_close(svd.last_hidden_state, steps.last_hidden_state, 1e-8)
    assert abs(svd.last_hidden_state - build(BODY, num_hidden_layers=1)(ids).last_hidden_state).max() > 1e-4
    without = build(BODY, pinv_method="svd", num_hidden_layers=1)(ids).last_hidden_state  # in bounded memory
    assert_close(without, svd.last_hidden_state)


@pytest.mark.parametrize("branch", BRANCHES)
def test_layer_norm_epsilon(branch):
    model, ids = build(BODY, branch, layer_norm_eps=0.5), token_ids(2, 16)
    assert_close(model(ids).last_hidden_state, defined(model, ids)[0])


@pytest.mark.parametrize("heads", [1, 4, 16])
@pytest.mark.parametrize("branch", BRANCHES)
def test_number_of_heads(branch, heads):
    """Of widths 16, 4 and 1: each is scaled by its own width."""
    model, ids = build(BODY, branch, num_attention_heads=heads), token_ids(2, 16)
    assert_close(model(ids).last_hidden_state, defined(model, ids)[0])


def test_head_mask_of_all_layers_or_each():
    model, ids = build(BODY), token_ids(2, 16)
    same(model(ids, head_mask=[0, 1]), model(ids, head_mask=[[0, 1], [0, 1]]))
    silent = model(ids, head_mask=[0, 0], output_hidden_states=True).hidden_states
    zeroed = model.state_dict()
    for layer in (0, 1):
        name = f"encoder.layer.{layer}.attention.output.dense.weight"
        zeroed[name] = np.zeros_like(zeroed[name])
    expected = BODY(model.config, parameters=zeroed)(ids, output_hidden_states=True).hidden_states
    for one, other in zip(silent, expected, strict=True):
        assert_close(one, other)


# ----------------------------------------------------------------------------------------------- parameters


def test_names_and_number_of_parameters():
    shapes = {name: value.shape for name, value in BODY(small_config()).state_dict().items()}
    layer = {
        "attention.self.query.weight": (16, 16),
        "attention.self.query.bias": (16,),
        "attention.self.key.weight": (16, 16),
        "attention.self.key.bias": (16,),
        "attention.self.value.weight": (16, 16),
        "attention.self.value.bias": (16,),
        "attention.self.conv.weight": (2, 1, 5, 1),
        "attention.output.dense.weight": (16, 16),
        "attention.output.dense.bias": (16,),
        "attention.output.LayerNorm.weight": (16,),
        "attention.output.LayerNorm.bias": (16,),
        "intermediate.dense.weight": (24, 16),
        "intermediate.dense.bias": (24,),
        "output.dense.weight": (16, 24),
        "output.dense.bias": (16,),
        "output.LayerNorm.weight": (16,),
        "output.LayerNorm.bias": (16,),
    }
    body = {
        "embeddings.word_embeddings.weight": (53, 16),
        "embeddings.position_embeddings.weight": (42, 16),
        "embeddings.token_type_embeddings.weight": (3, 16),
        "embeddings.LayerNorm.weight": (16,),
        "embeddings.LayerNorm.bias": (16,),
        **{f"encoder.layer.{i}.{name}": shape for i in range(2) for name, shape in layer.items()},
    }
    assert shapes == body
    heads = {
        MASKED_LM: {
            "cls.predictions.transform.dense.weight": (16, 16),
            "cls.predictions.transform.dense.bias": (16,),
            "cls.predictions.transform.LayerNorm.weight": (16,),
            "cls.predictions.transform.LayerNorm.bias": (16,),
            "cls.predictions.bias": (53,),
        },
        SEQUENCE: {
            "classifier.dense.weight": (16, 16),
            "classifier.dense.bias": (16,),
            "classifier.out_proj.weight": (4, 16),
            "classifier.out_proj.bias": (4,),
        },
        CHOICE: {
            "pre_classifier.weight": (16, 16),
            "pre_classifier.bias": (16,),
            "classifier.weight": (1, 16),
            "classifier.bias": (1,),
        },
        TOKEN: {"classifier.weight": (4, 16), "classifier.bias": (4,)},
        ANSWER: {"qa_outputs.weight": (2, 16), "qa_outputs.bias": (2,)},
    }
    for model, own in heads.items():
        head = model(small_config(num_labels=4))
        expected = {f"nystromformer.{name}": shape for name, shape in body.items()} | own
        assert {name: value.shape for name, value in head.state_dict().items()} == expected
        assert head.num_parameters() == sum(math.prod(shape) for shape in expected.values())
        assert list(model.parameter_shapes(head.config)) == list(head.state_dict())
    untied = MASKED_LM(small_config(tie_word_embeddings=False)).state_dict()
    assert untied["cls.predictions.decoder.weight"].shape == (53, 16)


def test_state_dict_is_the_model_s_own():
    model = build_another(BODY)
    first, second = model.state_dict(), model.state_dict()
    assert first is not second
    assert all(first[name] is second[name] for name in first)
    first.clear()
    assert model.state_dict().keys() == second.keys()
    given = dict(second)
    again = BODY(model.config, parameters=dict(reversed(given.items())))
    assert list(again.state_dict()) == list(second)
    assert all(again.state_dict()[name] is given[name] for name in given)
    ids = token_ids(2, 11)
    same(again(ids), model(ids))


def test_seeds_are_reproducible():
    for model in MODELS:
        first, second, other = (
            model(small_config(), seed=3),
            model(small_config(), 3),
            model(small_config(), seed=4),
        )
        default, zero = model(small_config()), model(small_config(), seed=0)
        for name, value in first.state_dict().items():
            assert value.dtype == np.float32
            np.testing.assert_array_equal(value, second.state_dict()[name])
            np.testing.assert_array_equal(default.state_dict()[name], zero.state_dict()[name])
            drawn = value.ndim > 1
            assert np.array_equal(value, other.state_dict()[name]) == (not drawn)
        assert first.initialised == ()


def test_the_body_drawn_does_not_depend_on_the_head():
    bodies = [
        {name: value for name, value in head(small_config(), seed=3).state_dict().items() if name.startswith("nys")}
        for head in HEADS
    ]
    bare = BODY(small_config(), seed=3).state_dict()
    bodies.append({"nystromformer." + name: value for name, value in bare.items()})
    for body in bodies[1:]:
        assert body.keys() == bodies[0].keys()
        for name, value in body.items():
            np.testing.assert_array_equal(value, bodies[0][name])
    weights = [value.ravel()[:16] for value in bodies[0].values() if value.ndim > 1]
    distinct = {tuple(weight.tolist()) for weight in weights}
    assert len(distinct) == len(weights)  # each parameter has a stream of its own


@pytest.mark.parametrize("spread", [0.02, 0.5])
def test_first_values(spread):
    """Weights are normal, biases 0, LayerNorm 1 and 0, and the padding token's row is 0."""
    config = small_config(initializer_range=spread, hidden_size=64, vocab_size=400, pad_token_id=7)
    parameters = MASKED_LM(config).state_dict()
    for name, value in parameters.items():
        if name.endswith("bias"):
            assert not value.any()
        elif name.endswith("LayerNorm.weight"):
            assert (value == 1).all()
        else:
            assert value.any()
    words = parameters["nystromformer.embeddings.word_embeddings.weight"]
    assert not words[7].any()
    assert words[[6, 8]].all()
    drawn = np.delete(words, 7, axis=0).ravel() / spread
    assert abs(drawn.mean()) < 0.03
    assert abs(drawn.std() - 1) < 0.03
    assert abs((abs(drawn) < 1).mean() - 0.6827) < 0.01  # of a normal distribution
    no_padding = MASKED_LM(small_config(pad_token_id=None)).state_dict()
    assert no_padding["nystromformer.embeddings.word_embeddings.weight"].any(axis=1).all()
    last = BODY(small_config(pad_token_id=-1)).state_dict()["embeddings.word_embeddings.weight"]
    assert not last[52].any()


# --------------------------------------------------------------------------------------- dtypes and devices


def test_to_a_dtype():
    model = build_another(MASKED_LM)
    values = model.state_dict()
    assert model.dtype == np.float64
    assert model.device == "cpu"
    for dtype, given in (("float32", "float32"), ("float16", np.float16), ("float64", np.dtype("float64"))):
        assert model.to(dtype=given) is model
        assert model.dtype == model.nystromformer.dtype == np.dtype(dtype)
        assert {str(value.dtype) for value in model.state_dict().values()} == {dtype}
        out = model(token_ids(1, 11), labels=token_ids(1, 11), **EVERYTHING)
        for array in (out.loss, out.logits, *out.hidden_states, *out.attentions):
            assert array.dtype == np.dtype(dtype)
    rounded = {name: value.astype("float32").astype("float16") for name, value in values.items()}
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, rounded[name])
    assert model.to("float32").dtype == np.float32  # as torch's users write it
    assert model.to(np.float64).dtype == np.float64
    assert model.to("cpu", "float32").dtype == np.float32
    kept = model.state_dict()
    assert model.to("cpu").to().to("float32") is model  # where it is so already, nothing is copied
    assert all(model.state_dict()[name] is value for name, value in kept.items())
    assert model.eval() is model
    assert BODY(small_config(), dtype="float64").dtype == np.float64
    assert BODY(small_config()).dtype == np.float32


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("model", MODELS)
def test_single_precision(model, branch):
    given = inputs_for(model)
    exact = build(model, branch)
    single = build(model, branch, dtype="float32")
    # the weights are rounded as well, so the float64 model gets the same ones
    rounded = {name: value.astype("float64") for name, value in single.state_dict().items()}
    expected = model(exact.config, parameters=rounded)(**given)
    for name, value in single(**given).items():
        assert value.dtype == np.float32
        assert_close(value, expected[name], 2e-4)


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.host
def test_half_precision_is_a_format_to_store(branch):
    """On the CPU the computation is in float32, and only its outputs are rounded."""
    half = build(BODY, branch, dtype="float16")
    stored = {name: value.astype("float32") for name, value in half.state_dict().items()}
    single = BODY(half.config, parameters=stored)(token_ids(3, 16), **EVERYTHING)
    found = half(token_ids(3, 16), **EVERYTHING)
    for one, other in zip(
        (*found.hidden_states, *found.attentions), (*single.hidden_states, *single.attentions), strict=True
    ):
        assert one.dtype == np.float16
        np.testing.assert_array_equal(one, other.astype("float16"))


# ------------------------------------------------------------------------------------------ saving, loading


@pytest.mark.parametrize(
    ("model", "dtype"), [*((model, "float32") for model in MODELS), (ANSWER, "float64"), (CHOICE, "float16")]
)
@pytest.mark.host
def test_save_and_load_is_the_identity(model, dtype, tmp_path):
    saved = build_another(model, dtype=dtype, num_labels=2, masking="original")
    saved.save_pretrained(tmp_path / "new" / "folder")
    loaded = model.from_pretrained(tmp_path / "new" / "folder", dtype=dtype)
    assert loaded.config.masking == "original"
    assert loaded.initialised == ()
    assert list(loaded.state_dict()) == list(saved.state_dict())
    for name, value in loaded.state_dict().items():
        np.testing.assert_array_equal(value, saved.state_dict()[name], strict=True)
        assert not value.flags.writeable  # mapped from the file
        assert not value.flags.owndata
    given = inputs_for(model)
    same(loaded(**given, **EVERYTHING), saved(**given, **EVERYTHING))
    assert model.from_pretrained(tmp_path / "new" / "folder").dtype == np.float32
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


@pytest.mark.host
def test_save_into_the_folder_it_was_loaded_from(tmp_path):
    """The file is mapped while it is replaced; the loaded model keeps its values."""
    saved = build(MASKED_LM, dtype="float32")
    saved.save_pretrained(tmp_path)
    loaded = MASKED_LM.from_pretrained(tmp_path)
    loaded.save_pretrained(tmp_path)
    loaded.to(dtype="float64").save_pretrained(tmp_path)
    again = MASKED_LM.from_pretrained(tmp_path)
    for name, value in saved.state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], value)
        np.testing.assert_array_equal(again.state_dict()[name], value, strict=True)
    assert NystromformerConfig.from_pretrained(tmp_path).torch_dtype == "float64"
    assert NystromformerConfig.from_pretrained(tmp_path).architectures == ["NystromformerForMaskedLM"]


@pytest.mark.host
def test_a_head_on_another_model_s_file(tmp_path):
    """The body is loaded, the head is drawn, and one warning says so."""
    body = build(BODY, dtype="float32")
    body.save_pretrained(tmp_path)
    with pytest.warns(
        UserWarning, match="drawn at random, as the checkpoint lacks them: qa_outputs.weight, qa_outputs.bias"
    ):
        head = ANSWER.from_pretrained(tmp_path)
    assert head.initialised == ("qa_outputs.weight", "qa_outputs.bias")
    fresh = ANSWER(head.config, seed=0).state_dict()
    for name, value in head.state_dict().items():
        expected = fresh[name] if name in head.initialised else body.state_dict()[name.removeprefix("nystromformer.")]
        np.testing.assert_array_equal(value, expected)
    ids = token_ids(2, 11)
    found = head(ids, output_hidden_states=True).hidden_states[-1]
    np.testing.assert_array_equal(found, body(ids).last_hidden_state)


@pytest.mark.host
def test_overrides_at_load(tmp_path):
    build(BODY, dtype="float32").save_pretrained(tmp_path)
    loaded = BODY.from_pretrained(tmp_path, inv_coeff_init_option=True, output_attentions=True, num_landmarks=8)
    ids = token_ids(2, 16)
    given = build(BODY, inv_coeff_init_option=True, num_landmarks=8, dtype="float32")
    expected = BODY(given.config, parameters=build(BODY, dtype="float32").state_dict())(ids, output_attentions=True)
    same(loaded(ids), expected)
    assert expected.attentions[0].shape == (2, 2, 16, 8)
    with pytest.raises(TypeError, match="no such configuration field: landmarks"):
        BODY.from_pretrained(tmp_path, landmarks=8)


# -------------------------------------------------------------------------------------------------- threads


@pytest.mark.parametrize("masking", ["transformers", "invariant"])
@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.host
def test_calls_from_several_threads(branch, masking):
    """The same as one after the other, and BLAS has its threads back afterwards."""
    model = build(BODY, branch, 100, max_position_embeddings=100, masking=masking)
    batches = [token_ids(3, 100, seed=seed) for seed in range(6)]
    mask = np.ones((3, 100), int)
    mask[1, 60:] = 0
    expected = [model(ids, attention_mask=mask).last_hidden_state for ids in batches]
    before = ThreadpoolController().info()
    found = [None] * len(batches)

    def call(i):
        found[i] = model(batches[i], attention_mask=mask).last_hidden_state

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, 1e-13)
    assert ThreadpoolController().info() == before


@pytest.mark.parametrize("masking", ["transformers", "original", "invariant"])
@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.host
def test_the_number_of_threads_changes_nothing(branch, masking):
    model = build(BODY, branch, 100, max_position_embeddings=100, masking=masking)
    ids, mask = token_ids(3, 100), np.ones((3, 100), int)
    mask[1, 60:] = 0
    results = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            results.append(model(ids, attention_mask=mask, **EVERYTHING))
    for one, other in zip(*(result.hidden_states + result.attentions for result in results), strict=True):
        assert_close(one, other, 1e-12)


@pytest.mark.host
def test_an_error_inside_gives_blas_its_threads_back():
    class Broken(Exception):
        pass

    def act(x):
        raise Broken

    before = ThreadpoolController().info()
    model = build_another(BODY, hidden_act=act)
    with pytest.raises(Broken):
        model(token_ids(4, 40))
    assert ThreadpoolController().info() == before


@pytest.mark.host
def test_numpy_s_error_state_holds_in_the_threads():
    """What a caller sets with `numpy.errstate` is obeyed in every block of work."""

    def act(x):
        return np.zeros_like(x) / np.zeros_like(x)

    model = build_another(BODY, hidden_act=act)
    with np.errstate(invalid="ignore"):
        assert np.isnan(model(token_ids(4, 40)).last_hidden_state).all()
    with np.errstate(invalid="raise"), pytest.raises(FloatingPointError):
        model(token_ids(4, 40))


# -------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("model", HEADS)
def test_a_batch_is_its_sequences(model):
    """With the initial inverse of each matrix alone, each row of a batch is what the sequence gives."""
    head = build(model, inv_coeff_init_option=True)
    ids = token_ids(4, 3, 16) if model is CHOICE else token_ids(4, 16)
    together = logits_of(head(ids))
    for row in range(4):
        for found, alone in zip(together, logits_of(head(ids[row : row + 1])), strict=True):
            assert_close(found[row], alone[0], 1e-12)
    order = [2, 0, 3, 1]
    for found, expected in zip(logits_of(head(ids[order])), together, strict=True):
        assert_close(found, expected[order], 1e-12)
    shared = build(model)  # the documented leak: one scale for the whole batch
    leak = logits_of(shared(ids))[0][0] - logits_of(shared(ids[:1]))[0][0]
    assert abs(leak).max() > 1e-4


def test_multiple_choice_is_its_choices():
    for fields in ({"branch": "dense"}, {"inv_coeff_init_option": True}):
        head, ids = build(CHOICE, **fields), token_ids(2, 3, 16)
        one_by_one = [head(ids[:, i : i + 1]).logits for i in range(3)]
        assert_close(head(ids).logits, np.concatenate(one_by_one, axis=1), 1e-12)


def test_the_same_call_gives_the_same_bits():
    for model in MODELS:
        head, given = build(model), inputs_for(model)
        same(head(**given, **EVERYTHING), head(**given, **EVERYTHING))
