"""Laws of the whole model, over drawn configurations, parameters and inputs."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nystrom_np import (
    NystromformerConfig,
    NystromformerForMaskedLM,
    NystromformerForMultipleChoice,
    NystromformerForQuestionAnswering,
    NystromformerForSequenceClassification,
    NystromformerForTokenClassification,
    NystromformerModel,
)
from nystrom_np.functional import ACTIVATIONS
from nystrom_np.testing import configs, masks, model_inputs
from tests.backends import Backend, host_reads
from tests.laws.tools import assert_close, cases

HEADS = [
    NystromformerModel,
    NystromformerForMaskedLM,
    NystromformerForSequenceClassification,
    NystromformerForMultipleChoice,
    NystromformerForTokenClassification,
    NystromformerForQuestionAnswering,
]
# The parity suite's bound for float64: layers are normalised, which limits how rounding is magnified.
ROUNDING = 1e-10


def on(backend: Backend, model: Any, dtype: str = "float64") -> Any:
    """The same model on a backend."""
    parameters = {name: backend.array(value.astype(dtype)) for name, value in model.state_dict().items()}
    return type(model)(model.config, parameters=parameters)


def of_tokens(config: NystromformerConfig) -> Any:
    """Inputs that have a row for each sequence and a column for each token."""
    return model_inputs(config, without=["head_mask", "inputs_embeds", "labels"])


@st.composite
def models_and_inputs(draw: st.DrawFn, head: type = NystromformerModel, **fixed: Any) -> tuple[Any, dict[str, Any]]:
    """How to make a model (it is made outside the strategy, since run-time type checks draw random
    numbers), and inputs.
    """
    config = draw(configs(**fixed))
    return partial(head, config, seed=draw(st.integers(0, 3)), dtype="float64"), draw(of_tokens(config))


def moved(backend: Backend, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: backend.array(value) for name, value in inputs.items()}


def outputs(backend: Backend, model: Any, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    record = model(**inputs, output_hidden_states=True, output_attentions=True)
    arrays = {}
    for name, value in record.items():
        for i, array in enumerate(value if isinstance(value, tuple) else [value]):
            arrays[f"{name}[{i}]"] = backend.numpy(array)
    return arrays


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], allowed: float = ROUNDING) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        assert_close(found[name], expected[name], allowed * max(1.0, np.abs(expected[name]).max(initial=0)), name)


def test_backends_agree(backend: Backend) -> None:
    """A model gives the same on every backend, whether its inputs come from the host or lie beside it."""
    if backend.name == "numpy":
        pytest.skip("the one that the others are compared with")

    @cases(10)
    @given(models_and_inputs())
    def law(drawn: tuple[Any, dict[str, Any]]) -> None:
        make, inputs = drawn
        model = make()
        there = on(backend, model)
        expected = outputs(Backend("numpy", np, np.asarray, np.asarray), model, inputs)
        assert_same(outputs(backend, there, inputs), expected)
        with host_reads():  # of the checks, which have a test of their own
            assert_same(outputs(backend, there, moved(backend, inputs)), expected)

    law()


def test_host_waits_once(backend: Backend) -> None:
    """A forward pass reads the device once, at its end, if its inputs lie there; and never if they are the
    host's.
    """
    if backend.name != "strict":
        pytest.skip("only the stand-in counts reads")

    @cases(8)
    @given(st.sampled_from(HEADS[:3] + HEADS[4:]).flatmap(lambda head: models_and_inputs(head, masking="transformers")))
    def law(drawn: tuple[Any, dict[str, Any]]) -> None:
        make, inputs = drawn
        model = make()
        there = on(backend, model)
        with host_reads() as reads:
            there(**inputs)
        assert reads.count == 0
        with host_reads() as reads:
            there(**moved(backend, inputs))
        assert reads.count == 1

    law()


def test_head_mask(backend: Backend) -> None:
    """A masked head is one whose columns of the output projection are zero (Michel et al., arXiv
    1905.10650).
    """

    @cases(10)
    @given(models_and_inputs(), st.data())
    def law(drawn: tuple[Any, dict[str, Any]], data: st.DataObject) -> None:
        make, inputs = drawn
        model = make()
        config = model.config
        shape = (config.num_hidden_layers, config.num_attention_heads)
        mask = data.draw(masks(shape) | masks(shape[1:]))
        pruned = dict(model.state_dict())
        for layer, row in enumerate(np.broadcast_to(mask, shape)):
            name = f"encoder.layer.{layer}.attention.output.dense.weight"
            pruned[name] = pruned[name] * np.repeat(row, config.hidden_size // config.num_attention_heads)
        expected = type(model)(config, parameters=pruned)(**inputs).last_hidden_state
        found = on(backend, model)(**inputs, head_mask=mask).last_hidden_state
        assert_close(backend.numpy(found), expected, ROUNDING)

    law()


@pytest.mark.parametrize("exact", [{"segment_means_seq_len": 5, "num_landmarks": 5}, {"inv_coeff_init_option": True}])
def test_multiple_choice(exact: dict[str, Any], backend: Backend) -> None:
    """The logit of a choice is what it gets alone (transformers 4.37.2 folds choices into the batch), where
    sequences do not share an initial value.
    """

    @cases(5)
    @given(models_and_inputs(NystromformerForMultipleChoice, masking="transformers", **exact), st.integers(1, 3))
    def law(drawn: tuple[Any, dict[str, Any]], choices: int) -> None:
        make, inputs = drawn
        model = make()
        there = on(backend, model)
        several = {
            name: np.stack([np.roll(x, i, axis=-1) for i in range(choices)], axis=1) for name, x in inputs.items()
        }
        together = backend.numpy(there(**several).logits)
        assert together.shape == (len(inputs["input_ids"]), choices)
        for choice in range(choices):
            alone = there(**{name: value[:, choice : choice + 1] for name, value in several.items()}).logits
            assert_close(backend.numpy(alone)[:, 0], together[:, choice], ROUNDING)

    law()


@pytest.mark.parametrize(
    "alone",
    [
        {"inv_coeff_init_option": True, "masking": "transformers"},
        {"pinv_initial": "sequence", "masking": "transformers"},
        {"masking": "invariant"},
    ],
)
def test_batch_invariance(alone: dict[str, Any], backend: Backend) -> None:
    """With each matrix's own initial value, or each sequence's, or invariant masking, a sequence's outputs do not
    depend on its batch: no formula of the paper has a batch axis.
    """

    @cases(10)
    @given(models_and_inputs(**alone))
    def law(drawn: tuple[Any, dict[str, Any]]) -> None:
        make, inputs = drawn
        model = make()
        there = on(backend, model)
        whole = backend.numpy(there(**inputs).last_hidden_state)
        for row in range(len(whole)):
            one = backend.numpy(
                there(**{name: value[row : row + 1] for name, value in inputs.items()}).last_hidden_state
            )
            assert_close(one[0], whole[row], ROUNDING)

    law()


def test_padding_has_no_influence(backend: Backend) -> None:
    """With invariant masking, real tokens get what they get alone, unpadded; padding gets zeros, whatever
    it holds (the definition of ``masking="invariant"``).
    """

    @cases(12)
    @given(models_and_inputs(masking="invariant"), st.data())
    def law(drawn: tuple[Any, dict[str, Any]], data: st.DataObject) -> None:
        make, inputs = drawn
        model = make()
        there = on(backend, model)
        mask = data.draw(masks(inputs["input_ids"].shape))
        inputs = {**inputs, "attention_mask": mask}
        found = backend.numpy(there(**inputs).last_hidden_state)
        real = mask.astype(bool)
        np.testing.assert_array_equal(found[~real], 0.0)
        for row in range(len(found)):
            if real[row].any():
                kept = {name: value[row : row + 1, real[row]] for name, value in inputs.items()}
                alone = backend.numpy(there(**kept).last_hidden_state)
                assert_close(alone[0], found[row, real[row]], ROUNDING)

    law()


def test_chunks_of_the_feed_forward(backend: Backend) -> None:
    """The feed-forward block is position-wise: its chunk size changes nothing but rounding (transformers:
    chunking_utils).
    """

    @cases(6)
    @given(models_and_inputs(chunk_size_feed_forward=0), st.sampled_from([-1, 1]))
    def law(drawn: tuple[Any, dict[str, Any]], size: int) -> None:
        make, inputs = drawn
        model = make()
        fields = {**model.config.to_dict(), "chunk_size_feed_forward": size}
        other = type(model)(NystromformerConfig.from_dict(fields), parameters=model.state_dict())
        found = on(backend, other)(**inputs).last_hidden_state
        assert_close(backend.numpy(found), model(**inputs).last_hidden_state, ROUNDING)

    law()


@pytest.mark.parametrize("head", HEADS)
def test_save_and_load(head: type, backend: Backend) -> None:
    """What is saved and loaded is the same to the bit: parameters, configuration and outputs, in each
    dtype (safetensors holds the numbers as they are).
    """

    @cases(3)
    @given(configs(), st.sampled_from(["float64", "float32", "float16"]), st.integers(0, 2))
    def law(config: NystromformerConfig, dtype: str, seed: int) -> None:
        model = head(config, seed=seed, dtype=dtype)
        with tempfile.TemporaryDirectory() as folder:
            on(backend, model, dtype).save_pretrained(folder)
            loaded = head.from_pretrained(folder, dtype=dtype)
            before, after = model.state_dict(), loaded.state_dict()
            assert before.keys() == after.keys()
            for name in before:
                assert after[name].dtype == before[name].dtype == dtype
                np.testing.assert_array_equal(after[name], before[name])
            known = set(NystromformerConfig().to_dict())
            one, other = loaded.config.to_dict(), config.to_dict()
            assert {k: one[k] for k in known} == {k: other[k] for k in known}
            ids = np.array([[3, 1, 2, 0, 1, 2]])
            ids = ids[:, None] if head is NystromformerForMultipleChoice else ids
            with np.errstate(over="ignore"):
                for x, y in zip(model(ids).to_tuple(), loaded(ids).to_tuple(), strict=True):
                    np.testing.assert_array_equal(x, y)
            assert {path.name for path in Path(folder).iterdir()} == {"config.json", "model.safetensors"}

    law()


def test_arguments_are_left_alone(backend: Backend) -> None:
    """A forward pass writes to no input, parameter or configuration; read-only arrays will do (it is a function of
    them: the package's contract).
    """

    @cases(6)
    @given(models_and_inputs())
    def law(drawn: tuple[Any, dict[str, Any]]) -> None:
        make, inputs = drawn
        model = make()
        parameters = {name: np.array(value) for name, value in model.state_dict().items()}
        for array in (*parameters.values(), *inputs.values()):
            array.setflags(write=False)
        there = type(model)(model.config, parameters={name: backend.array(x) for name, x in parameters.items()})
        before = model.config.to_dict()
        found = there(**inputs).last_hidden_state
        assert model.config.to_dict() == before
        assert_close(backend.numpy(found), model(**inputs).last_hidden_state, ROUNDING)

    law()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_dtype(dtype: str, backend: Backend) -> None:
    """Every output has the parameters' dtype and lies where they do (the package's contract)."""

    @cases(4)
    @given(models_and_inputs())
    def law(drawn: tuple[Any, dict[str, Any]]) -> None:
        make, inputs = drawn
        model = make()
        there = on(backend, model, dtype)
        record = there(**inputs, output_hidden_states=True, output_attentions=True)
        for array in (record.last_hidden_state, *record.hidden_states, *record.attentions):
            assert array.dtype == dtype
            assert type(array) is type(backend.array(np.ones(1)))

    law()


def test_activation_by_name_or_function() -> None:
    """A callable for an activation is that activation."""
    for name in ("gelu_new", "relu", "mish"):
        base = {
            "vocab_size": 5,
            "hidden_size": 4,
            "num_attention_heads": 2,
            "intermediate_size": 3,
            "num_hidden_layers": 1,
        }
        models = [NystromformerModel(NystromformerConfig(**base, hidden_act=act)) for act in (name, ACTIVATIONS[name])]
        one, other = (model([[1, 2, 3]]).last_hidden_state for model in models)
        assert_close(one, other, 1e-6)


@pytest.mark.parametrize("head", HEADS)
def test_tuples(head: type, backend: Backend) -> None:
    """``return_dict=False`` gives the record's values that are not None, in its order (transformers'
    ``ModelOutput.to_tuple``).
    """

    @cases(2)
    @given(models_and_inputs(head if head is not NystromformerForMultipleChoice else NystromformerModel))
    def law(drawn: tuple[Any, dict[str, Any]]) -> None:
        make, inputs = drawn
        model = on(backend, make())
        record, plain = model(**inputs), model(**inputs, return_dict=False)
        assert isinstance(plain, tuple)
        for x, y in zip(plain, record.to_tuple(), strict=True):
            np.testing.assert_array_equal(backend.numpy(x), backend.numpy(y))

    law()
