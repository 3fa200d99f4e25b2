"""What of the page runs on nothing but the array API standard, and what needs a module that goes beyond it.

``array_api_strict`` has the standard's functions and refuses all else. Nyström attention as a whole runs on it, and
three of the five heads. What does not uses what NumPy, CuPy and JAX have beside the standard, and reads better so.
"""

import inspect

import numpy as np
import pytest

import nystrom_np
from nystrom_np import definition
from nystrom_np.activations import ACTIVATIONS, get_activation
from nystrom_np.fast import definitions
from nystrom_np.model.parameters import tree

strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")

CONFIG = nystrom_np.NystromformerConfig(
    vocab_size=20,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=12,
    conv_kernel_size=3,
    max_position_embeddings=16,
    num_landmarks=3,
    segment_means_seq_len=8,
    num_labels=3,
)
DRAW = np.random.RandomState(0)
Q, K, V = (2 * DRAW.standard_normal((2, 2, 8, 4)) for _ in range(3))
X, W, ONE = DRAW.standard_normal((2, 8, 8)), DRAW.standard_normal((5, 8)), DRAW.standard_normal(8)
A = np.exp(3 * DRAW.standard_normal((2, 2, 3, 3)))
A = A / A.sum(axis=-1, keepdims=True)
MASK = (np.arange(8) < 6)[None, None, None]
IDS, ZEROS, POSITIONS = DRAW.randint(0, 20, size=(2, 8)), np.zeros((1, 8), np.int64), np.arange(2, 10)[None]


def of(head):
    return tree(head(CONFIG, dtype="float64").state_dict())


WORDS, SEQUENCE, CHOICE, TOKEN, ANSWER = map(
    of,
    (
        nystrom_np.NystromformerForMaskedLM,
        nystrom_np.NystromformerForSequenceClassification,
        nystrom_np.NystromformerForMultipleChoice,
        nystrom_np.NystromformerForTokenClassification,
        nystrom_np.NystromformerForQuestionAnswering,
    ),
)
BODY = WORDS["nystromformer"]
LAYER = BODY["encoder"]["layer"]["0"]

RUN = {
    "linear": (X, W, W[:, 0]),
    "layer_norm": (X, ONE, ONE),
    "softmax": (X,),
    "softmax_attention_matrix": (Q, K, MASK),
    "softmax_attention": (Q, K, V, MASK),
    "transposed": (X,),
    "segment_means": (Q, 3),
    "nystrom_kernels": (Q, K, 3, MASK),
    "initial_inverse": (A,),
    "iterative_pinv": (A, 6, "matrix"),
    "nystrom_attention_matrix": (Q, K, 3, MASK),
    "nystrom_attention": (Q, K, V, 3, MASK),
    "masked_lm": (WORDS, CONFIG, X),
    "token_classification": (TOKEN, CONFIG, X),
    "question_answering": (ANSWER, CONFIG, X),
}
# What each asks beyond the standard, as the error says.
BEYOND = {
    "svd_pinv": ((A,), TypeError, "positional argument"),  # the tolerance, which CuPy calls by another name
    "depthwise_conv": ((V, DRAW.standard_normal((2, 1, 3, 1))), AttributeError, "concatenate"),
    "project": ((LAYER["attention"]["self"], CONFIG, X), AttributeError, "reshape"),  # as a method
    "self_attention": ((LAYER["attention"]["self"], CONFIG, X, MASK), AttributeError, "reshape"),
    "encoder_layer": ((LAYER, CONFIG, X, MASK), AttributeError, "reshape"),
    "embeddings": (
        (BODY["embeddings"], CONFIG, IDS, ZEROS, POSITIONS),
        IndexError,
        "multi-axes index",
    ),  # rows by an array
    "encode": ((BODY, CONFIG, IDS, ZEROS, POSITIONS), IndexError, "multi-axes index"),
    "encode_each": ((BODY, CONFIG, (IDS, ZEROS, POSITIONS), [slice(0, 8)], None), IndexError, "multi-axes index"),
    "sequence_classification": ((SEQUENCE, CONFIG, X), IndexError, "multi-axes index"),  # x[:, 0] without an ellipsis
    "multiple_choice": ((CHOICE, CONFIG, X), IndexError, "multi-axes index"),
}
WITHOUT_ARRAYS = {"is_exact", "inverse"}


def as_strict(value):
    if isinstance(value, dict):
        return {name: as_strict(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(as_strict, value))
    return strict.asarray(value) if isinstance(value, np.ndarray) else value


def leaves(value):
    return value if isinstance(value, tuple) else (value,)


@pytest.mark.parametrize("name", RUN)
def test_a_formula_of_the_standard_alone(name):
    """It computes on strict arrays what it computes on NumPy's."""
    formula = getattr(definition, name)
    with definitions():
        expected = leaves(formula(*RUN[name]))
    for found, wanted in zip(leaves(formula(*as_strict(RUN[name]))), expected, strict=True):
        assert isinstance(found, strict.asarray(0).__class__)
        np.testing.assert_allclose(np.asarray(found), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", BEYOND)
def test_a_formula_beyond_the_standard(name):
    """It says what it lacks: once the standard has it, the formula moves to the table above."""
    arguments, error, message = BEYOND[name]
    with pytest.raises(error, match=message):
        getattr(definition, name)(*as_strict(arguments))


def test_every_formula_of_the_page_is_in_one_of_the_tables():
    """A formula that is added is asked, too."""
    formulas = inspect.getmembers(definition, inspect.isfunction)
    names = {name for name, function in formulas if function.__module__ == definition.__name__}
    assert names == RUN.keys() | BEYOND.keys() | WITHOUT_ARRAYS
    assert not RUN.keys() & BEYOND.keys()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    """All but those with erf, which the standard does not have."""
    activation = get_activation(name)
    if name in ("gelu", "gelu_python", "gelu_10"):
        with pytest.raises(TypeError, match="Expected Array"):
            activation(strict.asarray(X))
    else:
        np.testing.assert_allclose(np.asarray(activation(strict.asarray(X))), activation(X), rtol=0, atol=1e-12)
