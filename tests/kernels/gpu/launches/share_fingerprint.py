"""Every variant of share_fingerprints: spans that start at 16, 8, 4 and 2 bytes, few rows and many."""

from detrec.kernels.gpu.share_fingerprint import SPANS, ShareTable, share_fingerprints
from tests.kernels.gpu.ahead import absent


def launches() -> None:
    table = absent((1, 1 + 4 * SPANS), "int64")
    for rows in (8, 64):
        for unit in (8, 4, 2, 1):
            shares = ShareTable(table, unit, (128,))
            share_fingerprints([absent((rows, 128), "bfloat16")], shares, 0, absent((1, rows), "uint64"))
