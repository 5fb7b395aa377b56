"""The GGUF container: metadata and where each tensor lies, read without loading a weight.

Format: the GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3,
little-endian. Nothing in the file is trusted: a count, length or offset past its end is a ModelError.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detrec.errors import ModelError

_SCALARS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
_STRING, _ARRAY = 8, 9
_MAX_DIMENSIONS = 4
# arrays of arrays are in the specification, in models they are not seen
_MAX_NESTING = 4
# bytes of an entry whose name is empty
_SMALLEST_TENSOR, _SMALLEST_KEY = 32, 13


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """`shape` is in numpy's order, the reverse of the file's; `start` counts from the file's first byte."""

    name: str
    shape: tuple[int, ...]
    ggml_type: int
    start: int


class GgufFile:
    """`metadata`: key to number, bool, str, or list of these. `tensors`: name to TensorInfo, in file order.

    Raises ModelError for a file that is not GGUF, of another version or byte order, or cut short.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            magic = file.read(8)
            if len(magic) < 8 or magic[:4] != b"GGUF":
                raise ModelError(f"{path}: not a GGUF file, it starts with {magic[:4]!r}")
            _check_version(path, int.from_bytes(magic[4:], "little"))
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        cursor = _Cursor(self._bytes, path)
        tensor_count, key_count = cursor.number("<Q"), cursor.number("<Q")
        cursor.expect(_SMALLEST_TENSOR * tensor_count + _SMALLEST_KEY * key_count)
        self.metadata: dict[str, Any] = {}
        for _ in range(key_count):
            key = cursor.text()
            self.metadata[key] = cursor.value(cursor.number("<I"))
        infos = [cursor.tensor_info() for _ in range(tensor_count)]
        self.tensors = self._located(infos, cursor.at)

    def _located(self, infos: list[TensorInfo], end: int) -> dict[str, TensorInfo]:
        """Offsets from the start of the file, each tensor's name once and its first byte inside the file."""
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 8 or alignment % 8:
            raise ModelError(f"{self.path}: general.alignment: expected a multiple of 8, got {alignment!r}")
        first = -(-end // alignment) * alignment
        tensors: dict[str, TensorInfo] = {}
        for info in infos:
            if info.name in tensors:
                raise ModelError(f"{self.path}: tensor {info.name} appears twice")
            if info.start % alignment or first + info.start >= len(self._bytes):
                raise _cut_short(
                    self.path, f"tensor {info.name} starts at byte {first + info.start}", len(self._bytes)
                )
            tensors[info.name] = TensorInfo(info.name, info.shape, info.ggml_type, first + info.start)
        return tensors

    def data(self, info: TensorInfo, size: int) -> np.ndarray:
        """The tensor's `size` bytes as read-only uint8, in the file's memory map."""
        if info.start + size > len(self._bytes):
            raise _cut_short(
                self.path, f"tensor {info.name} needs bytes to {info.start + size}", len(self._bytes)
            )
        return np.frombuffer(self._bytes, np.uint8, size, info.start)


def _check_version(path: Path, version: int) -> None:
    if version in (2, 3):
        return
    if version & 0xFFFF == 0:
        raise ModelError(f"{path}: a big-endian GGUF file", hint="convert it to little-endian")
    raise ModelError(
        f"{path}: GGUF version {version}, this detrec reads 2 and 3", hint="convert the model anew"
    )


def _cut_short(path: Path, what: str, size: int) -> ModelError:
    return ModelError(f"{path}: {what}, the file has {size} bytes", hint="is the download complete?")


class _Cursor:
    """Reads forward, never past the end."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self._bytes = data
        self._path = path
        # past magic and version
        self.at = 8

    def number(self, kind: str) -> Any:
        """One number in struct's notation."""
        end = self.at + struct.calcsize(kind)
        self._reach(end)
        (value,) = struct.unpack_from(kind, self._bytes, self.at)
        self.at = end
        return value

    def text(self) -> str:
        """A length of 8 bytes, then UTF-8."""
        return self.texts(1)[0]

    def texts(self, count: int) -> list[str]:
        """`count` strings. A vocabulary has 10^5 of them, hence one tight loop."""
        data, at, end = self._bytes, self.at, len(self._bytes)
        self.expect(8 * count)
        texts = []
        for _ in range(count):
            start = at + 8
            at = start + int.from_bytes(data[at:start], "little")
            if at > end:
                self._reach(at)
            texts.append(data[start:at])
        self.at = at
        try:
            return [text.decode() for text in texts]
        except UnicodeDecodeError as error:
            raise ModelError(
                f"{self._path}: a string before byte {at} is not UTF-8: {error.reason}"
            ) from None

    def expect(self, size: int) -> None:
        """Refuse a file that has fewer bytes left."""
        self._reach(self.at + size)

    def value(self, kind: int, nesting: int = 0) -> Any:
        """A metadata value of this type; arrays become lists."""
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            element, count = self.number("<I"), self.number("<Q")
            # each is 8 bytes at least: a length, or a type and a count
            if element in (_STRING, _ARRAY):
                self.expect(8 * count)
            if element == _STRING:
                return self.texts(count)
            if element == _ARRAY:
                if nesting == _MAX_NESTING:
                    raise ModelError(f"{self._path}: metadata before byte {self.at} nests arrays too deep")
                return [self.value(_ARRAY, nesting + 1) for _ in range(count)]
            return self._scalars(element, count)
        return self._scalars(kind, 1)[0]

    def tensor_info(self) -> TensorInfo:
        """A tensor's name, shape, type and offset in the data section."""
        name, dimensions = self.text(), self.number("<I")
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise ModelError(
                f"{self._path}: tensor {name}: expected 1 to {_MAX_DIMENSIONS} dimensions, got {dimensions}"
            )
        shape = tuple(self.number("<Q") for _ in range(dimensions))[::-1]
        if not math.prod(shape):
            raise ModelError(f"{self._path}: tensor {name}: has no elements, its shape is {list(shape)}")
        return TensorInfo(name, shape, self.number("<I"), self.number("<Q"))

    def _scalars(self, kind: int, count: int) -> list[Any]:
        if kind not in _SCALARS:
            raise ModelError(f"{self._path}: metadata before byte {self.at} has the unknown type {kind}")
        dtype = np.dtype(_SCALARS[kind])
        end = self.at + count * dtype.itemsize
        self._reach(end)
        values: list[Any] = np.frombuffer(self._bytes, dtype, count, self.at).tolist()
        self.at = end
        return values

    def _reach(self, end: int) -> None:
        if end > len(self._bytes):
            raise _cut_short(self._path, f"metadata reaches to byte {end}", len(self._bytes))
