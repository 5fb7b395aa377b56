"""What state a trace is in, said without a traceback."""

import time
from dataclasses import dataclass

from detrec.errors import DetrecError, TraceCorrupt, TraceVersion
from detrec.printable import counted
from detrec.recorder.reader import TraceReader
from detrec.recorder.schema import growing_arrays

_TRIES, _PAUSE = 6, 0.05
_STATUS: dict[type[DetrecError], str] = {TraceCorrupt: "corrupt", TraceVersion: "foreign"}
# what every view needs: a trace that lost one of these cannot be shown
_NEEDED = (
    *("rows/step", "rows/request", "rows/position", "rows/token"),
    *("steps/slice_start", "slices/step", "events/step", "samples/step"),
)


@dataclass(frozen=True, slots=True)
class Condition:
    """`status`: complete, recording (its recorder runs, or died without a word), failed, partial (a replay
    ended before it does), corrupt, foreign (another detrec wrote it) or unreadable (no trace, or one that
    cannot be had).

    `detail` says why in a sentence, `hint` what to do; both are empty for a complete trace. `readable`: its
    steps and rows can be looked at. `unread` counts chunks of fingerprints that were looked for and are not
    what was recorded.
    """

    path: str
    status: str
    detail: str
    hint: str
    readable: bool
    steps: int = 0
    rows: int = 0
    ops: int = 0
    ranks: int = 0
    unread: int = 0


def opened(path: str, steps: int | None = None) -> tuple[Condition, TraceReader | None]:
    """The trace at `path`, or its first `steps`, and its condition; None where it cannot be read at all."""
    for left in reversed(range(_TRIES)):
        reader = None
        try:
            reader = TraceReader(path, steps=steps)
            _ = reader.requests
            for name in _wanted(reader):
                reader.column(name)
            return condition_of(reader), reader
        except DetrecError as error:
            # a recorder that filled a chunk between two of our reads has moved what we were after
            if left and reader is not None and reader.status == "recording":
                time.sleep(_PAUSE)
                continue
            status = _STATUS.get(type(error), "unreadable")
            return Condition(path, status, str(error), error.hint, False), None
    raise AssertionError("the last try returns")


def condition_of(reader: TraceReader, corrupt: tuple[str, ...] = ()) -> Condition:
    """The condition of a trace that was opened; `corrupt` says which of its chunks could not be read."""
    about = (reader.n_steps, reader.n_rows, len(reader.ops), reader.ranks, len(corrupt))
    steps = counted(reader.n_steps, "step")
    if corrupt:
        return Condition(reader.path, "corrupt", corrupt[0], TraceCorrupt.usual_hint, True, *about)
    if reader.status == "recording":
        detail = f"not closed: its recorder is still running or died; {steps} committed"
        return Condition(reader.path, "recording", detail, "what comes is shown as it comes", True, *about)
    if reader.status == "partial":
        detail = f"replayed up to step {reader.n_steps - 1}, of {reader.all_steps:,} steps"
        return Condition(reader.path, "partial", detail, "R replays the whole run", True, *about)
    if reader.status == "failed":
        detail = f"its recorder failed after {steps}: {reader.reason}"
        return Condition(reader.path, "failed", detail, "record it again", True, *about)
    return Condition(reader.path, "complete", "", "", True, *about)


def _wanted(reader: TraceReader) -> tuple[str, ...]:
    """Of a trace that grows every column, now: what is read later would be what it holds later."""
    if reader.status != "recording":
        return _NEEDED
    paths = growing_arrays(len(reader.ops), reader.ranks)
    return tuple(path for path in paths if not path.startswith("fingerprints/"))
