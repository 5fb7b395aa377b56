"""Every variant of fingerprints, by arguments and by a table: rows that start at 16, 8, 4 and 2 bytes."""

from detrec.kernels.gpu.fingerprint_many import fingerprint_table, fingerprints, fingerprints_of
from tests.kernels.gpu.ahead import absent


def launches() -> None:
    # one that a row of 4 warps reads, one of 8, one of 16; then what is not aligned
    for rows, cols in ((64, 3584), (64, 37888), (8, 37888), (8, 4), (8, 2), (8, 1)):
        arrays = [absent((rows, cols), "bfloat16") for _ in range(8)]
        fingerprints(arrays, absent((8, rows), "uint64"))
        table = fingerprint_table([*enumerate(arrays)])
        fingerprints_of(table, absent((8, 3), "int64"), absent((8, rows), "uint64"))
