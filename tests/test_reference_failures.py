"""Where the reference fails or is silently wrong: a test for each case of ``docs/reference-failures.md``."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from nystrom_np import NystromformerConfig, NystromformerModel
from tests.models import (
    BODY,
    BRANCHES,
    MODELS,
    assert_close,
    assert_everything,
    build,
    build_another,
    inputs_for,
    landmark_kernel,
    logits_of,
    plain_attention,
    plain_convolution,
    plain_softmax,
    plainly,
    small_config,
    token_ids,
)

pytestmark = pytest.mark.usefixtures("anywhere")

TESTS = Path(__file__).resolve().parent
TABLE = TESTS.parent / "docs" / "reference-failures.md"
LENGTHS = (5, 7, 8, 11, 13, 16, 17, 23, 31, 32, 40)  # four landmarks, and the reference's one length is 16


def exactly_as_written_plainly(model, ids, mask=None, by=None):
    """By attention written a second time, since definitions and their twins could go wrong alike."""
    out = model(ids, attention_mask=mask, output_attentions=True, output_hidden_states=True)
    expected = plainly(model if by is None else by, ids, mask)
    assert len(out.hidden_states) == 3
    assert_everything(out, expected)
    assert_close(model(ids, attention_mask=mask).last_hidden_state, expected[0])  # in bounded memory
    return out


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("branch", BRANCHES)
def test_attention_is_peaked(branch, length):
    """With nearly uniform attention a wrong inverse would go unseen, here and wherever these models are."""
    model = build(BODY, branch, length)
    medians = []

    def attend(config, q, k, v, mask, conv):
        pairs = [(q[b, h], k[b, h]) for b in range(len(q)) for h in range(q.shape[1])]
        nystrom = branch == "nystrom"
        kernels = [landmark_kernel(x, y, 4) if nystrom else plain_softmax(x @ y.T) for x, y in pairs]
        medians.append(np.median([kernel.max(axis=-1) for kernel in kernels]))
        return plain_attention(config, q, k, v, mask, conv)

    plainly(model, token_ids(3, length), attend=attend)
    assert len(medians) == 2
    assert all(0.4 <= median <= 0.95 for median in medians)


def test_padded_batch_on_the_nystrom_branch():
    """Row "padded batch on the Nyström branch": 5.23.0 raises a RuntimeError about a mask of (B, 1, L, L)."""
    model, ids = build(BODY), token_ids(3, 16)
    mask = np.ones((3, 16), int)
    mask[1, 11:] = 0
    mask[2, :4] = 0
    padded = exactly_as_written_plainly(model, ids, mask)
    assert [weights.shape for weights in padded.attentions] == [(3, 2, 16, 4)] * 2
    assert abs(padded[0] - model(ids).last_hidden_state).max() > 0.1


def test_inverse_starts_from_each_matrix():
    """Row "inv_coeff_init_option=True": both versions raise "config is not subscriptable"."""
    model, ids = build(BODY, inv_coeff_init_option=True), token_ids(4, 16)
    batch = exactly_as_written_plainly(model, ids).last_hidden_state
    for row in range(4):
        assert_close(model(ids[row : row + 1]).last_hidden_state[0], batch[row], 1e-12)
    assert abs(batch - build(BODY)(ids).last_hidden_state).max() > 1e-3


@pytest.mark.parametrize("branch", BRANCHES)
def test_selu(branch):
    """Row "hidden_act="selu"": both versions raise a KeyError for a documented value."""

    def selu(x):
        return 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(np.minimum(x, 0)) - 1))

    model, ids = build(BODY, branch, hidden_act="selu"), token_ids(2, 16)
    exactly_as_written_plainly(model, ids, by=build_another(BODY, branch, hidden_act=selu))
    assert abs(model(ids)[0] - build(BODY, branch)(ids)[0]).max() > 0.1


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("conv_kernel_size", [None, 5])
def test_head_mask_silences_heads(branch, conv_kernel_size):
    """Row "head_mask": 4.37.2 accepts and ignores it, 5.23.0 swallows it.

    A head that is masked equals zeros in its columns of the output projection, convolution included.
    """
    model, ids = build(BODY, branch, conv_kernel_size=conv_kernel_size), token_ids(2, 16)
    head_mask = np.array([[1, 0], [0, 1]])
    zeroed = model.state_dict()
    for layer, head in ((0, 1), (1, 0)):
        name = f"encoder.layer.{layer}.attention.output.dense.weight"
        zeroed[name] = zeroed[name].copy()
        zeroed[name][:, 8 * head : 8 * head + 8] = 0.0
    expected = NystromformerModel(model.config, parameters=zeroed)(ids, output_hidden_states=True).hidden_states
    found = model(ids, head_mask=head_mask, output_hidden_states=True).hidden_states
    for states, zeroed_states in zip(found, expected, strict=True):
        assert_close(states, zeroed_states, 1e-12)
    assert abs(found[-1] - model(ids).last_hidden_state).max() > 0.1


@pytest.mark.parametrize(("batch", "length"), [(2, 8), (4, 4), (8, 2), (16, 1)])
def test_batch_times_length_is_one_segment_length(batch, length):
    """Row "Nyström branch, L ≠ S", B·L = S: both versions average landmarks across sequences and heads."""
    model, ids = build(BODY, length=length, inv_coeff_init_option=True), token_ids(batch, length)
    together = exactly_as_written_plainly(model, ids).last_hidden_state
    for row in range(batch):
        assert_close(model(ids[row : row + 1]).last_hidden_state[0], together[row], 1e-12)


@pytest.mark.parametrize("length", [32, 48])
def test_one_long_sequence_stays_one_sequence(length):
    """Row "Nyström branch, L ≠ S", B = 1, L = nS, one layer: both versions return a batch of n."""
    model = build(BODY, length=length, num_hidden_layers=1, max_position_embeddings=48)
    ids = token_ids(1, length)
    out = model(ids, output_attentions=True)
    assert out.last_hidden_state.shape == (1, length, 16)
    expected = plainly(model, ids)
    assert_close(out.last_hidden_state, expected[0])
    assert_close(out.attentions[0], expected.attentions[0])


@pytest.mark.parametrize("length", LENGTHS)
def test_any_length_on_the_nystrom_branch(length):
    """Rows "Nyström branch, L ≠ S" and "L not divisible by m": both versions raise a RuntimeError.

    The shorter segments come first.
    """
    out = exactly_as_written_plainly(build(BODY, length=length), token_ids(3, length))
    assert [weights.shape for weights in out.attentions] == [(3, 2, length, 4)] * 2


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_as_many_landmarks_as_tokens_is_exact_attention(length):
    """Row "L ≤ m": both versions raise a RuntimeError; here the branch is softmax attention."""
    model, ids = build(BODY, "nystrom", length), token_ids(3, length)
    mask = np.ones((3, length), int)
    mask[1, length // 2 + 1 :] = 0
    found = exactly_as_written_plainly(model, ids, mask)
    assert [weights.shape for weights in found.attentions] == [(3, 2, length, length)] * 2
    dense = small_config("dense")
    expected = NystromformerModel(dense, parameters=model.state_dict())(ids, attention_mask=mask)
    assert_close(model(ids, attention_mask=mask)[0], expected[0], 1e-13)


@pytest.mark.parametrize("branch", BRANCHES)
def test_batches_never_mix(branch):
    """Row "Nyström branch, L ≠ S": whatever the other sequences are, one's output stays what it was."""
    for batch, length in ((2, 8), (3, 11), (5, 16), (2, 32)):
        model = build(BODY, branch, length, inv_coeff_init_option=True)
        ids = token_ids(batch, length)
        others = token_ids(batch, length, seed=1)
        others[1] = ids[1]
        found, expected = model(others).last_hidden_state, model(ids).last_hidden_state
        assert_close(found[1], expected[1], 1e-12)
        assert abs(found[0] - expected[0]).max() > 0.1


