"""Files of ``torch.save``: honest ones come out to the bit, hostile ones are refused and do nothing."""

import io
import os
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nystrom_np import torch_pickle
from nystrom_np.checkpoint import CheckpointError
from nystrom_np.torch_archive import load_archive, read_state_dict
from tests.torch_files import ORDERED, Archive, Raw, Tensor, archive, called, encoded, state_dict

MATRIX = np.arange(12, dtype=np.float32).reshape(3, 4)


def loaded(value: Any, folder: Path, **options: Any) -> Any:
    return load_archive(archive(value, **options).write(folder / "file.bin"))


def refused(content: Archive | bytes, folder: Path, match: str) -> None:
    path = folder / "file.bin"
    if isinstance(content, Archive):
        content.write(path)
    else:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=match) as caught:
        load_archive(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def refused_pickle(value: Any, folder: Path, match: str) -> None:
    refused(archive(value), folder, f"its pickle is refused: .*{match}")


# --- honest ---


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "?"])
@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_every_type_in_both_byte_orders(dtype: str, byteorder: str, tmp_path: Path) -> None:
    array = (np.arange(6).reshape(2, 3) % 2 if dtype == "?" else np.arange(6).reshape(2, 3) * 17).astype(dtype)
    stored = array.astype(array.dtype.newbyteorder("<" if byteorder == "little" else ">"))
    found = loaded({"a": Tensor(stored)}, tmp_path, byteorder=byteorder)["a"]
    assert found.dtype == np.dtype(dtype)
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_bfloat16_is_widened(order: str, tmp_path: Path) -> None:
    numbers = np.array([[1.5, -2.0, 3.0e38], [np.inf, 0.0, 2.0**-130]], np.float32)
    bits = (numbers.view(np.uint32) >> 16).astype(order)
    value = {"a": Tensor(bits), "one": Tensor(bits, offset=1, size=(), stride=())}
    found = loaded(value, tmp_path, byteorder="little" if order == "<u2" else "big")
    expected = (bits.astype(np.uint32) << 16).view(np.float32)
    assert found["a"].dtype == found["one"].dtype == np.float32
    np.testing.assert_array_equal(found["a"], expected)
    np.testing.assert_array_equal(found["one"], np.float32(-2))
    assert found["one"].shape == ()


def test_views_transposed_strided_shared_and_empty(tmp_path: Path) -> None:
    value = {
        "whole": Tensor(MATRIX),
        "transposed": Tensor(MATRIX, size=(4, 3), stride=(1, 4)),
        "column": Tensor(MATRIX, offset=2, size=(3,), stride=(4,)),
        "one": Tensor(MATRIX, offset=11, size=(), stride=()),
        "empty": Tensor(MATRIX, offset=12, size=(0, 3), stride=(3, 1)),
        "band": Tensor(MATRIX, size=(5, 2), stride=(2, 1)),  # overlaps itself, within the storage
    }
    found = loaded(value, tmp_path)
    np.testing.assert_array_equal(found["whole"], MATRIX)
    np.testing.assert_array_equal(found["transposed"], MATRIX.T)
    np.testing.assert_array_equal(found["column"], MATRIX[:, 2])
    np.testing.assert_array_equal(found["one"], MATRIX[2, 3])
    assert found["empty"].shape == (0, 3)
    np.testing.assert_array_equal(found["band"], [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]])
    for array in found.values():
        assert not array.flags.writeable


def test_containers_and_parameters(tmp_path: Path) -> None:
    value = {
        "step": 7,
        "rate": -0.25,
        "names": ["é", ("a", None, True, False)],
        "large": 2**40,
        "more": {1: called("torch Size", (2, 3))},
        "parameter": called("torch._utils _rebuild_parameter", Tensor(MATRIX), True, called(ORDERED)),
    }
    value["parameter"] = Raw(encoded(value["parameter"]))
    content = archive({**value, "tensor": Tensor(MATRIX)})
    found = load_archive(content.write(tmp_path / "file.bin"))
    np.testing.assert_array_equal(found.pop("parameter"), MATRIX)
    np.testing.assert_array_equal(found.pop("tensor"), MATRIX)
    assert found == {
        "step": 7,
        "rate": -0.25,
        "names": ["é", ("a", None, True, False)],
        "large": 2**40,
        "more": {1: (2, 3)},
    }


