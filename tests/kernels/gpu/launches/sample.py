"""Every variant of sample."""

from detrec.kernels.gpu.sample import sample, scratch_bytes
from tests.kernels.gpu.ahead import absent


def launches() -> None:
    for rows, vocabulary in ((8, 152064), (3, 49153)):
        sample(
            absent((rows, vocabulary), "float32"),
            *(
                absent((rows,), kind)
                for kind in ("float32", "int32", "float32", "float32", "uint64", "uint64")
            ),
            absent((rows, 4), "int64"),
            absent((scratch_bytes(rows, vocabulary),), "uint8"),
        )
