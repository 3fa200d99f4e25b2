"""The page of formulas under JAX, as it is: compiled, mapped over a batch, and differentiated.

JAX arrays have no twins, so that what runs here is :mod:`nystrom_np.definition` itself. The gradients of every head's
loss are those of ``loss.backward()`` in transformers 4.37.2, stored by ``tests/reference/gradients.py``.
"""

import json
from contextlib import contextmanager
from functools import cache, partial

import numpy as np
import pytest

import nystrom_np
from docs.builder import blocks
from nystrom_np import definition, losses
from nystrom_np.model.parameters import tree
from tests.reference import cases, compare, gradients, store
from tests.reference.client import Item, ask
from tests.reference.environment import VERSIONS, ReferenceUnavailable, python

jax = pytest.importorskip("jax", reason="JAX is not installed")
jnp = jax.numpy

GRADIENT_TOLERANCE = 1e-9
WORDS = "nystromformer.embeddings.word_embeddings.weight"


@contextmanager
def settings(**wanted):
    before = {name: jax.config.read(name) for name in wanted}
    try:
        for name, value in wanted.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


@pytest.fixture(autouse=True)
def double_precision():
    """float64 for these tests alone; and fewer of the compiler's passes, which take longer than what they save."""
    with settings(jax_enable_x64=True, jax_disable_most_optimizations=True):
        yield


# ------------------------------------------------------------------------- the heads, from the page and its losses


def states_of(config, p, inputs):
    """The encoder's states, from what users pass to a model."""
    length = inputs["input_ids"].shape[-1]
    ids = inputs["input_ids"].reshape(-1, length)
    types = inputs["token_type_ids"].reshape(-1, length) if "token_type_ids" in inputs else jnp.zeros_like(ids)
    positions = inputs.get("position_ids", jnp.arange(2, length + 2))
    mask = inputs.get("attention_mask")
    mask = None if mask is None else mask.reshape(ids.shape[0], 1, -1, length) != 0
    return definition.encode(p, config, ids, types, positions.reshape(-1, positions.shape[-1]), mask)[0]


def sequence_loss(config, logits, labels):
    classes = jnp.issubdtype(labels.dtype, jnp.integer)
    inferred = "single_label_classification" if classes else "multi_label_classification"
    inferred = "regression" if config.num_labels == 1 else inferred
    return losses.sequence_loss(logits, labels, config.problem_type or inferred)


def head_loss(head, config, p, x, labels):
    """The loss of a head, from the tree of its parameters, the last state and the labels."""
    if head == cases.ANSWER:
        starts, ends = (labels[f"{name}_positions"].reshape(-1) for name in ("start", "end"))
        return losses.answer_loss(definition.question_answering(p, config, x), starts, ends)
    labels = labels["labels"]
    if head == cases.SEQUENCE:
        return sequence_loss(config, definition.sequence_classification(p, config, x), labels)
    if head == cases.CHOICE:
        return losses.cross_entropy(definition.multiple_choice(p, config, x).reshape(labels.shape[0], -1), labels)
    formula = {cases.MASKED_LM: definition.masked_lm, cases.TOKEN: definition.token_classification}[head]
    return losses.token_loss(formula(p, config, x), labels)


# Encoder and heads are compiled apart, so that cases which differ in the head share the encoder's long compilation.


@cache
def compiled_encoder(told):
    return jax.jit(partial(states_of, from_json(told)))


@cache
def compiled_head(head, told):
    return jax.jit(partial(head_loss, head, from_json(told)))


def from_json(told):
    return nystrom_np.NystromformerConfig.from_dict(json.loads(told))


OF_HEADS = ("architectures", "id2label", "label2id", "problem_type", "tie_word_embeddings")


def states(case, p):
    told = {name: value for name, value in compare.config_json(case).items() if name not in OF_HEADS}
    inputs = {name: array for name, array in case.inputs.items() if not name.endswith(("labels", "_positions"))}
    return compiled_encoder(json.dumps(told, sort_keys=True))(p, in_jax(inputs))


def loss_from_state(case, p, x):
    labels = {name: array for name, array in case.inputs.items() if name.endswith(("labels", "_positions"))}
    return compiled_head(case.head, json.dumps(compare.config_json(case), sort_keys=True))(p, x, in_jax(labels))


