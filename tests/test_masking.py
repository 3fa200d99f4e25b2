"""Three ways to treat padding, on both branches: the reference's, the authors', and without any influence."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nystrom_np.fast import definitions
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
    inputs_for,
    labels_for,
    logits_of,
    plain_softmax,
    plainly,
    token_ids,
)

pytestmark = pytest.mark.usefixtures("anywhere")

MASKINGS = ("transformers", "original", "invariant")
EVERYTHING = {"output_attentions": True, "output_hidden_states": True}


def masks(batch: int, length: int) -> np.ndarray:
    """Padding behind, in front, in both places with a hole, and none; as many rows as asked for."""
    mask = np.ones((4, length), np.int64)
    mask[0, length - length // 3 :] = 0
    mask[1, : length // 3] = 0
    mask[2, [0, length // 2, -1]] = 0
    return mask[np.arange(batch) % 4]


def stacked(value: Any) -> np.ndarray:
    return np.stack(value) if isinstance(value, tuple) else np.asarray(value)


# --------------------------------------------------------------------------------------------- "transformers"


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("length", [11, 16])
def test_transformers_masks_keys_alone(branch, length):
    model, ids, mask = build(BODY, branch, length), token_ids(4, length), masks(4, length)
    out = model(ids, attention_mask=mask, **EVERYTHING)
    expected = plainly(model, ids, mask)
    assert_everything(out, expected)
    assert_close(model(ids, attention_mask=mask)[0], expected[0])  # without the matrices, in bounded memory
    if branch == "dense":  # no weight at all on padding, and all of it on the rest
        weights = np.stack(out.attentions).transpose(0, 2, 3, 1, 4)
        assert weights[..., mask == 0].max() == 0.0
        assert_close(weights.sum(axis=-1), np.ones(weights.shape[:-1]), 1e-12)


@pytest.mark.parametrize("masking", MASKINGS)
@pytest.mark.parametrize("branch", BRANCHES)
def test_the_same_mask_in_every_form(branch, masking):
    model, ids = build(BODY, branch, masking=masking, num_hidden_layers=1), token_ids(3, 16)
    row = masks(1, 16)
    expected = model(ids, attention_mask=np.repeat(row, 3, axis=0)).last_hidden_state
    for same in (
        row,
        row.tolist(),
        row == 1,
        row.astype(np.float32),
        row.astype(np.uint8),
        row.astype(np.float16),
    ):
        np.testing.assert_array_equal(model(ids, attention_mask=same).last_hidden_state, expected)
    assert abs(expected - model(ids).last_hidden_state).max() > 0.1


@pytest.mark.parametrize("masking", MASKINGS)
@pytest.mark.parametrize("branch", BRANCHES)
def test_a_mask_of_ones_is_no_mask(branch, masking):
    model, ids = build(BODY, branch, masking=masking, num_hidden_layers=1), token_ids(3, 16)
    expected = model(ids, **EVERYTHING)
    for ones in (np.ones((3, 16), int), np.ones((1, 16), bool)):
        found = model(ids, attention_mask=ones, **EVERYTHING)
        for array, other in zip(
            found.hidden_states + found.attentions, expected.hidden_states + expected.attentions, strict=True
        ):
            np.testing.assert_array_equal(array, other)


@pytest.mark.parametrize("masking", ["transformers", "original"])
@pytest.mark.parametrize(("branch", "length"), [("dense", 11), ("nystrom", 4)])
def test_a_mask_for_each_query(branch, length, masking):
    """Where attention is exact, (B, L, L): with a causal one no output depends on what comes later."""
    model = build(BODY, branch, length, conv_kernel_size=None, masking=masking)
    causal = np.tril(np.ones((length, length), int))
    ids = token_ids(2, length)
    changed = ids.copy()
    changed[:, -1] = 3 + (ids[:, -1] + 1) % 50
    first, second = (model(x, attention_mask=causal[None], **EVERYTHING) for x in (ids, changed))
    assert_close(first.last_hidden_state[:, :-1], second.last_hidden_state[:, :-1], 1e-14)
    assert abs(first.last_hidden_state[:, -1] - second.last_hidden_state[:, -1]).max() > 0.1
    assert all((np.triu(weights, 1) == 0).all() for weights in first.attentions)
    each = np.stack([causal, causal.T])  # one for each sequence
    out = model(ids, attention_mask=each)
    assert_close(out.last_hidden_state, plainly(model, ids, each)[0])
    assert_close(out.last_hidden_state[0], first.last_hidden_state[0], 1e-14)


# ------------------------------------------------------------------------------------------------- "original"


def authors_attention(config, query, key, value, mask, conv):
    """The authors' formula: q and k lose their padding before the landmarks, v before the convolution; −1e9.

    A segment's mean still divides by the whole segment. The initial inverse is scaled over the batch.
    """
    batch, heads, length, _ = query.shape
    m = config.num_landmarks
    exact = m == config.segment_means_seq_len or length <= m
    bounds = [i * (length // m) + max(0, i - (m - length % m)) for i in range(m + 1)]
    context, attention = np.zeros_like(value), np.zeros((batch, heads, length, length if exact else m))
    kernels = {}
    for b, h in np.ndindex(batch, heads):
        real = mask[b][:, None]
        q, k = query[b, h] * real, key[b, h] * real
        minus = -1e9 * (1.0 - mask[b])
        if exact:
            kernels[b, h] = (plain_softmax(q @ k.T + minus),)
            continue
        q_means = np.array([sum(q[t] for t in range(i, j)) / (j - i) for i, j in pairwise(bounds)])
        k_means = np.array([sum(k[t] for t in range(i, j)) / (j - i) for i, j in pairwise(bounds)])
        kernels[b, h] = (
            plain_softmax(q @ k_means.T),
            plain_softmax(q_means @ k_means.T),
            plain_softmax(q_means @ k.T + minus),
        )
    for b, h in np.ndindex(batch, heads):
        if exact:
            attention[b, h] = kernels[b, h][0]
            context[b, h] = attention[b, h] @ value[b, h]
        else:
            f, a, last = kernels[b, h]
            z, one = a.T / max(k[1].sum(axis=0).max() for k in kernels.values()), np.eye(m)
            for _ in range(6):
                az = a @ z
                z = 0.25 * (13 * z - z @ az @ (15 * one - az @ (7 * one - az)))
            attention[b, h] = f @ z
            context[b, h] = attention[b, h] @ (last @ value[b, h])
        for t in range(length):
            for s in range(conv.shape[2]):
                u = t + s - conv.shape[2] // 2
                if 0 <= u < length:
                    context[b, h, t] += conv[h, 0, s, 0] * value[b, h, u] * mask[b, u]
    return context, attention


@pytest.mark.parametrize(("branch", "length"), [("dense", 11), ("nystrom", 3), ("nystrom", 16), ("nystrom", 23)])
def test_original_is_the_authors_formula(branch, length):
    model, ids, mask = build(BODY, branch, length, masking="original"), token_ids(4, length), masks(4, length)
    out = model(ids, attention_mask=mask, **EVERYTHING)
    expected = plainly(model, ids, mask, attend=authors_attention)
    assert_everything(out, expected)
    assert_close(model(ids, attention_mask=mask)[0], expected[0])
    default = build(BODY, branch, length)
    assert abs(default(ids, attention_mask=mask)[0] - expected[0])[mask == 1].max() > 1e-3
    unpadded = default(ids).last_hidden_state  # without padding there is nothing to treat differently
    np.testing.assert_array_equal(model(ids).last_hidden_state, unpadded)


def test_original_silences_the_content_of_padding():
    """On either branch what lies at padding reaches no real token but through the initial inverse's scale."""
    for branch, fields in (("dense", {}), ("nystrom", {"inv_coeff_init_option": True})):
        model, ids, mask = build(BODY, branch, masking="original", **fields), token_ids(4, 16), masks(4, 16)
        others = np.where(mask == 1, ids, token_ids(4, 16, seed=1))
        first, second = (model(x, attention_mask=mask).last_hidden_state for x in (ids, others))
        assert_close(first[mask == 1], second[mask == 1], 1e-12)


