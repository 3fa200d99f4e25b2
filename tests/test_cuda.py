"""`device="cuda"` without a GPU: every line that a GPU runs, on a stand-in for cupy, and what is said in need."""

import math
import sys

import numpy as np
import pytest

from nystrom_np import NystromformerForMaskedLM, NystromformerModel
from nystrom_np.array_module import DeviceError, array_module_of, device_of, move_like, to_device, to_numpy
from nystrom_np.cli import main
from nystrom_np.fast.on_device import fused
from nystrom_np.functional import ACTIVATIONS
from tests import cuda
from tests.backends import StrictArray, host_reads
from tests.models import (
    BODY,
    BRANCHES,
    CHOICE,
    MASKED_LM,
    MODELS,
    SEQUENCE,
    TOKEN,
    build,
    build_another,
    inputs_for,
    token_ids,
)
from tests.test_predict import LENGTHS, Source, assert_same, texts

EVERYTHING = {"output_attentions": True, "output_hidden_states": True}


@pytest.fixture
def cupy():
    with cuda.stand_in() as module:
        yield module


def on_cuda(model):
    """The same model on the device; the one that tests share stays where it is."""
    return type(model)(model.config, parameters=model.state_dict()).to("cuda")


# ------------------------------------------------------------------------------------------------ the whole way


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("model", MODELS)
def test_a_model_gives_the_same_there(model, branch, cupy):
    head, given = build(model, branch, num_hidden_layers=1), inputs_for(model)
    expected = head(**given, **EVERYTHING)
    there = on_cuda(head)
    assert there.device == "cuda:0"
    assert all(isinstance(value, StrictArray) for value in there.state_dict().values())
    found = there(**given, **EVERYTHING)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        for one, other in zip(*((x if isinstance(x, tuple) else (x,)) for x in (value, expected[name])), strict=True):
            assert isinstance(one, StrictArray)
            np.testing.assert_allclose(to_numpy(one), other, rtol=0, atol=1e-12)


def test_loading_moving_and_saving(tmp_path, cupy):
    build(MASKED_LM, dtype="float32").save_pretrained(tmp_path / "one")
    there = NystromformerForMaskedLM.from_pretrained(tmp_path / "one", device="cuda")
    there.save_pretrained(tmp_path / "two")
    here = NystromformerForMaskedLM.from_pretrained(tmp_path / "two", device="cuda:0").to("cpu")
    assert (there.device, here.device) == ("cuda:0", "cpu")
    for name, value in here.state_dict().items():
        assert type(value) is np.ndarray
        np.testing.assert_array_equal(value, build(MASKED_LM, dtype="float32").state_dict()[name])


def test_arrays_are_moved_once(cupy):
    x = np.arange(3.0)
    there = to_device(x, "cuda")
    assert device_of(there) == "cuda:0"
    assert to_device(there, "cuda") is there
    assert move_like(there, there) is there
    np.testing.assert_array_equal(to_numpy(move_like(x, there)), x)
    np.testing.assert_array_equal(move_like(there, x), x)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_keep_their_dtype(name, cupy):
    x = to_device(np.linspace(-3, 3, 7, dtype="float16"), "cuda")
    found = ACTIVATIONS[name](x)
    assert found.dtype == "float16"
    np.testing.assert_allclose(to_numpy(found), ACTIVATIONS[name](to_numpy(x)), atol=1e-2)


def test_a_formula_is_compiled_once(cupy):
    made = []
    cupy.fuse = lambda kernel_name: lambda function: made.append(function) or function
    square = fused(lambda x: x * x)
    for _ in range(2):
        np.testing.assert_array_equal(to_numpy(square(to_device(np.arange(3.0), "cuda"))), [0, 1, 4])
    assert len(made) == 1


@pytest.mark.parametrize(("chunk", "rows"), [(0, [80]), (-1, [80]), (1, [1] * 80), (20, [20] * 4)])
def test_rows_stay_together_unless_they_are_to_be_cut(chunk, rows, cupy):
    """A device is parallel by itself: all positions at once, or as many as ``chunk_size_feed_forward`` says."""
    seen = []
    model = build_another(BODY, chunk_size_feed_forward=chunk, num_hidden_layers=1)
    model.config.hidden_act = lambda x: seen.append(math.prod(x.shape[:-1])) or x
    on_cuda(model)(token_ids(2, 40))
    assert seen == rows


