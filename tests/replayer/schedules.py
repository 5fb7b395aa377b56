"""Schedules of two requests, and others that come to the same rows in another way."""

from detrec.engines.base import Event, EventKind
from tests.replayer.fakes import OPS, part

# ops that every row has, and those that only a row has that draws
PLAIN, DRAWN = len(OPS) - 2, 2

STEPS = [
    [part("r0", 0, 4), part("r1", 0, 3, samples=False)],
    [part("r0", 4, 5), part("r1", 3, 6)],
    [part("r0", 5, 6), part("r1", 6, 7)],
]
# the same requests, one after the other
OTHER_STEPS = [
    [part("r1", 0, 6)],
    [part("r1", 6, 7), part("r0", 0, 4)],
    [part("r0", 4, 5)],
    [part("r0", 5, 6)],
]
HIT = [[part("r0", 0, 4)], ([part("r1", 2, 6)], [Event(EventKind.HIT, "r1", 2)])]
NO_HIT = [[part("r0", 0, 4)], [part("r1", 0, 6)]]
# r0 loses its cache after step 1 and is computed again in step 3
PREEMPTED = [
    [part("r0", 0, 3)],
    [part("r0", 3, 4)],
    ([part("r1", 0, 2)], [Event(EventKind.PREEMPTED, "r0", 4)]),
    [part("r0", 0, 5)],
]
NOT_PREEMPTED = [[part("r0", 0, 3)], [part("r0", 3, 4)], [part("r1", 0, 2), part("r0", 4, 5)]]
