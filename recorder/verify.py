"""Whether a trace is what its recorder wrote: every file, every byte.

A trace that was never closed is checked up to its commit marker; what its recorder wrote after it is allowed.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from detrec.errors import TraceCorrupt
from detrec.recorder.chunks import CheckedChunks
from detrec.recorder.digests import read_root
from detrec.recorder.progress import progress_file
from detrec.recorder.schema import TAIL, ArraySpec, growing_arrays
from detrec.recorder.store import PARTIAL, Store, open_store


@dataclass(frozen=True, slots=True)
class Verification:
    """What was checked, and what is wrong: one line a problem, none for a sound trace."""

    status: str
    steps: int
    rows: int
    files: int
    problems: tuple[str, ...]


def verify(path: str | Path) -> Verification:
    """Check the trace at `path`. TraceCorrupt if anything is wrong; otherwise raises as TraceReader does."""
    found = examine(path)
    require_sound(found)
    return found


def require_sound(found: Verification) -> None:
    """Raise TraceCorrupt, naming the first problem, if there is any."""
    if found.problems:
        more = len(found.problems) - 1
        raise TraceCorrupt(
            found.problems[0] + (f" (and {more} more)" if more else ""), hint="record it again"
        )


def examine(path: str | Path) -> Verification:
    """Check the trace at `path` and list what is wrong. Raises only where its root cannot be read."""
    store = open_store(path)
    root = read_root(store)
    counts = root["committed"]
    present = set(store.keys()) - {"zarr.json"}
    problems: list[str] = []

    def attempt(check: Callable[..., object], *args: object) -> None:
        try:
            check(*args)
        except TraceCorrupt as error:
            problems.append(str(error))

    specs = growing_arrays(len(root["ops"]), root["ranks"], root.get("sketch_parts", 0)).values()
    chunks = CheckedChunks(store, root, specs)
    for key in root["digests"]:
        attempt(chunks.file, key)
    expected = set(root["digests"])
    for spec in specs:
        # other ranks may outlive the one that closed the trace as failed
        if root["status"] == "recording" or spec.path in chunks.flushed:
            rows = chunks.flushed.get(spec.path, counts[spec.count])
            attempt(_check_metadata, store, spec, counts[spec.count])
            if rows % spec.chunk:
                attempt(chunks.chunk, spec, rows // spec.chunk, rows)
            expected |= {key for key in present if _is_of(spec, key, rows // spec.chunk)}
    if root["status"] == "recording":
        expected.add(TAIL)
        expected |= {key for key in present if key.startswith("attached/")}
    if root["status"] == "recording" or chunks.flushed:
        expected |= {key for key in present if key.endswith(PARTIAL)}
        expected |= {progress_file(rank) for rank in range(1, root["ranks"])}
    problems += [f"{store.name}: {key}: is not part of the trace" for key in sorted(present - expected)]
    return Verification(root["status"], counts["steps"], counts["rows"], len(present) + 1, tuple(problems))


def _check_metadata(store: Store, spec: ArraySpec, rows: int) -> None:
    """The metadata of a growing array says that it is empty until the array is sealed."""
    key = f"{spec.path}/zarr.json"
    data = store.read(key)
    if data is None:
        raise TraceCorrupt(f"{store.name}: {key}: is missing")
    try:
        stored = json.loads(data)["shape"][0]
        if isinstance(stored, int) and (stored == 0 or stored >= rows) and spec.metadata(stored) == data:
            return
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        pass
    raise TraceCorrupt(f"{store.name}: {key}: its bytes are not those that were recorded")


def _is_of(spec: ArraySpec, key: str, full: int) -> bool:
    """Is `key` a file of this array that is not final yet: its metadata, or a chunk after the full ones?"""
    if key == f"{spec.path}/zarr.json":
        return True
    prefix = f"{spec.path}/c/"
    number = key.removeprefix(prefix).removesuffix("/0" if spec.width else "")
    return (
        key.startswith(prefix) and number.isdecimal() and int(number) >= full and key == spec.key(int(number))
    )