def loss(case, parameters):
    p = tree(parameters)
    return loss_from_state(case, p, states(case, p["nystromformer"])[-1])


def parameters_of(case):
    """The parameters in float64, each once: the decoder's bias has two names in a file."""
    names = getattr(nystrom_np, case.head).parameter_shapes(compare.config_of(case))
    return in_jax({name: case.parameters()[name] for name in names})


def in_jax(arrays):
    floats = {name: np.float64 for name, array in arrays.items() if array.dtype.kind == "f"}
    return {name: jnp.asarray(array, floats.get(name)) for name, array in arrays.items()}


# ----------------------------------------------------------------------------------------------------- compiled

ALL = cases.all_cases()
WITH_A_LOSS = [case for case in ALL if case.name.startswith("loss-") and "loss" in store.read(case).outputs]
WAYS = ("plain", "mask", "bool_mask", "masked_row", "square_mask", "token_types", "position_ids_B_L")
BODIES = [case for case in ALL if case.head == cases.MODEL and case.name.rpartition("-")[0] in WAYS]


def identity(case):
    return gradients.identity(case)


@pytest.mark.parametrize("case", WITH_A_LOSS, ids=identity)
def test_compiled_losses_are_the_references(case):
    """Under ``jax.jit``, every head's loss is the stored one of transformers."""
    found, expected = loss(case, parameters_of(case)), store.read(case).outputs["loss"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=compare.FLOAT64_TOLERANCE)


def test_every_head_branch_and_problem_is_compiled():
    """The cases above are those that the docstring speaks of: no filter has emptied them."""
    assert {case.head for case in WITH_A_LOSS} == set(cases.HEADS) - {cases.MODEL}
    names = {case.name for case in WITH_A_LOSS if case.head == cases.SEQUENCE}
    for branch in cases.BRANCHES:
        for problem in ("regression_several_labels", "single_label_ignored", "multi_label"):
            assert f"loss-{problem}-{branch}" in names
    assert len(BODIES) == 2 * len(WAYS) - 1  # a mask for each query is for exact attention


@pytest.mark.parametrize("case", BODIES, ids=identity)
def test_compiled_states_are_the_references(case):
    """Masks of all kinds, token types and positions: every layer's states are the stored ones."""
    expected, found = store.read(case).outputs, states(case, tree(parameters_of(case)))
    numbers = [name for name in expected if name.startswith("hidden_states.")]
    named = {name: found[int(name.rpartition(".")[2])] for name in numbers} | {"last_hidden_state": found[-1]}
    for name, array in named.items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=compare.FLOAT64_TOLERANCE, err_msg=name)


def test_the_true_inverse_compiled():
    """``pinv_method="svd"``: JAX takes the tolerance where the page gives it, so that a rank of 2 is seen as such."""
    draw = np.random.RandomState(0)
    a = draw.standard_normal((3, 4, 2)) @ draw.standard_normal((3, 2, 4))
    found = np.asarray(jax.jit(definition.svd_pinv)(jnp.asarray(a)))
    np.testing.assert_allclose(found, np.linalg.pinv(a, 1e-12), rtol=0, atol=1e-10)
    assert np.abs(found).max() < 100


# ------------------------------------------------------------------------------------------------------- mapped


@pytest.mark.parametrize(("branch", "initial"), [("dense", False), ("nystrom", False), ("nystrom", True)])
def test_mapped_over_a_batch_each_is_alone(branch, initial):
    """``jax.vmap`` of one sequence is the model on each alone, whichever value the inverse starts from.

    A batch together has one initial value in the reference, so that its sequences depend on one another there.
    """
    case = next(case for case in ALL if (case.head, case.name) == (cases.MODEL, "nystrom-batch_of_4"))
    config = {**case.config, **cases.BRANCHES[branch], "inv_coeff_init_option": initial}
    case = cases.Case("mapped", case.head, config, case.inputs)
    mask = cases.padding_mask(4, 16, [16, 9, 12, 5])
    model = nystrom_np.NystromformerModel(compare.config_of(case), parameters=case.parameters(), dtype="float64")
    p = tree(parameters_of(case))

    def one(ids, mask):
        return states_of(model.config, p, {"input_ids": ids[None], "attention_mask": mask[None]})[-1][0]

    mapped = jax.jit(jax.vmap(one))(jnp.asarray(case.inputs["input_ids"]), jnp.asarray(mask))
    each = [model([ids], [row]).last_hidden_state[0] for ids, row in zip(case.inputs["input_ids"], mask, strict=True)]
    np.testing.assert_allclose(mapped, np.stack(each), rtol=0, atol=compare.FLOAT64_TOLERANCE)
    together = model(case.inputs["input_ids"], mask).last_hidden_state
    apart = np.abs(mapped - together).max()
    assert apart > 1e-3 if branch == "nystrom" and not initial else apart < compare.FLOAT64_TOLERANCE