# ------------------------------------------------------------------------------------------------ "invariant"


def real_alone(model, arguments, row):
    """The outputs for one sequence's real tokens alone, unpadded and in order."""
    place = np.flatnonzero(arguments["attention_mask"][row])
    given = {
        name: np.broadcast_to(value, (*arguments["attention_mask"].shape, *value.shape[2:]))[row : row + 1, place]
        for name, value in arguments.items()
        if name != "attention_mask"
    }
    return place, model(**given, **EVERYTHING)


def assert_equals_real_alone(model, arguments, tolerance=1e-10):
    out = model(**arguments, **EVERYTHING)
    mask = arguments["attention_mask"]
    exact = model.config.num_landmarks == model.config.segment_means_seq_len
    exact = exact or mask.shape[1] <= model.config.num_landmarks
    for row in range(len(mask)):
        place, alone = real_alone(model, arguments, row) if mask[row].any() else (np.zeros(0, int), None)
        padding = np.setdiff1d(np.arange(mask.shape[1]), place)
        for layer, states in enumerate((*out.hidden_states, *logits_of(out))):
            if alone is not None:
                assert_close(states[row, place], (*alone.hidden_states, *logits_of(alone))[layer][0], tolerance)
            assert not states[row, padding].any()
        for layer, weights in enumerate(out.attentions):
            own = np.zeros_like(weights[row])
            if alone is not None:
                part = alone.attentions[layer][0]
                columns = place if exact else np.arange(part.shape[-1])
                own[np.ix_(range(len(own)), place, columns)] = part
            assert_close(weights[row], own, tolerance)
    return out