def test_a_checkpoint_is_verified_there(cupy, capsys):
    assert main(["verify", "tests/checkpoints/masked-lm-nystrom", "--device", "cuda"]) == 0
    assert "agree" in capsys.readouterr().out


def test_the_command_line_says_in_one_line_what_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert main(["verify", "tests/checkpoints/masked-lm-nystrom", "--device", "cuda"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# --------------------------------------------------------------------------------------------------- many inputs


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("model", [model for model in MODELS if model is not CHOICE])
def test_predict_gives_the_same_on_the_host(model, branch, cupy):
    head, encodings = build(model, branch, num_hidden_layers=1, **EVERYTHING), texts(*LENGTHS)
    for found, expected in zip(
        on_cuda(head).predict(encodings, batch_size=3), head.predict(encodings, batch_size=3), strict=True
    ):
        assert all(
            type(x) is np.ndarray for value in found.values() for x in (value if type(value) is tuple else [value])
        )
        assert_same(found, expected)


def test_predict_of_choices(cupy):
    head = build(CHOICE, num_hidden_layers=1)
    encodings = [{"input_ids": token_ids(number, 9, seed=number)} for number in (2, 4, 1)]
    for found, expected in zip(on_cuda(head).predict(encodings), head.predict(encodings), strict=True):
        assert_same(found, expected)


def test_the_next_batch_is_queued_before_the_last_is_waited_for(cupy, monkeypatch):
    """Each result is copied on a stream of its own, behind the work it needs and beside the next batch's."""
    there = on_cuda(build(BODY, num_hidden_layers=1))
    forward = NystromformerModel.__call__
    monkeypatch.setattr(BODY, "__call__", lambda *a, **k: cuda.log.append("forward") or forward(*a, **k))
    results = there.predict(texts(5, 4, 3), batch_size=1)
    copy = ["pinned", "work records", "copies wait for work", "copies records"]
    begun = ["forward", *sorted(copy)]
    next(results)
    assert cuda.log[0] == cuda.log[5] == "forward"
    assert [*cuda.log[:1], *sorted(cuda.log[1:5])] == begun
    assert [*cuda.log[5:6], *sorted(cuda.log[6:10])] == begun
    assert cuda.log[10:] == ["host waits for copies"]
    assert cuda.log.index("work records") < cuda.log.index("copies wait for work") < cuda.log.index("copies records")
    cuda.log.clear()
    next(results)
    assert (cuda.log[0], cuda.log[-1]) == ("forward", "host waits for copies")
    cuda.log.clear()
    assert len(list(results)) == 1
    assert cuda.log == ["host waits for copies"]


def test_two_batches_are_held_and_no_more(cupy):
    source = Source(texts(*LENGTHS))
    results = on_cuda(build(BODY, num_hidden_layers=0)).predict(source, batch_size=2)
    for number, _ in enumerate(results):
        assert source.taken == min(number // 2 * 2 + 4, len(LENGTHS))


def test_a_wrong_encoding_fails_after_the_results_before_it(cupy):
    given = [*texts(5, 4), {"input_ids": [99]}, *texts(3)]
    for model in (build(TOKEN), on_cuda(build(TOKEN))):
        results = model.predict(given, batch_size=1)
        assert [next(results).logits.shape for _ in range(2)] == [(1, 5, 2), (1, 4, 2)]
        with pytest.raises(IndexError, match="is 99, but the word embedding has 53 rows"):
            next(results)


def test_predict_reads_nothing_but_its_results(cupy):
    there = on_cuda(build(SEQUENCE, "dense", num_hidden_layers=1))
    with host_reads() as reads:
        assert len(list(there.predict(texts(*LENGTHS), batch_size=3))) == len(LENGTHS)
    assert reads.count == 3  # one array of logits for each batch


# ------------------------------------------------------------------------------------------ what is said in need

INSTALL = r'pip install "nystrom_np\[cuda12\]" \(or \[cuda13\], to match the driver\)'
REMEDY = "use smaller batches, shorter sequences, dtype='float16', or device='cpu'$"


def test_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(
        DeviceError, match=f'^device "cuda" needs CuPy, which is not installed: {INSTALL}, or use "cpu"$'
    ):
        NystromformerModel.from_pretrained("nowhere", device="cuda")


def test_with_a_cupy_that_cannot_be_imported(monkeypatch, tmp_path):
    (tmp_path / "cupy.py").write_text("raise ImportError('''\n  libcudart.so.12 is missing\n  more\n''')")
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DeviceError, match=rf"CuPy, which fails \(libcudart.so.12 is missing\): {INSTALL}$"):
        array_module_of("cuda")


def test_without_a_driver(cupy):
    def count():
        raise cuda.CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

    cupy.cuda.runtime.getDeviceCount = count
    said = r'^device "cuda:0" needs an NVIDIA GPU with a working driver \(cudaErrorNoDevice: .*\): install the driver, '
    with pytest.raises(DeviceError, match=said + r'so that nvidia-smi lists the GPU, or use "cpu"$'):
        build(BODY).to("cuda:0")
    assert build(BODY).device == "cpu"


def test_with_too_few_devices(cupy):
    with pytest.raises(DeviceError, match=r'^device "cuda:1" does not exist: this machine has 1 CUDA device\(s\)'):
        array_module_of("cuda:1")
    cupy.cuda.runtime.getDeviceCount = lambda: 2
    with pytest.raises(DeviceError, match=r'^device "cuda:1": set CUDA_VISIBLE_DEVICES=1 and use "cuda"'):
        array_module_of("cuda:1")


@pytest.mark.parametrize("error", [ImportError, RuntimeError, OSError])
def test_without_the_libraries_of_cuda(error, cupy):
    def ones(*_, **__):
        raise error("CuPy failed to load libnvrtc.so.12\nsee the manual")

    cupy.ones = ones
    said = r'^device "cuda" lacks libraries of CUDA that CuPy needs \(CuPy failed to load libnvrtc.so.12\): '
    with pytest.raises(DeviceError, match=f'{said}{INSTALL}, or use "cpu"$'):
        array_module_of("cuda")


FULL = cuda.OutOfMemoryError("Out of memory allocating 1,024 bytes"), cuda.CUDARuntimeError("out of memory")
FULL = *FULL, cuda.CUDARuntimeError("CUBLAS_STATUS_ALLOC_FAILED")


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize("error", FULL, ids=str)
def test_too_little_memory_for_the_parameters(error, cupy):
    model = build(BODY)
    cupy.asarray = raising(error)
    said = r"^the memory of the GPU does not suffice for [\d,]+ more bytes \(.*\): "
    with pytest.raises(DeviceError, match=said + REMEDY):
        type(model)(model.config, parameters=model.state_dict()).to("cuda")


def test_too_little_memory_for_the_first_kernel(cupy):
    cupy.ones = raising(FULL[0])
    with pytest.raises(DeviceError, match="^the memory of the GPU does not suffice for its first kernel .*: " + REMEDY):
        array_module_of("cuda")


@pytest.mark.parametrize("model", MODELS)
def test_too_little_memory_in_a_forward_pass(model, cupy):
    there = on_cuda(build(model))
    cupy.exp = raising(FULL[0])
    said = r"^the memory of the GPU does not suffice for this forward pass \(Out of memory allocating 1,024 bytes\): "
    with pytest.raises(DeviceError, match=said + REMEDY):
        there(**inputs_for(model))
    with pytest.raises(DeviceError, match=said + REMEDY):
        list(there.predict([{"input_ids": token_ids(*((2, 5) if model is CHOICE else (5,)))}]))


def test_too_little_memory_for_the_scores_of_the_words(cupy, monkeypatch):
    there = on_cuda(build(MASKED_LM))
    monkeypatch.setattr(MASKED_LM, "head", staticmethod(raising(FULL[0])))
    with pytest.raises(DeviceError, match=REMEDY):
        there(token_ids(1, 5))


@pytest.mark.parametrize(
    "error", [MemoryError("of the host"), cuda.CUDARuntimeError("cudaErrorIllegalAddress")], ids=str
)
def test_other_errors_pass(error, cupy):
    there = on_cuda(build(BODY))
    cupy.exp = raising(error)
    with pytest.raises(type(error), match=str(error)):
        there(token_ids(1, 5))