def test_other_instructions_that_torch_writes(tmp_path: Path) -> None:
    pickled = pickle.dumps({"a": [1, 300, 70000, -1, 2**40], "t": (1, (2, 3), (4, 5, 6), ()), "one": ["x"]}, 2)
    found = loaded({"plain": Raw(pickled[2:-1])}, tmp_path)["plain"]
    assert found == {"a": [1, 300, 70000, -1, 2**40], "t": (1, (2, 3), (4, 5, 6), ()), "one": ["x"]}
    state = encoded({"a": 1}) + b"}" + encoded("_metadata") + encoded({"": {"version": 1}}) + b"sb"
    assert load_archive(Archive(b"\x80\x02" + state + b".").write(tmp_path / "file.bin")) == {"a": 1}


def test_a_state_dict_is_found_where_the_authors_put_it(tmp_path: Path) -> None:
    arrays = {"model.a": MATRIX, "model.b": MATRIX.astype(np.float16)}
    path = archive({"model_state_dict": state_dict(arrays), "epoch": 3}).write(tmp_path / "file.model")
    found = read_state_dict(path)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ([1], "holds a list, expected a dictionary from names to tensors"),
        ({"model_state_dict": 1}, "holds a int, expected a dictionary"),
        ({"a": 1}, "not a dictionary from names to tensors: 'a' is a int"),
        ({1: Tensor(MATRIX)}, "not a dictionary from names to tensors: 1 is a ndarray"),
    ],
)
def test_what_is_no_state_dict(value: Any, found: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=found):
        read_state_dict(archive(value).write(tmp_path / "file.bin"))


# --- hostile pickles ---


def test_nothing_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "run"
    command = f"touch {mark}"
    for name, argument in [("os system", command), ("posix system", command), ("subprocess getoutput", command)]:
        refused_pickle(called(name, argument), tmp_path, f"it names {name.replace(' ', '.')}, which is not part")
    for name in ("builtins eval", "builtins exec", "__builtin__ eval", "builtins getattr", "numpy load"):
        refused_pickle(
            called(name, f"open({str(mark)!r}, 'w')"), tmp_path, "it names .*, which is not part of a tensor"
        )
    for value in (os.system, Path("x"), np.arange(3), np.float64(1), frozenset([1]), b"x"):
        refused(Archive(pickle.dumps(value, 2)), tmp_path, "its pickle is refused: it names ")
    assert not mark.exists()


@pytest.mark.parametrize("protocol", [0, 1, 3, 4, 5])
def test_other_protocols_of_pickle(protocol: int, tmp_path: Path) -> None:
    refused(Archive(pickle.dumps({"a": os.system}, protocol)), tmp_path, "its pickle is refused: it (names|has)")
    mark = tmp_path / "run"
    for value in (Touches(mark), [eval, print], Path("x"), np.float64(1), {"a": {(1, 2)}}, b"bytes"):
        refused(Archive(pickle.dumps(value, protocol)), tmp_path, "its pickle is (refused|damaged): ")
    assert not mark.exists()


