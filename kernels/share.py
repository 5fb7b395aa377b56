"""What one rank holds of rows that are cut over ranks, so that the ranks' fingerprints sum up to the row's.

A share is hashed as if it stood in the whole row: with the whole row's width in its salt and its words'
places there. The sum over all ranks mod 2^64 is then the fingerprint of the whole row, whatever the cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from detrec.errors import ConfigError

WORD = 8
"""Bytes that are hashed as one: a span begins and ends between two of them."""


@dataclass(frozen=True, slots=True)
class Span:
    """Elements [start, start + length) of a rank's row, which stand at `at` in the whole row.

    `times`: how often the span counts in the sum. Where several ranks hold the same elements, as they do of
    replicated KV heads, these add up to 1 (`times_of`).
    """

    start: int
    at: int
    length: int
    times: int = 1


@dataclass(frozen=True, slots=True)
class Share:
    """The spans that a rank holds of a row of `width` elements; they fill the rank's own row.

    `table`, int64 [spans, 4], is the same for kernels: start, at, length, times.
    """

    width: int
    spans: tuple[Span, ...]
    table: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rows = [(span.start, span.at, span.length, span.times) for span in self.spans]
        object.__setattr__(self, "table", np.array(rows, np.int64).reshape(len(rows), 4))

    @property
    def length(self) -> int:
        """Elements of the rank's own row."""
        return sum(span.length for span in self.spans)


def times_of(copy: int, copies: int) -> int:
    """How often copy `copy` of `copies` equal ones counts: 1 in sum, and none of them is left out.

    1, -1, 1, ...; where that gives 0 in sum, the first counts twice.
    """
    return (-1 if copy % 2 else 1) + (1 if copy == 0 and copies % 2 == 0 else 0)


def check_shares(op: str, shares: Sequence[Share], itemsize: int) -> None:
    """Refuse shares, one a rank, of `itemsize`-byte elements, whose sum is not the whole row's fingerprint.

    Raises ConfigError where a span does not begin and end between two words, ValueError where the shares do
    not cover the row once, or a share is not what its rank's row holds.
    """
    if len({share.width for share in shares}) != 1:
        raise ValueError(f"{op}: the ranks share rows of {[share.width for share in shares]} elements")
    width = shares[0].width
    covered = np.zeros(width, np.int64)
    for rank, share in enumerate(shares):
        own = 0
        for span in share.spans:
            if span.start != own or span.length < 1 or not span.times or span.at + span.length > width:
                raise ValueError(f"{op}: rank {rank} of {len(shares)}: {span} does not fit rows of {width}")
            own += span.length
            covered[span.at : span.at + span.length] += span.times
            for edge in (span.at, span.at + span.length):
                if edge * itemsize % WORD and edge != width:
                    raise ConfigError(
                        f"engine.tensor_parallel_size: {len(shares)} ranks cut {op} at element {edge} of "
                        f"{width}, which is not a multiple of {WORD // itemsize}",
                        hint="fewer ranks, or a wider engine.dtype: ranks are compared by words of 8 bytes",
                    )
    if (covered != 1).any():
        raise ValueError(f"{op}: the shares of {len(shares)} ranks do not cover {width} elements once")


def summed(fingerprints: np.ndarray) -> np.ndarray:
    """Whole rows' fingerprints of what the ranks recorded, uint64 [..., ranks]; 0 where a rank did not."""
    total = fingerprints.sum(axis=-1, dtype=np.uint64)
    # as in kernels/cpu/fingerprint.py: 1 stands for 0, which is no row's
    return np.where((fingerprints == 0).any(axis=-1), 0, np.where(total == 0, 1, total)).astype(np.uint64)
