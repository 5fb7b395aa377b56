"""How far the other ranks of a run have got on disk: one small file a rank, written anew at each flush.

Rank 0 commits what all of them have, so that a marker never claims rows that a rank has not written, whoever
is killed when. A rank may be ahead of the marker: its digests then cover more rows than are committed.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from detrec.errors import TraceError
from detrec.printable import counted
from detrec.recorder.digests import digest
from detrec.recorder.store import Store

_PAUSE = 0.002


def progress_file(rank: int) -> str:
    """Where rank `rank` > 0 says how far it is; gone when the trace is complete."""
    return f"rank{rank}"


@dataclass(frozen=True, slots=True)
class Progress:
    """What one rank has on disk: the fingerprints of its first `steps` steps, in `rows` rows.

    `digests` by file are of what is final, `tail` is how many rows its unfinished chunk has and their digest.
    `state` is "recording", "closed" (all is final, there is no unfinished chunk) or "failed".
    """

    steps: int = 0
    rows: int = 0
    tail: tuple[int, str] = (0, "")
    state: str = "recording"
    reason: str = ""
    digests: dict[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The file, which opens with the digest of the rest."""
        data = json.dumps(asdict(self)).encode()
        return digest(data).encode() + data


def read_progress(store: Store, rank: int) -> Progress | None:
    """What the rank said last; None where it said nothing, or is saying it just now."""
    data = store.read(progress_file(rank)) or b""
    opening, rest = data[:32], data[32:]
    if opening != digest(rest).encode():
        return None
    fields = json.loads(rest)
    return Progress(**fields | {"tail": tuple(fields["tail"])})


class OtherRanks:
    """Ranks 1 to `ranks` - 1 of a recording, as rank 0 saw them when it last looked."""

    def __init__(self, store: Store, ranks: int) -> None:
        self._store = store
        self._seen = {rank: Progress() for rank in range(1, ranks)}

    def look(self) -> None:
        """Read what is new."""
        for rank, seen in self._seen.items():
            if seen.state == "recording":
                self._seen[rank] = read_progress(self._store, rank) or seen

    def steps(self, own: int) -> int:
        """How many of rank 0's `own` steps all other ranks have on disk."""
        return min([own, *(seen.steps for seen in self._seen.values())])

    def wait(self, steps: int, seconds: float, alive: Callable[[], None]) -> None:
        """Wait until every rank has closed after `steps` steps; TraceError if one does not in `seconds`.

        `alive` is called meanwhile, and raises where a rank can close no more.
        """
        late = time.monotonic() + seconds
        for rank in self._seen:
            self.look()
            while (seen := self._seen[rank]).state == "recording" and time.monotonic() < late:
                alive()
                time.sleep(_PAUSE)
                self.look()
            if seen.state != "closed":
                why = seen.reason if seen.state == "failed" else f"did not close in {seconds:g} s"
                raise TraceError(
                    f"{self._store.name}: rank {rank}, which has written {seen.steps} of "
                    f"{counted(steps, 'step')}: {why}"
                )
            if seen.steps != steps:
                raise TraceError(
                    f"{self._store.name}: rank {rank} closed after {counted(seen.steps, 'step')}, "
                    f"rank 0 after {steps}"
                )

    def digests(self) -> dict[str, str]:
        """By file the digests of what is final."""
        return {key: value for seen in self._seen.values() for key, value in seen.digests.items()}

    def rows(self) -> dict[str, int]:
        """By array path how many rows the ranks' digests cover: at least those of all common steps."""
        return {f"fingerprints/{rank}": seen.rows for rank, seen in self._seen.items()}

    def tails(self) -> dict[str, tuple[int, str]]:
        """By array path the rows of the unfinished chunk and their digest."""
        return {
            f"fingerprints/{rank}": seen.tail for rank, seen in self._seen.items() if seen.state != "closed"
        }

    def forget(self) -> None:
        """Delete the files: the trace holds what they said."""
        for rank in self._seen:
            self._store.delete(progress_file(rank))