# ----------------------------------------------------------------------------------------------- differentiated

GRADIENTS = gradients.gradient_cases()
PLAIN = [case for case in GRADIENTS if case.name.endswith(tuple(cases.BRANCHES))]
PADDED = [case for case in GRADIENTS if case.name.endswith("padding_token")]


def loss_and_gradient(case):
    return jax.value_and_grad(partial(loss, case))(parameters_of(case))


def assert_same(found, expected, but=()):
    assert found.keys() == expected.keys()
    for name in expected.keys() - set(but):
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=GRADIENT_TOLERANCE, err_msg=name)


def find(name):
    return next(case for case in GRADIENTS if case.name == name)


@pytest.mark.parametrize("case", PLAIN, ids=identity)
def test_gradients_are_the_references(case):
    """``jax.grad`` of each head's loss, with respect to all parameters, is ``loss.backward()`` of transformers."""
    told, expected = gradients.read(case)
    value, found = loss_and_gradient(case)
    assert abs(value - told["loss"]) <= compare.FLOAT64_TOLERANCE
    assert_same(found, expected)


@pytest.mark.parametrize("case", PADDED, ids=identity)
def test_the_padding_token_as_an_input(case):
    """PyTorch drops the gradient of the padding token's embedding as an input, and keeps that of it as an output."""
    _, expected = gradients.read(case)
    _, found = loss_and_gradient(case)
    assert_same(found, expected, but=[WORDS])
    rows = np.arange(case.config["vocab_size"]) != gradients.PAD
    np.testing.assert_allclose(found[WORDS][rows], expected[WORDS][rows], rtol=0, atol=GRADIENT_TOLERANCE)
    as_input, as_output = (gradient[gradients.PAD] for gradient in by_use(case))
    assert np.abs(as_input).max() > 1e-3
    np.testing.assert_allclose(expected[WORDS][gradients.PAD], as_output, rtol=0, atol=GRADIENT_TOLERANCE)
    assert (np.abs(as_output).max() > 1e-3) == case.name.startswith("tied")


def by_use(case):
    """The gradients of the word embeddings where they are looked up, and where they are the decoder."""
    parameters = parameters_of(case)

    def apart(looked_up, decoder):
        x = states(case, tree({**parameters, WORDS: looked_up})["nystromformer"])[-1]
        return loss_from_state(case, tree({**parameters, WORDS: decoder}), x)

    return jax.grad(apart, argnums=(0, 1))(parameters[WORDS], parameters[WORDS])


def test_the_gradient_of_tied_weights_is_the_sum_over_their_uses():
    """Word embeddings that are the decoder too: both uses have a share, and transformers' gradient is the sum."""
    case = find("tied-dense")
    looked_up, decoder = by_use(case)
    assert min(np.abs(looked_up).max(), np.abs(decoder).max()) > 1e-2
    expected = gradients.read(case)[1][WORDS]
    np.testing.assert_allclose(looked_up + decoder, expected, rtol=0, atol=GRADIENT_TOLERANCE)


def test_a_sequence_without_real_tokens():
    """The one other difference: the reference's gradient passes scores that its sum with the mask has rounded away.

    Such a sequence is attended to evenly, whatever its scores, so that its queries and keys have no influence and no
    gradient; PyTorch differentiates the addition before the rounding. Of the values nothing differs.
    """
    case = find("nothing_real")
    told, expected = gradients.read(case)
    value, found = loss_and_gradient(case)
    assert abs(value - told["loss"]) <= compare.FLOAT64_TOLERANCE
    far = {name for name, array in expected.items() if np.abs(found[name] - array).max() > 1e-4}
    scores = {f"nystromformer.encoder.layer.0.attention.self.{name}" for name in ("query.weight", "key.weight")}
    assert scores <= far
    assert all(".embeddings." in name or ".query." in name or ".key." in name for name in far)


