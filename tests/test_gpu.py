"""What only a GPU can show, beside the tests that run on every backend: precision, memory and transfers."""

import subprocess
import sys

import numpy as np
import pytest

from nystrom_np import NystromformerModel
from nystrom_np.array_module import DeviceError, to_device
from tests.backends import make_backend
from tests.models import BODY, assert_close, build_another, token_ids

pytestmark = pytest.mark.gpu


@pytest.fixture
def cupy():
    return make_backend("cupy").xp


PRODUCT = """
import cupy
x = cupy.random.default_rng(0).standard_normal((512, 512))
exact, single = x @ x, x.astype("float32") @ x.astype("float32")
print(float(abs(single - exact).max() / abs(exact).max()))
"""


@pytest.mark.parametrize(("asked", "least", "most"), [(None, 0, 1e-5), ("0", 0, 1e-5), ("1", 1e-5, 1e-2)])
def test_tf32_only_when_asked_for(asked, least, most, cupy, monkeypatch):
    """``CUPY_TF32=1``, set before the first product of a process, and nothing else."""
    if int(cupy.cuda.Device().compute_capability) < 80:
        pytest.skip("this GPU has no TF32")
    monkeypatch.delenv("CUPY_TF32", raising=False)
    if asked is not None:
        monkeypatch.setenv("CUPY_TF32", asked)
    done = subprocess.run([sys.executable, "-c", PRODUCT], check=True, capture_output=True, text=True)
    assert least <= float(done.stdout) <= most


def test_too_little_memory(cupy):
    """One sentence, for parameters and in a forward pass; afterwards the device can be used as before."""
    model = build_another(BODY, max_position_embeddings=4096, num_hidden_layers=1).to("cuda")
    there = to_device(np.zeros((1 << 20) + 1), "cuda")
    pool = cupy.get_default_memory_pool()
    before = pool.get_limit()
    pool.free_all_blocks()
    try:
        pool.set_limit(size=pool.used_bytes() + (1 << 20))
        with pytest.raises(DeviceError, match=r"does not suffice for [0-9,]+ more bytes"):
            to_device(np.zeros(1 << 20), "cuda")
        with pytest.raises(DeviceError, match="does not suffice for this forward pass"):
            model(token_ids(8, 4000))
    finally:
        pool.set_limit(size=before)
    assert there.sum().get() == 0
    assert model(token_ids(1, 8)).last_hidden_state.shape == (1, 8, 16)


def test_results_do_not_change_while_they_are_copied(cupy):
    """Many batches in flight on two streams give what each gives by itself."""
    here = build_another(BODY, dtype="float32", num_hidden_layers=1)
    there = NystromformerModel(here.config, parameters=here.state_dict()).to("cuda")
    encodings = [{"input_ids": token_ids(16, seed=number)} for number in range(200)]
    for found, given in zip(there.predict(encodings, batch_size=7), encodings, strict=True):
        assert type(found.last_hidden_state) is np.ndarray
        assert_close(found.last_hidden_state, here(given["input_ids"][None]).last_hidden_state, 2e-4)


def test_products_cannot_be_captured(cupy):
    """Why no CUDA graph is replayed here: CuPy refuses cuBLAS while it captures (cupy/cupy, issue 6290)."""
    x = cupy.ones((8, 8), dtype="float32")
    x @ x
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        try:
            with pytest.raises(NotImplementedError):
                x @ x
        finally:
            stream.end_capture()