@settings(max_examples=30)
@given(data=st.data())
def test_invariant_equals_the_real_tokens_alone(data):
    """Every pattern of padding, on both branches, with few tokens or many: in order, holes closed."""
    branch = data.draw(st.sampled_from(sorted(BRANCHES)), "branch")
    length = data.draw(st.integers(1, 24), "length")
    batch = data.draw(st.integers(1, 3), "batch")
    rows = st.lists(st.booleans(), min_size=length, max_size=length)
    mask = np.array(data.draw(st.lists(rows, min_size=batch, max_size=batch), "mask"))
    model = build(BODY, branch, masking="invariant", num_hidden_layers=1)
    ids = np.where(mask, token_ids(batch, length), -1)
    out = model(ids, attention_mask=mask).last_hidden_state
    assert out.shape == (batch, length, 16)
    assert not out[~mask].any()
    for row in range(batch):
        if mask[row].any():
            alone = model(ids[row, mask[row]][None]).last_hidden_state[0]
            assert_close(out[row, mask[row]], alone)


@pytest.mark.parametrize(("branch", "length"), [("dense", 11), ("nystrom", 4), ("nystrom", 11), ("nystrom", 23)])
@pytest.mark.parametrize("model", [BODY, MASKED_LM, TOKEN, ANSWER])
def test_invariant_in_every_output(model, branch, length):
    layers = 2 if model is BODY else 1
    mask = masks(5, length)
    mask[3, 3:] = 0  # no more tokens than landmarks
    mask[4] = 0
    arguments = {"input_ids": token_ids(5, length), "attention_mask": mask}
    out = assert_equals_real_alone(
        build(model, branch, length, masking="invariant", num_hidden_layers=layers), arguments
    )
    columns = length if branch == "dense" or length <= 4 else 4
    assert [weights.shape for weights in out.attentions] == [(5, 2, length, columns)] * layers


@pytest.mark.parametrize("branch", BRANCHES)
def test_invariant_with_every_argument(branch):
    """Explicit positions and token types are those of the real tokens; shared ones are shared."""
    model, mask, state = (
        build(BODY, branch, masking="invariant", num_hidden_layers=1),
        masks(4, 16),
        np.random.RandomState(0),
    )
    ids, embeds = token_ids(4, 16), state.standard_normal((4, 16, 16))
    for shape in ((4, 16), (1, 16), (4, 1)):
        more = {
            "position_ids": state.randint(0, 42, size=shape),
            "token_type_ids": state.randint(0, 3, size=shape),
        }
        assert_equals_real_alone(model, {"input_ids": ids, "attention_mask": mask, **more})
        assert_equals_real_alone(model, {"inputs_embeds": embeds, "attention_mask": mask, **more})
    flat = np.arange(40, 24, -1)
    found = model(ids, attention_mask=mask, position_ids=flat).last_hidden_state
    np.testing.assert_array_equal(found, model(ids, attention_mask=mask, position_ids=flat[None])[0])
    assert abs(found - model(ids, attention_mask=mask)[0]).max() > 0.1


