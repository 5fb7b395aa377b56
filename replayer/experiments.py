"""One op run again on what it was given once: repeated, in other company, on the other run's inputs.

Nothing of the engine changes: an op that writes to the KV cache gets a copy of it each time.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detrec.kernels.cpu.fingerprint import fingerprint, share_fingerprint
from detrec.kernels.share import Share
from detrec.replayer.arguments import Given, subset, transplanted, unequal_inputs
from detrec.replayer.capture import Moment
from detrec.replayer.findings import Batches, Graft, Repeats

TIMES = 8
"""The least that an op is repeated on its own batch."""

_MOST_TIMES = 64
SECONDS = 1.0
"""What repeating may take beyond the least: a race that is rare shows only to who asks often."""

_TIMED = 3
"""How often an op is timed at most: the fastest counts, because a busy machine slows some of them."""

_PADDED = (32, 64, 128)
"""Sizes to which a batch is filled up: kernels change their ways at powers of two."""


@dataclass(frozen=True, slots=True)
class Held:
    """One run's side of an experiment: an op as it ran, and how to run it on other arguments.

    `moments`: by rank, of those that run it together, or of the one that does; `rank` is whose `row` is
    looked at. `run` gives the outputs for other arguments, both by rank.
    """

    moments: Mapping[int, Moment]
    rank: int
    row: int
    run: Callable[[Mapping[int, tuple[Any, ...]]], Mapping[int, np.ndarray]]

    @property
    def moment(self) -> Moment:
        """The op on the rank that is looked at."""
        return self.moments[self.rank]


def most_rows(rows: int) -> int:
    """The most rows that an experiment on a batch of `rows` runs at once."""
    return max(_sizes(rows))


def given(moment: Moment, row: int) -> Given:
    """One row of what the op was given."""
    return Given(moment.field, moment.args, row)


def outcome(moment: Moment, args: tuple[Any, ...]) -> np.ndarray:
    """What the op gives for other arguments, a copy."""
    if moment.field == "kv_write":
        args = (*args[:2], args[2].copy(), args[3])
    return np.array(moment.op(moment.name, *args))


def prints_of(output: np.ndarray, share: Share | None = None) -> list[int]:
    """Each row's fingerprint, as a trace has it; `share`: what the rank holds of the rows."""
    out, x = np.empty(len(output), np.uint64), np.ascontiguousarray(output)
    prints: list[int] = (fingerprint(x, out) if share is None else share_fingerprint(x, share, out)).tolist()
    return prints


def print_of(output: np.ndarray, row: int, share: Share | None = None) -> int:
    """The fingerprint of one row of an output."""
    return prints_of(output[row : row + 1], share)[0]


def company(moment: Moment, row: int, times: tuple[int, int] | None = None) -> tuple[Repeats, Batches]:
    """Run the op again on its own batch, and with other rows around `row`: what bits does that row have?

    Each batch is run often, so that a race is not taken for an effect of the batch: `times[0]` times on its
    own, `times[1]` times on each other one; None: as often as a second allows.
    """
    count = len(moment.output)
    most, fewer = times or _times(moment)
    own = _outputs(moment, range(count), row, most)
    alone = [_outputs(moment, [row], row, fewer)]
    # every row has another place, and another neighbour
    orders = [[*range(count)][::-1], [*range(1, count), 0]]
    permuted = [_outputs(moment, order, row, fewer) for order in orders]
    sizes = [[at % count for at in range(size)] for size in _sizes(count)]
    padded = [_outputs(moment, size, row, fewer) for size in sizes]
    repeats = Repeats(most, len(own))
    for outputs in (*alone, *permuted, *padded):
        if len(outputs) > repeats.distinct:
            repeats = Repeats(fewer, len(outputs))
    same = [all(outputs <= own for outputs in tried) for tried in (alone, permuted, padded)]
    return repeats, Batches(*same)


def graft(recorded: Held, replayed: Held, prints: tuple[int, int]) -> Graft | None:
    """Either run's op on the other's inputs of one row.

    `prints` are the recorded and the replayed fingerprint of the row. A run that had other rows beside it
    keeps them. None where the inputs of one run do not fit into the other.
    """
    forth = _grafted(replayed, recorded)
    back = _grafted(recorded, replayed)
    if forth is None or back is None:
        return None
    unequal = dict.fromkeys(
        name
        for ours, theirs in _ranks(recorded, replayed)
        for name in unequal_inputs(given(ours, recorded.row), given(theirs, replayed.row))
    )
    return Graft(tuple(unequal), named(forth, prints), named(back, prints))


def named(found: int, prints: tuple[int, int]) -> str:
    """Which of the recorded and the replayed fingerprint this is: "recorded", "replayed" or "other"."""
    return dict(zip(prints, ("recorded", "replayed"), strict=True)).get(found, "other")


def _ranks(one: Held, other: Held) -> Iterator[tuple[Moment, Moment]]:
    """Both runs' moments, rank by rank."""
    return zip(one.moments.values(), other.moments.values(), strict=True)


def _grafted(host: Held, donor: Held) -> int | None:
    """The fingerprint that the host's op gives its row with the inputs of the donor's."""
    args: dict[int, tuple[Any, ...]] = {}
    for rank, (ours, theirs) in zip(host.moments, _ranks(host, donor), strict=True):
        # the same rows: all of the donor's batch, cache and placement included
        alike = ours.places == theirs.places
        taken = theirs.args if alike else transplanted(given(ours, host.row), given(theirs, donor.row))
        if taken is None:
            return None
        args[rank] = taken
    return print_of(host.run(args)[host.rank], host.row, host.moment.share)


def _outputs(moment: Moment, rows: Sequence[int], row: int, times: int) -> frozenset[bytes]:
    """The different outputs of `row` when the op is run `times` times on `rows`."""
    args = subset(moment.field, moment.args, rows)
    at = list(rows).index(row)
    return frozenset(outcome(moment, args)[at].tobytes() for _ in range(times))


def _times(moment: Moment) -> tuple[int, int]:
    """How often to repeat the op on its own batch, and on each other one."""
    affordable = 0
    for _ in range(_TIMED):
        begin = time.perf_counter()
        outcome(moment, moment.args)
        affordable = max(affordable, int(SECONDS / 2 / max(time.perf_counter() - begin, 1e-9)))
        if affordable >= max(_MOST_TIMES, 16 * TIMES):
            break
    return min(max(affordable, TIMES), _MOST_TIMES), min(max(affordable // 16, 2), TIMES)


def _sizes(rows: int) -> list[int]:
    return sorted({rows + 1, rows + 7, 2 * rows + 1, *(size for size in _PADDED if size > rows)})
