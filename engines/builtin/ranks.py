"""The ranks of an engine, seen from one of them: how they are started, and what they tell each other.

Rank 0 is the process that was asked for the engine; the others are started by it and end with it. All run the
same schedule and draw the same tokens, so that nothing but sums is exchanged within a step; before each step
they compare what they are about to do and what they drew.
"""

import hashlib
import json
import pickle
import subprocess
import sys
import time
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from detrec.config import ServeConfig
from detrec.engines.base import RankProbe, Request, Scheduler, Step
from detrec.engines.instrument import Instrument
from detrec.errors import EngineError
from detrec.kernels import shared_memory
from detrec.kernels.rendezvous import Rendezvous

if TYPE_CHECKING:
    from detrec.engines.builtin.engine import BuiltinEngine

LIMIT_S = 300.0
"""How long rank 0 waits for another rank. The others wait for as long as rank 0 is there."""

COMPILING_LIMIT_S = 1200.0
"""The same where every rank has kernels to compile first, and eight may share a few cores."""

_END_S = 10.0
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from detrec.engines.builtin.other_rank import main; main(*sys.argv[2:])"
)


@dataclass(frozen=True, slots=True)
class Work:
    """What an engine is made of; as the arguments of `start_engine`. Each rank has instruments of its own."""

    config: ServeConfig
    requests: tuple[Request, ...]
    forced: Mapping[str, Sequence[int]] | None
    fault: str
    instruments: tuple[Instrument, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """A run that begins: whether it follows a plan, what of it is watched by whom, and its last step.

    A rank above 0 calls it, as any job that it is told, with its engine.
    """

    following: bool
    names: frozenset[str]
    probe: RankProbe | None
    until: int | None = None

    def __call__(self, engine: "BuiltinEngine") -> None:
        """Do it to the end; the plan, if there is one, is rank 0's."""
        scheduler = engine.follow(_Nothing()) if self.following else engine.own_scheduler()
        with self.probe(engine) if self.probe else nullcontext() as probe:
            for _ in engine.run(scheduler, probe, self.names, until=self.until):
                pass


class _Nothing:
    """What a rank above 0 has for a plan."""

    def next_step(self) -> Step | None:
        return None


class Ranks:
    """The ranks that have met at `meeting`; rank 0 has started the `processes` of the others."""

    def __init__(self, meeting: Rendezvous, processes: Sequence[subprocess.Popen[bytes]] = ()) -> None:
        self.meeting = meeting
        self._end = weakref.finalize(self, _end, meeting, tuple(processes))

    @staticmethod
    def start(size: int) -> "Ranks":
        """Start ranks 1 to `size` - 1, and wait until they are there. EngineError where they do not come."""
        name = Rendezvous.create(size)
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(1, size):
                processes.append(_spawn(name, rank, size))
                Rendezvous.expect(name, rank, processes[-1].pid)
            return Ranks(Rendezvous.join(name, 0, size, LIMIT_S), processes)
        except BaseException:
            shared_memory.let_go(name)
            for process in processes:
                process.kill()
                process.wait()
            raise

    @property
    def rank(self) -> int:
        """Which one this is."""
        return self.meeting.rank

    def tell(self, what: Any) -> None:
        """Send what all others wait for in `told`. Rank 0 alone may call it."""
        self.meeting.exchange(pickle.dumps(what))

    def told(self) -> Any:
        """What rank 0 tells."""
        return pickle.loads(self.meeting.exchange(b"")[0])

    def gather(self, what: Any) -> list[Any]:
        """What every rank gives, by rank; its own is the very object. All must call it."""
        every = self.meeting.exchange(pickle.dumps(what))
        return [what if rank == self.rank else pickle.loads(data) for rank, data in enumerate(every)]

    def plan(self, plan: Scheduler) -> Scheduler:
        """Rank 0's `plan`, for all ranks; of the others', nothing is asked."""
        return _SharedPlan(self, plan)

    def agree(self, when: str, *data: bytes) -> None:
        """Go on if all ranks have the same data; EngineError says when, and who has not."""
        digest = hashlib.blake2b(digest_size=8)
        for part in data:
            digest.update(part)
        digests = self.meeting.exchange(digest.digest())
        if len(set(digests)) == 1:
            return
        most = Counter(digests).most_common(1)[0][0]
        odd = [str(rank) for rank, own in enumerate(digests) if own != most]
        raise EngineError(
            f"{when}, rank {', '.join(odd)} does not agree with the others on what was drawn and is next",
            hint="every rank should compute the same logits: is one's memory or processor at fault?",
        )

    def close(self) -> None:
        """Leave; rank 0 sees the others end. Closing again changes nothing."""
        self._end()


class _SharedPlan:
    """The steps of rank 0's plan, one at a time to every rank."""

    def __init__(self, ranks: Ranks, plan: Scheduler) -> None:
        self._ranks, self._plan = ranks, plan

    def next_step(self) -> Step | None:
        if self._ranks.rank:
            step: Step | None = self._ranks.told()
            return step
        step = self._plan.next_step()
        self._ranks.tell(step)
        return step


def _spawn(name: str, rank: int, size: int) -> subprocess.Popen[bytes]:
    # a session of its own: Ctrl-C is for rank 0, which tells the others
    return subprocess.Popen(
        [sys.executable, "-c", _BOOT, json.dumps(sys.path), name, str(rank), str(size)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def _end(meeting: Rendezvous, processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Leave, let the others see it and end; who does not in time is killed."""
    meeting.close()
    late = time.monotonic() + _END_S
    for process in processes:
        try:
            process.wait(max(late - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