def test_the_class_is_differentiable_too():
    """A model made of the parameters inside the function that is differentiated: the same loss and gradient."""
    case = find("single_label-dense")
    told, expected = gradients.read(case)

    def of_class(parameters):
        return getattr(nystrom_np, case.head)(compare.config_of(case), parameters=parameters)(**case.inputs).loss

    value, found = jax.jit(jax.value_and_grad(of_class))(parameters_of(case))
    assert abs(value - told["loss"]) <= compare.FLOAT64_TOLERANCE
    assert_same(found, expected)


@pytest.mark.parametrize("case", GRADIENTS, ids=identity)
def test_stored_gradients_belong_to_the_case(case):
    """They are of these weights and inputs, of every parameter, and of attention that is peaked."""
    told, arrays = gradients.read(case)
    assert told["digest"] == case.digest(), "run python -m tests.reference.gradients"
    assert arrays.keys() == parameters_of(case).keys()
    assert all(0.4 <= median <= 0.95 for median in told["median_row_max"]), told["median_row_max"]
    assert all(array.all() for name, array in case.parameters().items() if name.endswith("bias"))


def available(version):
    try:
        python(version)
    except ReferenceUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.reference
def test_stored_gradients_are_the_references():
    """Transformers 4.37.2 itself, asked again."""
    available(gradients.VERSION)
    told, arrays = gradients.ask()
    for case in GRADIENTS:
        stored, named = gradients.read(case)
        assert abs(told[gradients.identity(case)]["loss"] - stored["loss"]) <= 1e-12
        again = arrays[gradients.identity(case)]
        assert again.keys() == named.keys()
        for name, array in named.items():
            np.testing.assert_allclose(again[name], array, rtol=0, atol=1e-12, err_msg=f"{case.name} {name}")


# ------------------------------------------------------------------------------------------- the page about training


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory):
    """What the page about fine-tuning leaves: its names, and the folder it worked in."""
    pytest.importorskip("optax", reason="optax is not installed")
    folder, names = tmp_path_factory.mktemp("page"), {"__name__": "page"}
    page = blocks.DOCS / "fine-tune-with-jax.md"
    with settings(jax_enable_x64=False, jax_disable_most_optimizations=False), blocks.workplace(folder):
        for block in blocks.blocks_of(page.read_text(encoding="utf-8")):
            if block.language == "python":
                blocks.run_python(block.text, names)
    return names, folder / "kitchen"


@pytest.mark.slow
def test_fine_tuning_teaches_and_is_kept(fine_tuned):
    """Held-out sentences are judged far better than by the shipped checkpoint, also from the file that was saved."""
    names, folder = fine_tuned
    labels = np.asarray(names["test"][2])
    before = names["accuracy"](in_single(names["model"].state_dict()), *names["test"])
    learned = compare.load(cases.SEQUENCE, folder, "float32")
    ids, mask, _ = map(np.asarray, names["test"])
    after = np.mean(learned(ids, mask).logits.argmax(axis=-1) == labels)
    assert before < 0.7
    assert after > 0.85
    for name, array in learned.state_dict().items():
        assert np.array_equal(array, names["learned"][name]), name


def in_single(parameters):
    return {name: jnp.asarray(value, np.float32) for name, value in parameters.items()}


@pytest.mark.reference
@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_fine_tuned_the_reference_loads(fine_tuned, version):
    """Transformers loads the folder that the page saves, and computes the same logits; 5.x as if all were real."""
    available(version)
    names, folder = fine_tuned
    ids, mask = (np.asarray(x[:32], np.int64) for x in names["test"][:2])
    inputs = {"input_ids": ids} if version.startswith("5") else {"input_ids": ids, "attention_mask": mask}
    logits = compare.load(cases.SEQUENCE, folder, "float64")(**inputs).logits
    [answer] = ask(version, [Item(cases.SEQUENCE, inputs, folder=folder, measured=())])
    assert answer.error is None  # of 5.x see cases.PADDED_NYSTROM
    np.testing.assert_allclose(logits, answer.outputs["logits"], rtol=0, atol=compare.FLOAT64_TOLERANCE)
