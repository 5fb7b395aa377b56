"""bfloat16 as its bits in uint16, to and from float32."""

import numpy as np

# elements a pass: its temporaries stay in a core's own cache
_PASS = 1 << 16


def widened(bits: np.ndarray) -> np.ndarray:
    """bfloat16 bits (uint16) as float32: exact."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def narrowed(values: np.ndarray) -> np.ndarray:
    """float32 as bfloat16 bits (uint16), rounded to nearest, ties to even; NaN stays NaN."""
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    out = np.empty(flat.shape, np.uint16)
    for start in range(0, flat.size, _PASS):
        part = flat[start : start + _PASS]
        bits = part.view(np.uint32)
        top = bits >> np.uint32(16)
        rounded = (bits + (np.uint32(0x7FFF) + (top & np.uint32(1)))) >> np.uint32(16)
        nan = np.isnan(part)
        # the sum above may carry a NaN into an infinity or a zero
        out[start : start + _PASS] = np.where(nan, top | np.uint32(0x40), rounded) if nan.any() else rounded
    return out.reshape(values.shape)


def stored(values: np.ndarray, dtype: str) -> np.ndarray:
    """float32 values, or bfloat16 bits, as contiguous "float32" or "bfloat16" (bits in uint16)."""
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"dtype: expected float32 or bfloat16, got {dtype!r}")
    bits = values.dtype == np.uint16
    if dtype == "bfloat16":
        return np.ascontiguousarray(values) if bits else narrowed(values)
    return widened(values) if bits else np.ascontiguousarray(values, np.float32)
