"""A digest of what each kernel gives on fixed data, to be compared between two processes."""

import hashlib

import numpy as np

from detrec.kernels.cpu.mean import mean
from detrec.kernels.cpu.penalties import penalise
from detrec.kernels.cpu.rms_norm import rms_norm
from detrec.kernels.cpu.rope import inv_freq, rope, rope_tables
from detrec.kernels.cpu.sample import SAMPLE_DTYPE, sample
from detrec.kernels.cpu.silu_mul import silu_mul
from detrec.kernels.cpu.softmax import log_softmax, softmax


def digests() -> dict[str, str]:
    """Kernel to the sha256 of its output; exp32 and log32 are seen through softmax, silu and noise."""
    rng = np.random.default_rng(11)
    x = (rng.standard_normal((6, 2500)) * 3).astype(np.float32)
    logprobs, rows = log_softmax(x, np.empty_like(x)), len(x)
    cos, sin = rope_tables(inv_freq(1e4, 50), 64)
    csr = np.arange(rows + 1, dtype=np.int64)
    one, ids = np.ones(rows, np.float32), np.arange(rows, dtype=np.int32)
    draws = sample(
        logprobs,
        np.array([0, 0.3, 0.7, 1, 1, 2], np.float32),
        np.array([0, 0, 40, 0, 900, 0], np.int32),
        np.array([1, 1, 1, 0.9, 0.5, 1], np.float32),
        np.array([0, 0, 0, 0, 0, 0.001], np.float32),
        np.arange(rows, dtype=np.uint64),
        np.arange(rows, dtype=np.uint64) + np.uint64(77),
        np.empty(rows, SAMPLE_DTYPE),
    )
    outputs = {
        "log_softmax": logprobs,
        "softmax": softmax(x, np.empty_like(x)),
        "rms_norm": rms_norm(x, x[0].copy(), 1e-5, np.empty_like(x)),
        "silu_mul": silu_mul(x, np.empty((rows, 1250), np.float32)),
        "rope": rope(x, np.arange(rows), cos, sin, np.empty_like(x)),
        "mean": mean(x, 1),
        "penalise": penalise(
            *(x, ids, csr, ids, np.ones(rows, np.uint8)),
            *(one * np.float32(1.1), one * np.float32(0.3), one * np.float32(0.7)),
            *(ids, csr * 0, np.empty_like(x)),
        ),
        "sample": draws,
    }
    return {name: hashlib.sha256(out.tobytes()).hexdigest() for name, out in outputs.items()}