class Touches:
    """What makes a file when a pickle of it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize(
    ("instructions", "found"),
    [
        (b"\x8c\x02os\x8c\x06system\x93", "it names os.system, which is not part of a tensor"),
        (b"\x8c\x05torch\x8c\x03nn.\x93", "it names torch.nn., which is not part of a tensor"),
        (b"\x8c\x11collections Order\x8c\x0bOrderedDict\x93", "it names collections.Order.OrderedDict"),
        (b"N\x8c\x06system\x93", "the module of a name is a NoneType"),
        (b"\x8c\x02osN\x93", "a name is a NoneType"),
        (b"]\x94h\x00\x93", "the module of a name is a list"),
        (b"\x8c\x02os\x93", "it takes more from its stack than there is"),
    ],
)
def test_names_in_two_parts(instructions: bytes, found: str, tmp_path: Path) -> None:
    refused(Archive(b"\x80\x04" + instructions + b"."), tmp_path, found)


class Pickler(pickle.Pickler):
    """Writes an array of float32 as torch does a tensor: a call of torch's function, and a reference to a storage."""

    def __init__(self, file: Any, protocol: int, modules: Any) -> None:
        super().__init__(file, protocol)
        self.modules = modules

    def persistent_id(self, value: Any) -> Any:
        return ("storage", self.modules.FloatStorage, "0", "cpu", 12) if value is Pickler else None

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return NotImplemented
        return self.modules.rebuild, (Pickler, 0, value.shape, (4, 1), False, OrderedDict())


