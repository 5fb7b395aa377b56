"""The safetensors container."""

import json
import struct

import numpy as np
import pytest

from detrec.engines.builtin.safetensors import stored_tensors
from detrec.errors import ModelError
from tests.bits import assert_same_bits
from tests.engines.builtin.model_files import write_safetensors

TENSORS = {
    "bits": np.array([[0x3F80, 0xC000]], np.uint16),
    "half": np.array([1.5, -0.25], np.float16),
    "full": np.arange(6, dtype=np.float32).reshape(2, 3),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, TENSORS)
    return path


def test_reads_what_was_written(path):
    found = stored_tensors(path)
    assert_same_bits(found["full"].read(), TENSORS["full"])
    assert_same_bits(found["half"].read(), np.array([1.5, -0.25], np.float32))
    assert_same_bits(found["bits"].read(), TENSORS["bits"])


def test_reads_what_the_safetensors_package_writes(tmp_path):
    numpy_format = pytest.importorskip("safetensors.numpy")
    numpy_format.save_file({"full": TENSORS["full"]}, tmp_path / "x.safetensors", metadata={"format": "np"})
    assert_same_bits(stored_tensors(tmp_path / "x.safetensors")["full"].read(), TENSORS["full"])


def test_a_file_cut_anywhere_is_refused(path):
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match="not a whole safetensors file") as caught:
            stored_tensors(path)
    assert caught.value.hint == "is the download complete?"


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        pytest.param("[1, 2]", "its header is not a mapping", id="list"),
        pytest.param("{'a': 1}", "its header is not JSON", id="not JSON"),
        pytest.param({"a": {"dtype": "F32"}}, "tensor a has no dtype, shape and data_offsets", id="entry"),
        pytest.param(
            {"a": {**ENTRY, "data_offsets": [0, 4]}},
            r"tensor a of shape \[2\] lies at bytes 0 to 4",
            id="short",
        ),
        pytest.param({"a": {**ENTRY, "data_offsets": [-8, 0]}}, "lies at bytes -8 to 0", id="before"),
        pytest.param({"a": {**ENTRY, "shape": [-2]}}, r"tensor a has the shape \[-2\]", id="shape"),
        pytest.param(
            {"a": {**ENTRY, "dtype": "I8"}}, "tensor a: expected one of F32, F16, BF16, got I8", id="dtype"
        ),
    ],
)
def test_damage_is_refused(tmp_path, header, message):
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    with pytest.raises(ModelError, match=message):
        stored_tensors(path)
