"""The safetensors container: where each tensor of a file lies, read without loading a weight.

Format: https://huggingface.co/docs/safetensors, "Format": the header's length in 8 little-endian bytes, a
JSON header, then the data. Read here because the package hands out bfloat16 only to a framework.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detrec.errors import ModelError

_DTYPES: dict[str, np.dtype] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_MAX_HEADER = 100_000_000


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor: `start` counts from the file's first byte."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int

    def read(self) -> np.ndarray:
        """float32, or bfloat16 bits in uint16."""
        values = np.memmap(self.path, _DTYPES[self.dtype], "r", self.start, self.shape)
        return values.astype(np.float32) if self.dtype == "F16" else np.asarray(values)

    def raw(self) -> np.ndarray:
        """As they lie in the file, uint8 [n], mapped and not read."""
        size = math.prod(self.shape) * _DTYPES[self.dtype].itemsize
        return np.asarray(np.memmap(self.path, np.uint8, "r", self.start, (size,)))


def stored_tensors(path: Path) -> dict[str, Stored]:
    """Every tensor of a .safetensors file. ModelError for a file that is cut short or is none."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise _damaged(path, f"its header has {length} bytes, the file {size}")
        text = file.read(length)
    try:
        header = json.loads(text)
    except ValueError as error:
        raise _damaged(path, f"its header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a mapping")
    header.pop("__metadata__", None)
    return {name: _stored(path, name, entry, 8 + length, size) for name, entry in header.items()}


def _stored(path: Path, name: str, entry: object, base: int, size: int) -> Stored:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(stop)]}:
            pass
        case _:
            raise _damaged(path, f"tensor {name} has no dtype, shape and data_offsets")
    if dtype not in _DTYPES:
        raise ModelError(
            f"{path}: tensor {name}: expected one of {', '.join(_DTYPES)}, got {dtype}",
            hint="save the model in bfloat16 or float32",
        )
    if not all(isinstance(count, int) and count > 0 for count in shape):
        raise _damaged(path, f"tensor {name} has the shape {shape}")
    if start < 0 or stop - start != math.prod(shape) * _DTYPES[dtype].itemsize or base + stop > size:
        raise _damaged(
            path, f"tensor {name} of shape {shape} lies at bytes {start} to {stop} of {size - base}"
        )
    return Stored(path, dtype, tuple(shape), base + start)


def _damaged(path: Path, what: str) -> ModelError:
    return ModelError(f"{path}: not a whole safetensors file: {what}", hint="is the download complete?")
