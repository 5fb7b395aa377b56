"""Messages of random shapes and dtypes that ranks add up, each rank late by chance, and what they must give.

`python -m tests.kernels.messages 10000` tries that many for each of 2, 3, 4 and 8 ranks.
"""

import random
import sys
import time
from dataclasses import dataclass

import numpy as np

from detrec.kernels.cpu.group import TWO_STAGES, CpuGroup
from detrec.kernels.rendezvous import Rendezvous
from tests.bits import assert_same_bits
from tests.kernels.lanes import bfloat16, floats, rough
from tests.kernels.ranks import in_ranks

KINDS = {"float32": np.float32, "bfloat16": np.uint16, "float16": np.float16}


@dataclass(frozen=True)
class Message:
    """What each rank gives, stored as `kind`, and the order and the kind of the result."""

    values: list[np.ndarray]
    order: str
    result: str


def stored(values: np.ndarray, kind: str) -> np.ndarray:
    """float32 values as `kind` is stored."""
    return bfloat16(values) if kind == "bfloat16" else values.astype(KINDS[kind])


def widened(values: np.ndarray) -> np.ndarray:
    """What is stored, as float32."""
    return floats(values) if values.dtype == np.uint16 else values.astype(np.float32)


def message(seed: int, world_size: int) -> Message:
    """Any count of elements up to both sides of TWO_STAGES; signed zeros among them."""
    rng = np.random.default_rng(seed)
    kind = list(KINDS)[seed % 3]
    most = TWO_STAGES // np.dtype(KINDS[kind]).itemsize + 500
    rows = int(rng.integers(1, 9))
    columns = int(rng.integers(1, 40 if seed % 4 else most // rows))
    values = [rough(rows, columns, int(rng.integers(1 << 30))) for _ in range(world_size)]
    for value in values:
        value[rng.random(value.shape) < 0.02] = -0.0
    tree = world_size in (2, 4, 8) and seed % 2 == 1
    # a partial sum stays in float32 until all are added
    given, result = ("float32", kind) if tree else (kind, kind)
    return Message([stored(value, given) for value in values], "tree" if tree else "ranks", result)


def expected(one: Message) -> np.ndarray:
    """The sum, an addition after the other."""
    values = [widened(value) for value in one.values]
    if one.order == "ranks":
        total = values[0]
        for value in values[1:]:
            total = total + value
    else:
        while len(values) > 1:
            values = [left + right for left, right in zip(values[::2], values[1::2], strict=True)]
        total = values[0]
    return stored(total, one.result)


def check(world_size: int, seeds: range) -> None:
    """Every rank gets the bits of `expected` for every message, whoever is late."""
    messages = [message(seed, world_size) for seed in seeds]

    def work(meeting: Rendezvous) -> list[np.ndarray]:
        group = CpuGroup(meeting, 4 * TWO_STAGES)
        late = random.Random(f"{seeds} {meeting.rank}")
        results = []
        for one in messages:
            if late.random() < 0.3:
                time.sleep(late.random() * 1e-3)
            value = one.values[meeting.rank]
            results.append(group.all_reduce(value, fresh(value.shape, one.result), order=one.order))
        return results

    wanted = [expected(one) for one in messages]
    for rank in in_ranks(world_size, work):
        for got, want in zip(rank, wanted, strict=True):
            assert_same_bits(got, want)


def fresh(shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Memory whose every element is NaN."""
    return np.full(shape, 0x7FC1, np.uint16) if kind == "bfloat16" else np.full(shape, np.nan, KINDS[kind])


if __name__ == "__main__":
    count = int(sys.argv[1])
    for ranks in (2, 3, 4, 8):
        begin = time.perf_counter()
        for start in range(0, count, 200):
            check(ranks, range(start, min(start + 200, count)))
        print(f"{ranks} ranks: {count} messages, all of the right bits, {time.perf_counter() - begin:.0f} s")
