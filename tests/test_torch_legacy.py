"""Files of ``torch.save`` before 1.6: honest ones come out to the bit, hostile ones are refused and do nothing."""

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nystrom_np import NystromformerForMaskedLM, convert
from nystrom_np.checkpoint import CheckpointError
from nystrom_np.torch_archive import load_archive, read_state_dict
from tests.models import MASKED_LM, build
from tests.torch_files import Raw, Tensor, called, encoded, state_dict, tensors_in

MATRIX = np.arange(12, dtype=np.float32).reshape(3, 4)
NUMBER = 0x1950A86A20F9469CFC6C


def legacy(value: Any, version: int = 1001, keys: list[str] | None = None, protocol: int = 2) -> bytes:
    """What torch before 1.6 would write: references to storages have a sixth part, and the storages come last."""
    found = {it.key: it.storage for it in tensors_in(value)}
    body = b"\x80\x02" + encoded(value).replace(b"tQ", b"NtQ") + b"."
    head = b"".join(pickle.dumps(it, protocol) for it in (NUMBER, version, {"little_endian": True}))
    listed = pickle.dumps(list(found) if keys is None else keys, protocol)
    storages = (struct.pack("<q", array.size) + array.tobytes() for array in found.values())
    return head + body + listed + b"".join(storages)


def written(content: bytes, folder: Path) -> Path:
    path = folder / "old.bin"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "u2", "i8", "i4", "i2", "i1", "u1", "?"])
def test_every_type_at_any_alignment(dtype: str, protocol: int, tmp_path: Path) -> None:
    arrays = {"a": (MATRIX % 2 if dtype == "?" else MATRIX).astype(dtype), "b": np.ones(5, "i1"), "c": MATRIX}
    found = load_archive(written(legacy(state_dict(arrays), protocol=protocol), tmp_path))
    expected = arrays["a"]
    if dtype == "u2":  # the bits of bfloat16
        expected = (expected.astype(np.uint32) << 16).view(np.float32)
    for name, array in {**arrays, "a": expected}.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
        assert not found[name].flags.writeable


def test_views_of_one_storage(tmp_path: Path) -> None:
    value = {"whole": Tensor(MATRIX), "turned": Tensor(MATRIX, size=(4, 3), stride=(1, 4)), "epoch": 3}
    found = load_archive(written(legacy(value), tmp_path))
    np.testing.assert_array_equal(found["whole"], MATRIX)
    np.testing.assert_array_equal(found["turned"], MATRIX.T)
    assert found["epoch"] == 3


@pytest.mark.parametrize("place", ["state_dict", "model", None])
def test_a_checkpoint_is_converted(place: str | None, tmp_path: Path) -> None:
    model = build(MASKED_LM, dtype="float32")
    model.config.save_pretrained(tmp_path)
    state = state_dict(model.state_dict())
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(legacy(state if place is None else {place: state, "epoch": 3}))
    made = convert.convert(tmp_path, tmp_path / "made")
    again = NystromformerForMaskedLM.from_pretrained(made.folder)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], value)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (legacy(called("os system", "true")), "its pickle is refused: it names os.system"),
        (legacy([called("builtins eval", "1")]), "its pickle is refused: it names builtins.eval"),
        (legacy({"a": Tensor(MATRIX)}, version=1002), "its format has the version 1002, expected 1001"),
        (legacy({"a": Tensor(MATRIX)}, keys=[]), "its list of storages names others"),
        (legacy({"a": Tensor(MATRIX)}, keys=["0", "1"]), "its list of storages names others"),
        (legacy({"a": Tensor(MATRIX, offset=1)}), "reaches beyond its storage"),
        (legacy({"a": Tensor(MATRIX, count=11)}), "should have 11 elements, and has 12"),
        (legacy({"a": Tensor(MATRIX, count=2**40)}), "ends after the file"),
        (legacy([Tensor(MATRIX), Tensor(MATRIX, kind="IntStorage")]), "has two types or lengths"),
        (legacy({"a": Raw(b"N")})[:-20], "its pickle is damaged"),
    ],
)
def test_what_is_refused(content: bytes, match: str, tmp_path: Path) -> None:
    path = written(content, tmp_path)
    with pytest.raises(CheckpointError, match=match) as caught:
        read_state_dict(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


class Touches:
    """What makes a file when a pickle of it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("at", range(1, 5))
def test_nothing_is_run_in_any_of_its_pickles(at: int, tmp_path: Path) -> None:
    mark = tmp_path / "run"
    pickles: list[Any] = [NUMBER, 1001, {}, {}, []]
    pickles[at] = Touches(mark)
    content = b"".join(pickle.dumps(value, 2) for value in pickles)
    with pytest.raises(CheckpointError, match=r"its pickle is refused: it names \w+\.system"):
        load_archive(written(content, tmp_path))
    assert not mark.exists()


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    whole = legacy({"a": Tensor(MATRIX)})
    for length in range(len(whole)):
        with pytest.raises(CheckpointError):
            load_archive(written(whole[:length], tmp_path))