@pytest.mark.parametrize("length", [4, 11, 16])
@pytest.mark.parametrize("masking", ["transformers", "original", "invariant"])
@pytest.mark.host
def test_half_precision_on_the_nystrom_branch(masking, length):
    """Row "float16 or bfloat16 on the Nyström branch": both versions raise a RuntimeError.

    Half precision is what weights and outputs are stored in; the same weights in float64 show that nothing
    else was computed in it.
    """
    mask = np.ones((2, length), int)
    mask[1, length // 2 :] = 0
    half = build(BODY, length=length, masking=masking, dtype="float16")
    found = half(token_ids(2, length), attention_mask=mask, output_attentions=True, output_hidden_states=True)
    rounded = {name: value.astype(np.float64) for name, value in half.state_dict().items()}
    double = NystromformerModel(half.config, parameters=rounded)
    expected = double(token_ids(2, length), attention_mask=mask, output_attentions=True, output_hidden_states=True)
    for arrays, others in (
        (found.hidden_states, expected.hidden_states),
        (found.attentions, expected.attentions),
    ):
        for array, other in zip(arrays, others, strict=True):
            assert array.dtype == np.float16
            assert_close(array, other, 2e-3)
    assert found.last_hidden_state.dtype == np.float16


def test_original_initial_value_leaks_between_sequences():
    """Row "a sequence alone or in a batch": both versions differ, and so does the default here, by intent.

    It is parity: the formula, whose initial value is over the whole batch too, gives the same numbers.
    """
    ids = token_ids(6, 16)
    model = build(BODY)
    alone = np.concatenate([model(ids[row : row + 1]).last_hidden_state for row in range(6)])
    assert abs(exactly_as_written_plainly(model, ids).last_hidden_state - alone).max() > 1e-3


@pytest.mark.parametrize("masking", ["matrix", "invariant"])
@pytest.mark.parametrize("length", [5, 16, 23])
def test_a_sequence_alone_or_in_a_batch(masking, length):
    """Row "a sequence alone or in a batch": with either option nothing depends on the other sequences."""
    options = {"inv_coeff_init_option": True} if masking == "matrix" else {"masking": masking}
    model, ids = build(BODY, length=length, **options), token_ids(4, length)
    together = model(ids, output_attentions=True, output_hidden_states=True)
    for row in range(4):
        alone = model(ids[row : row + 1], output_attentions=True, output_hidden_states=True)
        for found, expected in zip(together.hidden_states, alone.hidden_states, strict=True):
            assert_close(found[row], expected[0], 1e-12)
        for found, expected in zip(together.attentions, alone.attentions, strict=True):
            assert_close(found[row], expected[0], 1e-11)


@pytest.mark.parametrize("branch", BRANCHES)
def test_content_of_padding_has_no_effect(branch):
    """Row "content of padded positions": it changes the real tokens in both versions, by up to 2.7.

    By default here too (parity); not with ``masking="invariant"``.
    """
    ids = token_ids(3, 16)
    mask = np.ones((3, 16), int)
    mask[0, 12:] = 0
    mask[1, :5] = 0
    others = np.where(mask == 1, ids, token_ids(3, 16, seed=1))
    default, invariant = build(BODY, branch), build(BODY, branch, masking="invariant")

    def change(model):
        first, second = (model(x, attention_mask=mask).last_hidden_state for x in (ids, others))
        return abs(first - second)[mask == 1].max()

    assert change(default) > 0.1
    assert change(invariant) == 0.0
    exactly_as_written_plainly(default, ids, mask)


@pytest.mark.parametrize("size", [2, 4, 64])
def test_even_convolution_is_refused_by_the_configuration(size):
    """Row "even conv_kernel_size": both versions raise a RuntimeError in the forward pass."""
    with pytest.raises(ValueError, match=f"^conv_kernel_size must be an odd integer .* not {size}$"):
        small_config(conv_kernel_size=size)


@pytest.mark.parametrize("size", [1, 3, 9, 33, None])
@pytest.mark.parametrize("branch", BRANCHES)
def test_odd_convolution(branch, size):
    """Row "even conv_kernel_size": every odd size is right, also a very long one, and so is none."""
    model = build(BODY, branch, conv_kernel_size=size)
    assert ("encoder.layer.1.attention.self.conv.weight" in model.state_dict()) == (size is not None)
    exactly_as_written_plainly(model, token_ids(2, 16))
    if size == 3:  # the plain convolution itself, by hand: not flipped, zeros outside
        values = np.array([[1.0], [2.0], [4.0]])
        assert plain_convolution(values, np.array([1.0, 0.0, 10.0])).ravel().tolist() == [20.0, 41.0, 2.0]


@pytest.mark.parametrize("model", MODELS)
def test_ids_out_of_range(model):
    """Row "ids out of range": an error without a name in both versions; NumPy would wrap negative ids."""
    tables = {"input_ids": 53, "token_type_ids": 3, "position_ids": 42}
    words = {"input_ids": "word", "token_type_ids": "token type", "position_ids": "position"}
    head = build(model)
    for name, rows in tables.items():
        for wrong in (rows, -1, 10**6):
            arguments = inputs_for(model)
            arguments[name] = arguments[name].copy()
            arguments[name].reshape(-1, 11)[1, 3] = wrong
            message = rf"{name}\[.*\b3\] is {wrong}, but the {words[name]} embedding has {rows} rows: 0 to "
            with pytest.raises(IndexError, match=message):
                head(**arguments)
        arguments[name].reshape(-1, 11)[1, 3] = rows - 1
        assert all(np.isfinite(logits).all() for logits in logits_of(head(**arguments)))


@pytest.mark.parametrize("branch", BRANCHES)
def test_too_long(branch):
    """Row "longer than max_position_embeddings": a RuntimeError about expand in both versions."""
    model = build(BODY, branch, 40)
    assert model(token_ids(1, 40)).last_hidden_state.shape == (1, 40, 16)
    with pytest.raises(ValueError, match="sequence has 41 tokens, but max_position_embeddings is 40"):
        model(token_ids(1, 41))
    positions = np.arange(41)
    found = model(token_ids(1, 41), position_ids=positions)
    assert_close(found.last_hidden_state, plainly(model, token_ids(1, 41), position_ids=positions)[0])


def test_published_checkpoints_run_the_dense_branch(tmp_path):
    """Row "all published checkpoints": they never run Nyström attention; overrides at load do."""
    published = {"num_landmarks": 64, "segment_means_seq_len": 64, "max_position_embeddings": 510}
    assert not NystromformerConfig(**published).uses_nystrom_attention
    saved = build(BODY, "dense", 16, **published)
    saved.save_pretrained(tmp_path)
    ids = token_ids(2, 16)
    dense = BODY.from_pretrained(tmp_path, dtype="float64")
    assert dense(ids, output_attentions=True).attentions[0].shape == (2, 2, 16, 16)
    long = token_ids(1, 96)  # more tokens than landmarks, and still exact
    assert dense(long, output_attentions=True).attentions[0].shape == (1, 2, 96, 96)
    nystrom = BODY.from_pretrained(tmp_path, dtype="float64", num_landmarks=4, segment_means_seq_len=16)
    assert nystrom.config.uses_nystrom_attention
    out = exactly_as_written_plainly(nystrom, ids)
    assert out.attentions[0].shape == (2, 2, 16, 4)
    assert abs(out.last_hidden_state - dense(ids).last_hidden_state).max() > 0.1


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("side", ["front", "back"])
def test_padding_on_either_side(branch, side):
    """Peers' faults: NaN under a key padding mask, front padding trimmed from the wrong end.

    Padding on either side gives what the real tokens alone give.
    """
    ids = token_ids(2, 16)
    mask = np.zeros((2, 16), int)
    place = slice(5, 16) if side == "front" else slice(0, 11)
    mask[:, place] = 1
    model = build(BODY, branch, masking="invariant")
    found = model(ids, attention_mask=mask).last_hidden_state
    for row in range(2):
        assert_close(found[row, place], model(ids[row : row + 1, place]).last_hidden_state[0])
    parity = build(BODY, branch)
    assert np.isfinite(exactly_as_written_plainly(parity, ids, mask).last_hidden_state).all()


# ------------------------------------------------------------------------------------------------ the table


def named_tests() -> set[tuple[str, str]]:
    return set(re.findall(r"(test_\w+\.py)::(test_\w+)", TABLE.read_text(encoding="utf-8")))


def functions_of(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_test_that_the_table_names_exists():
    missing = {(file, name) for file, name in named_tests() if name not in functions_of(file)}
    assert not missing


def test_the_table_names_every_test_of_a_case():
    own = {name for name in functions_of(Path(__file__).name) if "table" not in name}
    assert own - {name for _, name in named_tests()} == set()
    assert len(own) >= 15