@pytest.mark.parametrize("branch", BRANCHES)
def test_invariant_default_positions_count_real_tokens(branch):
    model, ids = build(BODY, branch, masking="invariant"), token_ids(1, 45)
    mask = np.zeros((1, 45), int)
    mask[0, [1, 2, 5, 8, 20, 33, 44]] = 1
    found = model(ids, attention_mask=mask).last_hidden_state  # longer than the table: only real tokens count
    place = np.flatnonzero(mask[0])
    again = model(ids[:, place], position_ids=np.arange(2, 9)).last_hidden_state
    np.testing.assert_array_equal(found[0, place], again[0])
    mask[0, :41] = 1  # and that at 44
    with pytest.raises(ValueError, match="sequence has 42 tokens, but max_position_embeddings is 40"):
        model(ids, attention_mask=mask)


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("model", MODELS)
def test_padding_may_hold_anything(model, branch):
    """NaN, infinities and ids outside every table: nothing of it reaches an output."""
    head = build(model, branch, masking="invariant", num_hidden_layers=1)
    given = inputs_for(model, batch=2, length=11)
    mask = given["attention_mask"]
    mask[0, ..., [0, 4]] = 0
    if model is ANSWER:
        given |= {"start_positions": np.array([1, 2]), "end_positions": np.array([3, 5])}
    expected = head(**given, **EVERYTHING)
    for garbage in (-1, 2**62):
        wrong = {
            name: np.where(mask == 1, given[name], garbage) for name in ("input_ids", "token_type_ids", "position_ids")
        }
        found = head(**{**given, **wrong}, **EVERYTHING)
        for (name, one), (other_name, other) in zip(found.items(), expected.items(), strict=True):
            assert name == other_name
            np.testing.assert_array_equal(stacked(one), stacked(other))
    del given["input_ids"]
    embeds = np.random.RandomState(0).standard_normal((*mask.shape, 16))
    expected = head(**given, inputs_embeds=embeds)
    for garbage in (np.nan, np.inf):
        wrong = np.where(mask[..., None] == 1, embeds, garbage)
        found = head(**given, inputs_embeds=wrong)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize(
    ("model", "branch"),
    [
        (SEQUENCE, "dense"),
        (SEQUENCE, "nystrom"),
        (CHOICE, "dense"),
        (CHOICE, "nystrom"),
    ],
)
def test_invariant_reads_the_first_real_token(model, branch):
    """A whole sequence is classified by the first of its real tokens, wherever it stands."""
    head = build(model, branch, masking="invariant", num_hidden_layers=1)
    ids = token_ids(2, 3, 11) if model is CHOICE else token_ids(2, 11)
    mask = np.ones_like(ids)
    mask[0, ..., :5] = 0
    mask[1, ..., [1, 6, 10]] = 0
    out = head(ids, attention_mask=mask, labels=[1, 0], **EVERYTHING)
    for row in range(2):
        real = mask[row].reshape(-1, 11)[0] == 1
        alone = head(ids[row : row + 1, ..., real], **EVERYTHING)
        assert_close(out.logits[row], alone.logits[0])
    losses = [head(ids[i : i + 1, ..., mask[i].reshape(-1, 11)[0] == 1], labels=[1 - i]).loss for i in range(2)]
    assert_close(out.loss, np.mean(losses))


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("model", HEADS)
def test_loss_of_a_padded_batch(model, branch):
    """The loss is what the unpadded sequences give, averaged over tokens or over sequences."""
    head = build(model, branch, masking="invariant", num_hidden_layers=1)
    length = 11
    ids = token_ids(3, 3, length) if model is CHOICE else token_ids(3, length)
    labels = labels_for(model, 3, length)
    mask = np.ones_like(ids)
    mask[0, ..., 8:] = 0
    mask[1, ..., :1] = 0  # the answers' positions are in the padded sequence
    found = head(ids, attention_mask=mask, **labels).loss
    losses, counts = [], []
    for row in range(3):
        real = np.flatnonzero(mask[row].reshape(-1, length)[0])
        if model is ANSWER:
            given = {name: np.searchsorted(real, value[row : row + 1]) for name, value in labels.items()}
        elif model in (MASKED_LM, TOKEN):
            given = {"labels": labels["labels"][row : row + 1, real]}
        else:
            given = {"labels": labels["labels"][row : row + 1]}
        losses.append(head(ids[row : row + 1, ..., real], **given).loss)
        counts.append((given["labels"] != -100).sum() if model in (MASKED_LM, TOKEN) else 1)
    assert len(set(counts)) > 1 or model not in (MASKED_LM, TOKEN)
    assert_close(found, np.average(losses, weights=counts))


