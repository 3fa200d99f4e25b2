"""Files of ``torch.save`` against torch itself: what it writes is read the same, what we write it reads the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from nystrom_np import NystromformerForMaskedLM
from nystrom_np.checkpoint import CheckpointError
from nystrom_np.convert import convert
from nystrom_np.torch_archive import load_archive
from tests.models import MASKED_LM, build
from tests.reference.client import HERE, run_inside
from tests.reference.environment import VERSIONS, ReferenceUnavailable, python
from tests.torch_files import Archive, Raw, Tensor, archive, called, encoded, state_dict

pytestmark = pytest.mark.reference


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    try:
        python(request.param)
    except ReferenceUnavailable as error:
        pytest.skip(str(error))
    return str(request.param)


def flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, item in items for k, v in flat(item, f"{name}/{key}").items()}
    return {name: value}


def assert_read_as_torch_reads(folder: Path, version: str) -> dict[str, Any]:
    run_inside(version, HERE / "run_torch.py", "load", folder)
    answers: dict[str, Any] = json.loads((folder / "answers.json").read_text())
    for file, plain in answers["plain"].items():
        leaves = flat(load_archive(folder / file))
        expected = load_file(folder / file.replace(".bin", ".safetensors"))
        assert {name for name, leaf in leaves.items() if isinstance(leaf, np.ndarray)} == expected.keys()
        for name, array in expected.items():
            assert leaves[name].dtype == array.dtype, name
            np.testing.assert_array_equal(leaves[name], array, err_msg=f"{file}{name}", strict=True)
        assert {name: leaf for name, leaf in leaves.items() if name not in expected} == plain
    return answers


def test_what_torch_writes_is_read_as_torch_reads_it(version: str, tmp_path: Path) -> None:
    run_inside(version, HERE / "run_torch.py", "save", tmp_path)
    answers = assert_read_as_torch_reads(tmp_path, version)
    assert answers["refused"] == {}
    names = [f"{name}.bin" for name in ("types", "views", "module", "parameters", "training")]
    assert answers["plain"].keys() == {*names, *(f"old-{name}" for name in names)}
    for file in ("views.bin", "old-views.bin"):
        whole, turned = (load_archive(tmp_path / file)[name] for name in ("whole", "transposed"))
        np.testing.assert_array_equal(whole.T, turned)


def test_what_the_tests_write_is_what_torch_reads(version: str, tmp_path: Path) -> None:
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    kinds = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "?", "u2")
    arrays = {kind: (matrix % 2 if kind == "?" else matrix * 7).astype(kind) for kind in kinds}
    for order, sign in (("little", "<"), ("big", ">")):
        stored = {kind: array.astype(array.dtype.newbyteorder(sign)) for kind, array in arrays.items()}
        archive(state_dict(stored), order).write(tmp_path / f"{order}.bin")
    turned = {"a": Tensor(matrix, size=(4, 3), stride=(1, 4)), "b": Tensor(matrix, offset=5, size=(), stride=())}
    archive(turned).write(tmp_path / "views.bin")
    archive({"model_state_dict": state_dict(arrays), "more": [1, 2.5, None, True]}).write(tmp_path / "nested.bin")
    answers = assert_read_as_torch_reads(tmp_path, version)
    assert answers["refused"] == {}
    assert len(answers["plain"]) == 4


def test_what_torch_refuses_is_refused(version: str, tmp_path: Path) -> None:
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    hostile = {
        "system": Archive(b"\x80\x02" + called("os system", "true").instructions + b"."),
        "eval": Archive(b"\x80\x02" + called("builtins eval", "1").instructions + b"."),
        "beyond": archive({"a": Tensor(matrix, offset=1)}),
        "stride": archive({"a": Tensor(matrix, stride=(400, 1))}),
        "negative": archive({"a": Tensor(matrix, offset=-1)}),
        "count": archive({"a": Tensor(matrix, count=2**40)}),
        "missing": Archive(b"\x80\x02" + encoded(Tensor(matrix)) + b"."),
        "order": archive({"a": Tensor(matrix)}, "middle"),
        "stack": Archive(b"\x80\x02" + Raw(b"NR.").instructions),
    }
    for name, content in hostile.items():
        content.write(tmp_path / f"{name}.bin")
    whole = (archive({"a": Tensor(matrix)}).write(tmp_path / "cut.bin")).read_bytes()
    (tmp_path / "cut.bin").write_bytes(whole[:-30])
    run_inside(version, HERE / "run_torch.py", "load", tmp_path)
    refused = json.loads((tmp_path / "answers.json").read_text())["refused"]
    assert refused.keys() == {path.name for path in tmp_path.glob("*.bin")}
    for file in refused:
        with pytest.raises(CheckpointError):
            load_archive(tmp_path / file)


def test_a_checkpoint_of_transformers_is_converted(version: str, tmp_path: Path) -> None:
    model = build(MASKED_LM, dtype="float32")
    model.save_pretrained(tmp_path / "first")
    script = (
        "import sys, torch, transformers\n"
        "folder = sys.argv[1]\n"
        "model = transformers.NystromformerForMaskedLM.from_pretrained(folder + '/first')\n"
        "model.config.save_pretrained(folder + '/source')\n"
        "torch.save(model.state_dict(), folder + '/source/pytorch_model.bin')\n"
    )
    (tmp_path / "script.py").write_text(script)
    run_inside(version, tmp_path / "script.py", tmp_path)
    made = convert(tmp_path / "source", tmp_path / "target")
    assert made.model == "NystromformerForMaskedLM"
    again = NystromformerForMaskedLM.from_pretrained(tmp_path / "target")
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array, err_msg=name)
