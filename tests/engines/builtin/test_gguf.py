"""The GGUF container: what is read, and what is refused."""

import struct

import numpy as np
import pytest

from detrec.engines.builtin.gguf import GgufFile
from detrec.errors import ModelError
from tests.engines.builtin.model_files import gguf_bytes

METADATA = {
    "general.architecture": "llama",
    "a.count": 7,
    "a.number": 0.5,
    "a.flag": True,
    "a.texts": ["Ġ", "", "漢字"],
    "a.ids": [3, -1, 4],
    "a.nested": [[1, 2], [3]],
}
TENSORS = {
    "first": ((2, 3), 0, np.arange(6, dtype="<f4").tobytes()),
    "second": ((5,), 0, np.ones(5, "<f4").tobytes()),
}


@pytest.fixture
def write(tmp_path):
    def written(data):
        path = tmp_path / "model.gguf"
        path.write_bytes(data)
        return path

    return written


@pytest.mark.parametrize("version", [2, 3])
def test_reads_metadata_of_every_kind(write, version):
    assert GgufFile(write(gguf_bytes(METADATA, TENSORS, version))).metadata == METADATA


def test_finds_tensors_rows_first(write):
    file = GgufFile(write(gguf_bytes(METADATA, TENSORS)))
    info = file.tensors["first"]
    assert (info.shape, info.ggml_type) == ((2, 3), 0)
    assert file.data(info, 24).view("<f4").tolist() == [0, 1, 2, 3, 4, 5]
    assert file.data(file.tensors["second"], 20).view("<f4").tolist() == [1] * 5


def test_honours_another_alignment(write):
    # the writer pads to 32, which is a multiple of 8 and so right for both
    file = GgufFile(write(gguf_bytes({**METADATA, "general.alignment": 8}, {"first": TENSORS["first"]})))
    assert file.tensors["first"].start % 8 == 0


def test_a_file_cut_anywhere_is_refused(write):
    whole = gguf_bytes(METADATA, TENSORS)
    for length in range(len(whole) - 32):
        with pytest.raises(ModelError):
            GgufFile(write(whole[:length]))


def test_a_tensor_cut_short_is_refused_when_read(write):
    file = GgufFile(write(gguf_bytes(METADATA, TENSORS)[:-16]))
    with pytest.raises(ModelError, match=r"tensor second needs bytes to .* the file has") as caught:
        file.data(file.tensors["second"], 20)
    assert caught.value.hint == "is the download complete?"


def at(data, place, value, kind="<Q"):
    return data[:place] + struct.pack(kind, value) + data[place + struct.calcsize(kind) :]


WHOLE = gguf_bytes({"general.alignment": 32}, {"first": TENSORS["first"]})
# where the only key's length, its type, and the tensor's dimensions and offset stand
KEY, KIND = 24, 24 + 8 + len("general.alignment")
COUNT = KIND + 4 + 8 + 8 + len("first")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "not a GGUF file", id="empty"),
        pytest.param(b"PK\3\4" + WHOLE[4:], "not a GGUF file, it starts with b'PK", id="zip"),
        pytest.param(at(WHOLE, 4, 1, "<I"), "GGUF version 1, this detrec reads 2 and 3", id="old version"),
        pytest.param(at(WHOLE, 4, 3, ">I"), "big-endian", id="big-endian"),
        pytest.param(at(WHOLE, 8, 2**60), "metadata reaches to byte", id="tensor count"),
        pytest.param(at(WHOLE, 16, 2**60), "metadata reaches to byte", id="key count"),
        pytest.param(at(WHOLE, KEY, 2**63), "metadata reaches to byte", id="string length"),
        pytest.param(at(WHOLE, KEY + 8, 0xFF, "<B"), "not UTF-8", id="key bytes"),
        pytest.param(at(WHOLE, KIND, 99, "<I"), "unknown type 99", id="value type"),
        pytest.param(
            at(WHOLE, KIND + 4, 12), "general.alignment: expected a multiple of 8, got 12", id="alignment"
        ),
        pytest.param(at(WHOLE, COUNT, 5, "<I"), "expected 1 to 4 dimensions, got 5", id="dimensions"),
        pytest.param(at(WHOLE, COUNT + 4, 0), "has no elements", id="no elements"),
        pytest.param(at(WHOLE, COUNT + 24, 2**40), "tensor first starts at byte", id="offset"),
    ],
)
def test_damage_is_refused(write, data, message):
    with pytest.raises(ModelError, match=message):
        GgufFile(write(data))


def test_an_array_longer_than_the_file_is_refused(write):
    data = gguf_bytes({"a": ["x"]}, {})
    with pytest.raises(ModelError, match="metadata reaches to byte"):
        GgufFile(write(at(data, 24 + 8 + 1 + 4 + 4, 2**61)))


def test_a_tensor_named_twice_is_refused(write):
    data = gguf_bytes({}, {"same": TENSORS["first"], "sama": TENSORS["first"]})
    with pytest.raises(ModelError, match="tensor same appears twice"):
        GgufFile(write(data.replace(b"sama", b"same")))


def test_arrays_nested_without_end_are_refused(write):
    nested = struct.pack("<IQ", 9, 1) * 100_000
    data = gguf_bytes({"a": [[1]]}, {})[: 24 + 8 + 1 + 4]
    with pytest.raises(ModelError, match="nests arrays too deep"):
        GgufFile(write(data + nested))