@pytest.fixture
def torch_modules(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Names of torch that can be pickled."""
    modules = SimpleNamespace(FloatStorage=type("FloatStorage", (), {"__module__": "torch"}), rebuild=lambda: None)
    modules.rebuild.__module__, modules.rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(FloatStorage=modules.FloatStorage))
    monkeypatch.setitem(sys.modules, "torch._utils", SimpleNamespace(_rebuild_tensor_v2=modules.rebuild))
    return modules


@pytest.mark.parametrize("place", ["model_state_dict", "state_dict", "model", None])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_state_dicts_in_every_protocol(protocol: int, place: str | None, torch_modules: Any, tmp_path: Path) -> None:
    state = OrderedDict({"a" * 300: MATRIX, "é": MATRIX})
    beside = {"epoch": 3, "step": 2**40, "loss": 0.5, "names": ["x", ("a", "a"), None, True, -1], "text": "x" * 70_000}
    stream = io.BytesIO()
    Pickler(stream, protocol, torch_modules).dump(state if place is None else {**beside, place: state})
    path = Archive(stream.getvalue(), {"data/0": MATRIX.tobytes()}).write(tmp_path / "file.bin")
    found = read_state_dict(path)
    assert list(found) == list(state)
    assert all((array == MATRIX).all() for array in found.values())
    if place is not None:
        whole = load_archive(path)
        assert {name: whole[name] for name in beside} == beside


@pytest.mark.parametrize(
    ("name", "instructions"),
    [
        ("INST", b"(ios\nsystem\n"),
        ("OBJ", b"(cos\nsystem\no"),
        ("NEWOBJ", b"ccollections\nOrderedDict\n)\x81"),
        ("NEWOBJ_EX", b"ccollections\nOrderedDict\n)}\x92"),
        ("STACK_GLOBAL", b"\x8c\x02os\x8c\x06system\x93"),
        ("EXT1", b"\x82\x01"),
        ("PERSID", b"Pstorage\n"),
        ("NEXT_BUFFER", b"\x97"),
        ("LONG4", b"\x8b\x01\x00\x00\x00\x01"),
        ("INT", b"I1\n"),
        ("DUP", b"N2"),
        ("POP", b"N0"),
        ("BINBYTES", b"B\x01\x00\x00\x00a"),
        ("FROZENSET", b"(\x91"),
        ("BYTEARRAY8", b"\x96" + b"\x00" * 8),
        ("READONLY_BUFFER", b"\x98"),
        ("EXT4", b"\x84\x01\x00\x00\x00"),
    ],
)
def test_instructions_that_torch_does_not_write(name: str, instructions: bytes, tmp_path: Path) -> None:
    if name in ("OBJ", "STACK_GLOBAL"):  # what is named before is refused before
        name = "GLOBAL|names os.system"
    refused_pickle(Raw(instructions), tmp_path, f".*({name})")


def test_names_can_be_misused_in_no_way(tmp_path: Path) -> None:
    build = called("torch._utils _rebuild_tensor_v2", 1, 0, (1,), (1,), False, None)
    refused_pickle(build, tmp_path, "a tensor views a int")
    refused_pickle(called("torch._utils _rebuild_parameter", 1, True, None), tmp_path, "a parameter is made of a int")
    refused_pickle(called("torch FloatStorage", 1), tmp_path, "it calls a StorageType")
    refused_pickle(Raw(b"]N\x85R"), tmp_path, "it calls a list")
    refused_pickle(Raw(b"ctorch\nSize\n]R"), tmp_path, "the arguments of a call are a list")
    refused_pickle(Raw(b"]}b"), tmp_path, "the instruction BUILD changes a list")
    refused_pickle(
        {"a": Tensor(MATRIX), "b": Raw(encoded(Tensor(MATRIX)) + b"}b")}, tmp_path, "BUILD changes a ndarray"
    )
    refused_pickle(Raw(b"}Na"), tmp_path, "the instruction APPEND changes a dict")
    refused_pickle(Raw(b"]NNs"), tmp_path, "the instruction SETITEM changes a list")
    refused_pickle(called("torch Size", [1]), tmp_path, "a size is a list")
    refused_pickle(called("torch Size", (-1,)), tmp_path, "a size is -1")
    refused_pickle(called("torch Size", (True,)), tmp_path, "a size is True")
    refused_pickle(called("torch Size", ("1",)), tmp_path, "a size is no integer")
    refused(archive(called(ORDERED, [(1, 2)])), tmp_path, "its pickle is damaged: .*argument")


@pytest.mark.parametrize(
    ("reference", "match"),
    [
        ("storage", "a reference to a storage is a str"),
        (("storage",), "a reference is to something else than a storage"),
        (("module", 1, 2, 3, 4), "a reference is to something else than a storage"),
        (("storage", "torch.FloatStorage", "0", "cpu", 1), "the type of a storage is a str"),
        (("storage", Raw(b"ctorch\nFloatStorage\n"), 0, "cpu", 1), "the key of a storage is a int"),
        (("storage", Raw(b"ctorch\nFloatStorage\n"), "0", "cpu", -1), "a number of elements is -1"),
        (("storage", Raw(b"ctorch\nFloatStorage\n"), "0", "cpu", 2**62), "a number of elements is 4611686018427387904"),
    ],
)
def test_references_to_storages(reference: Any, match: str, tmp_path: Path) -> None:
    refused_pickle(Raw(encoded(reference) + b"Q"), tmp_path, match)


@pytest.mark.parametrize(
    "instructions",
    [b"", b"N", b"R", b"t", b"u", b"h\x05", b"q\x00", b"\x85", b"(NNNuN", b"NN\x87", b"X\xff\xff\xff\x7fabc", b"\xff"],
)
def test_pickles_that_are_damaged(instructions: bytes, tmp_path: Path) -> None:
    end = b"" if instructions == b"N" else b"."
    refused(Archive(b"\x80\x02" + instructions + end), tmp_path, "its pickle is (damaged|refused)")


def test_deep_nesting_exhausts_no_stack(tmp_path: Path) -> None:
    depth = 5_000  # Python's own limit is 1,000
    lists = Archive(b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".")
    refused(lists, tmp_path, "nested more than 32 deep")
    refused_pickle(Raw(b"}" + b")" + b"\x85" * depth + b"Ns"), tmp_path, "a key is a tuple")


def test_bombs_of_references_are_not_unfolded(tmp_path: Path) -> None:
    doubled = b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(200))  # 2 to the 200th leaves
    refused_pickle(Raw(b"})" + doubled + b"Ns"), tmp_path, "a key is a tuple")
    refused(Archive(b"\x80\x02)" + doubled + b"."), tmp_path, "nested more than 32 deep")


def test_a_memo_is_not_as_long_as_its_largest_index(tmp_path: Path) -> None:
    assert loaded({"a": Raw(b"Nr\xff\xff\xff\xff")}, tmp_path) == {"a": None}


def test_a_pickle_is_not_longer_than_a_model_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(Archive(b"\x80\x02" + b"]" * torch_pickle.MOST_PICKLED), tmp_path, "more than the 1,048,576 allowed")


# --- lies about tensors ---


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"offset": 1}, r"size \(3, 4\) reaches beyond its storage of 12 elements"),
        ({"offset": -1}, "a storage offset is -1"),
        ({"size": (4, 4)}, "reaches beyond"),
        ({"size": (3, -4)}, "a size is -4"),
        ({"size": (2**40, 2**40), "stride": (0, 0)}, "reaches beyond"),
        ({"size": (1000,), "stride": (0,)}, "reaches beyond"),
        ({"size": (2**63, 1)}, "a size is 9223372036854775808"),
        ({"size": (3,), "stride": (-1,)}, "a stride is -1"),
        ({"size": (2,), "stride": (2**47,)}, "reaches beyond"),
        ({"size": (2,), "stride": (2**62,)}, "a stride is 4611686018427387904"),
        ({"size": (3, 4), "stride": (4,)}, "a tensor has 2 axes and 1 strides"),
        ({"size": (1,) * 33, "stride": (1,) * 33}, "a tensor has 33 axes"),
        ({"size": (0, 2**47, 2**47), "stride": (1, 1, 1)}, "cannot be made"),
        ({"size": [3, 4]}, "a size is a list"),
        ({"stride": None, "size": (3, True)}, "a size is True"),
        ({"offset": 0.0}, "a storage offset is no integer"),
        ({"count": 13}, "storage '0' should have 13 elements, and has 12"),
        ({"count": 2**40}, "storage '0' should have 1099511627776 elements"),
        ({"kind": "DoubleStorage"}, "should have 12 elements, and has 6"),
        ({"kind": "ComplexFloatStorage"}, "it names torch.ComplexFloatStorage"),
    ],
)
def test_tensors_stay_in_their_storage(fields: dict[str, Any], match: str, tmp_path: Path) -> None:
    refused_pickle({"a": Tensor(MATRIX, **fields)}, tmp_path, match)


def test_a_storage_of_half_an_element(tmp_path: Path) -> None:
    content = archive({"a": Tensor(MATRIX)})
    content.entries["data/0"] += b"\0"
    refused(content, tmp_path, "storage '0' has 49 bytes, in elements of 4")


def test_many_tensors_of_one_storage(tmp_path: Path) -> None:
    storage = np.zeros(100_000, np.float32)
    refused_pickle([Tensor(storage)] * 20, tmp_path, "its tensors have more than 16 times the size of the file")
    assert len(loaded([Tensor(storage)] * 10, tmp_path)) == 10


# --- lies about archives ---


def test_no_name_becomes_a_path(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\0" * 48)
    folder = tmp_path / "folder"
    folder.mkdir()
    for key in ("../../secret", str(secret), "../data.pkl", "", "0\0", "é/.."):
        content = archive({"a": Tensor(MATRIX, key=key)})
        content.entries.pop(f"data/{key}")
        refused(content, folder, "it has no entry")
    inside = {"a": Tensor(MATRIX, key="../../../inside")}
    np.testing.assert_array_equal(loaded(inside, folder)["a"], MATRIX)  # a name like any other
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file.bin", "folder", "secret"]


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_entries_are_not_unpacked(compression: int, tmp_path: Path) -> None:
    content = archive({"a": Tensor(np.zeros(1 << 18, np.float32))})
    content.compression = compression
    refused(content, tmp_path, "larger than itself")  # as a bomb is
    small = Archive(archive({"a": 1}).pickle, {"padding": os.urandom(1000)}, compression)
    refused(small, tmp_path, "'data.pkl' is compressed or encrypted, which torch.save never does")


def test_files_in_other_formats(tmp_path: Path) -> None:
    refused(b"", tmp_path, "not a zip archive")
    refused(pickle.dumps({"a": 1}), tmp_path, "not a zip archive")
    refused(b"PK\x03\x04", tmp_path, "damaged zip archive")
    refused(Archive(b"N.", {"data.pkl/data.pkl": b""}), tmp_path, "not an archive of one object")
    refused(Archive(b"N.", {"constants.pkl": b""}), tmp_path, "not an archive of one object")
    with zipfile.ZipFile(tmp_path / "other.bin", "w") as other:
        other.writestr("a/b", b"")
    with pytest.raises(CheckpointError, match="not an archive of one object"):
        load_archive(tmp_path / "other.bin")
    with pytest.raises(FileNotFoundError):
        load_archive(tmp_path / "absent.bin")


@pytest.mark.parametrize("byteorder", ["", "middle", "LITTLE", "little\n", "\0"])
def test_unknown_byte_orders(byteorder: str, tmp_path: Path) -> None:
    refused(archive({"a": Tensor(MATRIX)}, byteorder), tmp_path, "its byte order is .*, expected little or big")


def test_a_missing_byte_order_is_little(tmp_path: Path) -> None:
    content = archive({"a": Tensor(MATRIX)})
    del content.entries["byteorder"]
    np.testing.assert_array_equal(load_archive(content.write(tmp_path / "file.bin"))["a"], MATRIX)


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    whole = archive({"a": Tensor(MATRIX)}).write(tmp_path / "whole.bin").read_bytes()
    for length in range(0, len(whole), 7):
        refused(whole[:length], tmp_path, "zip archive")


def test_every_damaged_byte_is_noticed_or_harmless(tmp_path: Path) -> None:
    whole = archive({"a": Tensor(MATRIX)}).write(tmp_path / "whole.bin").read_bytes()
    path = tmp_path / "file.bin"
    noticed = 0
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            found = load_archive(path)
        except CheckpointError:
            noticed += 1
        else:  # in what nobody reads: a date, a version
            np.testing.assert_array_equal(found["a"], MATRIX)
    assert noticed > len(whole) / 6


def directory_with(whole: bytes, offset: int, form: str, value: int) -> bytes:
    """Change a field of the last entry in a zip file's directory."""
    at = whole.rindex(b"PK\x01\x02") + offset
    return whole[:at] + struct.pack(form, value) + whole[at + struct.calcsize(form) :]


def test_a_directory_that_lies(tmp_path: Path) -> None:
    last = {"byteorder": b"little"}
    ordered = Archive(archive({"a": 1}).pickle, last).write(tmp_path / "whole.bin").read_bytes()
    assert load_archive(tmp_path / "whole.bin") == {"a": 1}
    refused(directory_with(ordered, 42, "<I", 7), tmp_path, "has no header where the directory says")
    refused(directory_with(ordered, 42, "<I", 0xFFFFFFF0), tmp_path, "has no header where|damaged")
    refused(directory_with(ordered, 24, "<I", 7), tmp_path, "is compressed or encrypted")
    refused(directory_with(ordered, 20, "<Q", 0x6200000062), tmp_path, "checksum|damaged")
    refused(directory_with(ordered, 16, "<I", 1), tmp_path, "'byteorder' is damaged: the checksum is another one")
    refused(directory_with(ordered, 8, "<H", 1), tmp_path, "is compressed or encrypted")
    with zipfile.ZipFile(tmp_path / "twice.bin", "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02N.")
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("archive/data.pkl", b"\x80\x02N.")
    with pytest.raises(CheckpointError, match="two of its entries have the same name"):
        load_archive(tmp_path / "twice.bin")
