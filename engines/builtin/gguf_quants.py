"""ggml's tensor types as float32: exactly what their definition says, one rounding for each operation.

F32, F16, BF16, Q8_0, Q4_0 and Q4_1 are read here, by the block layouts of ggml (struct block_q8_0, block_q4_0
and block_q4_1 in ggml-common.h): 32 weights w = d*q, d*(q - 8) or d*q + m, with d and m in float16 and the
low nibbles first. All other types go through the `gguf` package.
"""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from detrec.errors import ModelError

_WEIGHTS = 32
# blocks a pass: what they unpack to stays in a core's own cache
_PASS = 2048

_PLAIN: dict[int, np.dtype] = {0: np.dtype("<f4"), 1: np.dtype("<f2"), 30: np.dtype("<u2")}
_BF16 = 30


def _q8_0(blocks: np.ndarray, out: np.ndarray) -> None:
    np.copyto(out, blocks["q"])
    out *= blocks["d"].astype(np.float32)


def _q4_0(blocks: np.ndarray, out: np.ndarray) -> None:
    _nibbles(blocks["q"], out)
    out -= np.float32(8)
    out *= blocks["d"].astype(np.float32)


def _q4_1(blocks: np.ndarray, out: np.ndarray) -> None:
    _nibbles(blocks["q"], out)
    out *= blocks["d"].astype(np.float32)
    out += blocks["m"].astype(np.float32)


def _nibbles(packed: np.ndarray, out: np.ndarray) -> None:
    half = _WEIGHTS // 2
    np.copyto(out[:, :half], packed & 15)
    np.copyto(out[:, half:], packed >> 4)


_HALF = ("<f2", (1,))
_BLOCKS: dict[int, tuple[np.dtype, Callable[[np.ndarray, np.ndarray], None]]] = {
    2: (np.dtype([("d", *_HALF), ("q", "u1", (16,))]), _q4_0),
    3: (np.dtype([("d", *_HALF), ("m", *_HALF), ("q", "u1", (16,))]), _q4_1),
    8: (np.dtype([("d", *_HALF), ("q", "i1", (32,))]), _q8_0),
}


def byte_size(ggml_type: int, shape: tuple[int, ...], where: str) -> int:
    """How many bytes a tensor takes. ModelError for an unreadable type, or rows that are not whole blocks."""
    if ggml_type in _PLAIN:
        return math.prod(shape) * _PLAIN[ggml_type].itemsize
    if ggml_type in _BLOCKS:
        weights, size = _WEIGHTS, _BLOCKS[ggml_type][0].itemsize
    else:
        gguf, kind = _package(ggml_type, where)
        weights, size = gguf.GGML_QUANT_SIZES[kind]
    if shape[-1] % weights:
        raise ModelError(f"{where}: rows of {shape[-1]} weights are not whole blocks of {weights}")
    return math.prod(shape) // weights * size


def dequantized(data: np.ndarray, ggml_type: int, shape: tuple[int, ...], where: str) -> np.ndarray:
    """The tensor's bytes (uint8, `byte_size` of them) as float32 of `shape`; BF16 as its bits in uint16."""
    if ggml_type in _PLAIN:
        values = data.view(_PLAIN[ggml_type]).reshape(shape)
        return values if ggml_type == _BF16 else values.astype(np.float32)
    if ggml_type in _BLOCKS:
        dtype, unpack = _BLOCKS[ggml_type]
        blocks = data.view(dtype)
        out = np.empty((len(blocks), _WEIGHTS), np.float32)
        for start in range(0, len(blocks), _PASS):
            unpack(blocks[start : start + _PASS], out[start : start + _PASS])
        return out.reshape(shape)
    gguf, kind = _package(ggml_type, where)
    try:
        values = gguf.quants.dequantize(data.reshape(*shape[:-1], -1), kind)
    except (NotImplementedError, ValueError, KeyError) as error:
        raise ModelError(f"{where}: {kind.name}: the gguf package cannot dequantise it: {error}") from None
    return np.asarray(values, np.float32).reshape(shape)


def _package(ggml_type: int, where: str) -> tuple[ModuleType, Any]:
    """The `gguf` package and its name for the type."""
    try:
        import gguf
        import gguf.quants
    except ImportError:
        raise ModelError(
            f"{where}: ggml type {ggml_type} is not one of F32, F16, BF16, Q8_0, Q4_0, Q4_1",
            hint="pip install 'detrec[gguf]'",
        ) from None
    try:
        return gguf, gguf.GGMLQuantizationType(ggml_type)
    except ValueError:
        raise ModelError(
            f"{where}: unknown ggml type {ggml_type}", hint="is the gguf package up to date?"
        ) from None