@pytest.mark.parametrize("branch", BRANCHES)
def test_answers_outside_the_real_tokens(branch):
    """Padding has no share of the probability: with all but one token padded, the answer is certain."""
    head = build(ANSWER, branch, masking="invariant")
    mask = np.zeros((1, 11), int)
    mask[0, 6] = 1
    assert head(token_ids(1, 11), attention_mask=mask, start_positions=[6], end_positions=[6]).loss == 0.0
    mask[0, 2] = 1
    out = head(token_ids(1, 11), attention_mask=mask, start_positions=[2], end_positions=[6])
    start, end = out.start_logits[0, [2, 6]], out.end_logits[0, [2, 6]]
    expected = (np.logaddexp(*start) - start[0] + np.logaddexp(*end) - end[1]) / 2
    assert_close(out.loss, expected)
    cut_off = head(token_ids(1, 11), attention_mask=mask, start_positions=[2], end_positions=[11])
    assert np.isnan(cut_off.loss)  # the only end is ignored


@pytest.mark.parametrize("branch", BRANCHES)
def test_invariant_in_float32(branch):
    ids, mask = token_ids(4, 16), masks(4, 16)
    single = build(BODY, branch, masking="invariant", dtype="float32")
    out = single(ids, attention_mask=mask)
    assert out.last_hidden_state.dtype == np.float32
    for row in range(4):
        alone = single(ids[row, mask[row] == 1][None]).last_hidden_state[0]
        assert_close(out.last_hidden_state[row, mask[row] == 1], alone, 1e-4)


@pytest.mark.parametrize("masking", MASKINGS)
@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("model", MODELS)
def test_a_sequence_without_tokens_is_finite(model, branch, masking):
    head = build(model, branch, masking=masking, num_hidden_layers=1)
    arguments = inputs_for(model, batch=3, length=11)
    arguments["attention_mask"][1] = 0
    out = head(**arguments, **EVERYTHING)
    for value in out.values():
        assert np.isfinite(stacked(value)).all()
    if masking == "invariant":
        rows = slice(3, 6) if model is CHOICE else slice(1, 2)
        assert not np.stack(out.hidden_states)[:, rows].any()
        assert not np.stack(out.attentions)[:, rows].any()
        lone = head(**{n: v[1:2] for n, v in arguments.items()}, **EVERYTHING)  # nothing but padding
        assert not np.stack(lone.hidden_states).any()
    elif branch == "dense":  # equal attention to every key
        rows = slice(3, 6) if model is CHOICE else slice(1, 2)
        assert_close(np.stack(out.attentions)[:, rows], np.full((1, rows.stop - rows.start, 2, 11, 11), 1 / 11), 1e-12)


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("batch", [1, 2])
def test_a_batch_of_padding_alone_is_zeros(model, branch, batch):
    """By definition too; what a head makes of them is what it makes of such a sequence beside others."""
    head = build(model, branch, masking="invariant")
    arguments = inputs_for(model, batch=batch + 1, length=11)
    arguments["attention_mask"][:batch] = 0
    among = head(**arguments, **EVERYTHING)
    arguments = {name: value[:batch] for name, value in arguments.items()}
    found = head(**arguments, **EVERYTHING)
    with definitions():
        expected = head(**arguments, **EVERYTHING)
    assert_everything(found, expected)
    assert not np.stack(expected.hidden_states).any()
    assert not np.stack(expected.attentions).any()
    for one, other in zip(logits_of(found), logits_of(among), strict=True):
        assert_close(one, other[: len(one)])


