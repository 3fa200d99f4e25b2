"""Wrong values of arguments that lie on a device: found by one read at the end, and named as the host's are."""

import copy

import numpy as np
import pytest

from nystrom_np import NystromformerConfig, NystromformerForTokenClassification, NystromformerModel
from nystrom_np.array_module import DeviceError
from nystrom_np.fast import on_device, on_numpy
from nystrom_np.fast.on_numpy import encoder, threads
from nystrom_np.fast.skip import attention_with_skip
from nystrom_np.model import heads, nystromformer
from nystrom_np.model.inputs import Checks
from nystrom_np.model.parameters import draw, layer_shapes, tree
from tests.backends import host_reads, make_backend
from tests.models import CHOICE, MODELS

CONFIG = NystromformerConfig(
    vocab_size=11, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, num_labels=3
)
IDS = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])


@pytest.fixture
def device():
    return make_backend("strict")


def model_there(device, cls, config=CONFIG):
    here = cls(config)
    return cls(config, parameters={name: device.array(value) for name, value in here.state_dict().items()})


def test_a_mask_that_is_not_binary(device):
    mask = np.ones((2, 4), int)
    mask[1, 2] = 7
    model = model_there(device, NystromformerModel)
    with (
        host_reads(),
        pytest.raises(ValueError, match=r"^attention_mask must hold only 0 and 1 .*found 7 at \[1, 2\]$"),
    ):
        model(device.array(IDS), device.array(mask))


def test_only_the_wrong_argument_is_named(device):
    """The mask is right, the label is not: the first flag that is raised decides."""
    labels = np.zeros((2, 4), int)
    labels[0, 3] = -4
    model = model_there(device, NystromformerForTokenClassification)
    with (
        host_reads(),
        pytest.raises(IndexError, match=r"^labels\[0, 3\] is -4, but there are 3 classes: 0 to 2, or -100"),
    ):
        model(device.array(IDS), device.array(np.ones((2, 4), int)), labels=device.array(labels))


def test_an_id_outside_its_table(device):
    """Like CuPy, the stand-in takes an index modulo the table: only the check can tell."""
    ids = IDS.copy()
    ids[0, 1] = 11
    model = model_there(device, NystromformerModel)
    with host_reads(), pytest.raises(IndexError, match=r"^input_ids\[0, 1\] is 11, but the word embedding has 11 rows"):
        model(device.array(ids))


def test_what_was_checked_is_not_read_again(device):
    checks = Checks(device.array(np.zeros(1)))
    with host_reads() as reads:
        checks.ids("input_ids", device.array(IDS), 11, "the word embedding")
        checks.finish()
        checks.finish()
    assert reads.count == 1


def test_right_values_pass_and_are_read_once(device):
    model = model_there(device, NystromformerForTokenClassification)
    arguments = {"attention_mask": np.ones((2, 4), int), "labels": np.full((2, 4), -100)}
    with host_reads() as reads:
        out = model(device.array(IDS), **{name: device.array(value) for name, value in arguments.items()})
    assert reads.count == 1
    assert np.isnan(device.numpy(out.loss))


def test_a_call_after_a_wrong_one_is_checked_alone(device):
    model = model_there(device, NystromformerModel)
    with host_reads(), pytest.raises(ValueError, match="attention_mask"):
        model(device.array(IDS), device.array(np.full((2, 4), 2)))
    with host_reads():
        assert model(device.array(IDS), device.array(np.ones((2, 4), int)))[0].shape == (2, 4, 8)


def test_invariant_masking_reads_a_mask_of_the_host_without_the_device(device):
    config = NystromformerConfig(**{**CONFIG.to_dict(), "masking": "invariant"})
    model = model_there(device, NystromformerModel, config)
    with host_reads() as reads:
        model(IDS, [[1, 1, 1, 0], [1, 1, 0, 0]])
    assert reads.count == 0


def test_work_on_a_device_is_queued_by_the_calling_thread(device, monkeypatch):
    """It is parallel itself; threads are for NumPy."""

    def handed_over(*_):
        raise AssertionError

    monkeypatch.setattr(threads._helpers, "submit", handed_over)
    ids = np.ones((8, 64), int)
    config = NystromformerConfig(**{**CONFIG.to_dict(), "num_landmarks": 4, "segment_means_seq_len": 16})
    with threads.using_threads(2):
        model_there(device, NystromformerModel, config)(ids)
        with pytest.raises(AssertionError):
            NystromformerModel(config)(ids)


@pytest.mark.parametrize("head", MODELS)
def test_memory_that_does_not_suffice_is_one_sentence(head, monkeypatch):
    """Whatever ran out of it: CuPy's own error is about bytes and pools."""

    def exhausted(*_):
        raise type("OutOfMemoryError", (MemoryError,), {"__module__": "cupy.cuda.memory"})("Out of memory")

    for module in (nystromformer, heads):
        monkeypatch.setattr(module, "encode", exhausted)
    ids = IDS[:, None] if head is CHOICE else IDS
    with pytest.raises(DeviceError, match=r"^the memory of the GPU does not suffice for this forward pass \(Out of"):
        head(CONFIG)(ids)


@pytest.mark.parametrize("room", [encoder, on_device], ids=lambda room: room.__name__)
def test_attention_is_not_held_unless_asked_for(room, device):
    array, twins = (device.array, on_device) if room is on_device else (np.asarray, on_numpy)
    p = tree({name: array(value) for name, value in draw(CONFIG, layer_shapes(CONFIG), seed=0).items()})
    x, q = array(np.ones((1, 4, 8), np.float32)), array(np.ones((1, 2, 4, 4), np.float32))
    out, asked = array(np.ones((1, 2, 4, 4), np.float32)), copy.copy(CONFIG)
    asked.output_attentions = True
    attend = p["attention"]["self"]
    assert room.encoder_layer(p, CONFIG, x)[1] is None
    assert room.encoder_layer(p, asked, x)[1].shape == (1, 2, 4, 4)
    assert room.self_attention(attend, CONFIG, x)[1] is None
    assert attention_with_skip(twins, attend, CONFIG, q, q, q, None, out) is None
    assert attention_with_skip(twins, attend, asked, q, q, q, None, out).shape == (1, 2, 4, 4)
