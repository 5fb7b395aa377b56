"""Where the ranks of `all_reduce` write to each other: sizes, places, and the words that steer its kernels.

Constants here decide how fast it is, and move no bit.
"""

from dataclasses import dataclass

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.rank_words import UNIT
from detrec.kernels.launch import cdiv

BLOCKS = 128
"""Most blocks of a grid. It waits for its like on other GPUs alone, so a later one may start when an earlier
one has ended.
"""
NUM_WARPS = 16
UNITS = 32 * NUM_WARPS
"""Units that a block takes at a time: one a thread."""
ONE_STAGE_BYTES = {2: 2 << 20, 3: 1 << 20, 4: 1 << 19, 5: 1 << 18, 6: 1 << 18, 7: 1 << 17, 8: 1 << 17}
"""By number of ranks: up to here it takes longer to wait twice than to send everything to everyone. Measured
for 2 ranks; for more, where the bytes saved take 2 µs at 350 GB/s.
"""
TWO_STAGE_BYTES = 8 << 20
"""What one launch of two stages sums; more is summed in several."""

FAILED, LIMIT, TOLD, RANK, TURNS = range(5)
"""Control words, int64: who was not heard, nanoseconds to wait, where the host is told, who this is; then two
of every block of one stage and of two stages: which third of staging is next, and how many units of the third
before it hold anything.
"""
CONTROL_WORDS = TURNS + 4 * BLOCKS


@dataclass(frozen=True, slots=True)
class Staging:
    """Where ranks write to each other: the address in each rank's memory; thirds of pieces of `cap` bytes."""

    addresses: tuple[int, ...]
    rank: int
    cap: int
    turns: DeviceArray

    @property
    def units(self) -> int:
        """The most that one launch takes."""
        return BLOCKS * self.cap // UNIT

    def arguments(self) -> tuple[int, ...]:
        """As kernels take them: this rank's memory, `cap`, its place in the memory of each rank after it."""
        world, source = len(self.addresses), 3 * BLOCKS * self.cap * self.rank
        order = [(self.rank + step) % world for step in range(1, world)]
        peers = [self.addresses[peer] + source for peer in order]
        spare = [self.addresses[self.rank]] * (7 - len(peers))
        return (self.addresses[self.rank], self.cap, *peers, *spare)


def cap_of(nbytes: int) -> int:
    """Bytes of a block's piece of staging, so that a launch takes `nbytes` of what goes in."""
    return UNIT * max(cdiv(cdiv(nbytes, UNIT * BLOCKS), 8) * 8, UNITS)


def staging_bytes(cap: int, sources: int) -> int:
    """Bytes of staging that `sources` write to."""
    return 3 * BLOCKS * cap * sources


@dataclass(frozen=True, slots=True)
class Links:
    """What a rank's kernels know of the others; `two` is None where one stage takes all there may be."""

    rank: int
    world_size: int
    control: DeviceArray
    one: Staging
    two: Staging | None


def cut(units: int) -> tuple[int, int]:
    """Blocks for `units`, and the units that each takes."""
    share = cdiv(units, min(BLOCKS, cdiv(units, UNITS)))
    share = cdiv(share, 8) * 8
    return cdiv(units, share), share