def test_padding_may_hold_anything_where_the_table_has_one_row():
    model, ids = build(BODY, masking="invariant", num_hidden_layers=1, type_vocab_size=1), token_ids(2, 6)
    mask = np.array([[1, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 1]])
    found = model(ids, attention_mask=mask, token_type_ids=np.where(mask, 0, 9)).last_hidden_state
    np.testing.assert_array_equal(found, model(ids, attention_mask=mask).last_hidden_state)


def test_nothing_but_padding_needs_no_position():
    model = build(BODY, masking="invariant", num_hidden_layers=1, max_position_embeddings=1)
    assert not model(token_ids(2, 5), attention_mask=np.zeros((2, 5))).last_hidden_state.any()
    vectors = np.ones((2, 5, model.config.hidden_size))
    assert not model(inputs_embeds=vectors, attention_mask=np.zeros((2, 5))).last_hidden_state.any()


@pytest.mark.parametrize("branch", BRANCHES)
def test_invariant_with_a_head_mask(branch):
    model, ids, mask = build(BODY, branch, masking="invariant"), token_ids(4, 16), masks(4, 16)
    for head_mask in ([1, 0], [[1, 1], [0, 1]]):
        out = model(ids, attention_mask=mask, head_mask=head_mask).last_hidden_state
        assert abs(out - model(ids, attention_mask=mask).last_hidden_state).max() > 0.1
        for row in range(4):
            alone = model(ids[row, mask[row] == 1][None], head_mask=head_mask).last_hidden_state[0]
            assert_close(out[row, mask[row] == 1], alone)


@pytest.mark.parametrize("batch", [2, 3])
def test_invariant_without_padding(batch):
    """Sequences share no initial value then either, however few they are."""
    ids, model = token_ids(batch, 16), build(BODY, masking="invariant", num_hidden_layers=1)
    found = model(ids).last_hidden_state
    for row in range(batch):
        assert_close(found[row], model(ids[row : row + 1]).last_hidden_state[0], 1e-12)
    shared = build(BODY, num_hidden_layers=1)(ids).last_hidden_state
    assert abs(found - shared).max() > 1e-6  # or nothing would be shown


def test_invariant_with_the_exact_inverse():
    ids, mask = token_ids(4, 23), masks(4, 23)
    model = build(BODY, length=23, masking="invariant", pinv_method="svd", num_hidden_layers=1)
    out = model(ids, attention_mask=mask).last_hidden_state
    for row in range(4):
        assert_close(out[row, mask[row] == 1], model(ids[row, mask[row] == 1][None]).last_hidden_state[0], 1e-9)


def test_answers_before_the_text_count_as_its_first_token():
    """Positions are clamped, −100 too, also where padding is left out: the reference's rule, not that of labels."""
    model, ids = build(ANSWER, "dense", masking="invariant"), token_ids(2, 6)
    mask = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    losses = [model(ids, mask, start_positions=[start, 1], end_positions=[2, 3]).loss for start in (-100, -1, 0, 1)]
    assert losses[0] == losses[1] == losses[2] != losses[3]


def test_answers_at_padding_before_the_text_are_ignored():
    """A position that was set aside is none of the sequence, so it counts as one beyond it does: not at all."""
    model, ids = build(ANSWER, "dense", masking="invariant"), token_ids(2, 6)
    mask = np.array([[0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    at_padding, beyond, real = (
        model(ids, mask, start_positions=[start, 2], end_positions=[3, 3]).loss for start in (0, 6, 1)
    )
    assert at_padding == beyond != real
