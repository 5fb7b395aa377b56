"""Values whose sum depends on the order of additions, so that a changed order shows in the bits."""

import numpy as np

from detrec.kernels.device_array import DeviceArray
from tests.kernels.gpu.device import floats


def rough(seed: int, *shape: int) -> np.ndarray:
    """Normal values times magnitudes over five decades."""
    random = np.random.default_rng(seed)
    normal, magnitude = random.standard_normal(shape, np.float32), random.random(shape, np.float32)
    return normal * np.power(np.float32(10), 5 * magnitude - 3)


def rough_floats(seed: int, shape: tuple[int, ...], dtype: str) -> DeviceArray:
    """`rough` as `dtype`, small enough that sums of products stay finite in float16."""
    return floats(rough(seed, *shape) * (0.01 if dtype == "float16" else 1.0), dtype)
