"""Two traces compared by their sketches: runs of other engines, dtypes or devices, of other bits.

How far two rows are apart is estimated from their projections (`kernels/cpu/sketch.py`), relative to the
larger norm, in units of the coarser dtype's rounding. An op may round anew and amplify what it was given: a
cell may be BASE units apart and AMPLIFICATION times as far as anything it depends on. One that is further
apart is where the runs part: SmolLM2 in bfloat16 against float32 stays at a third of that.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from detrec.errors import TraceError
from detrec.replayer.align import align
from detrec.replayer.columns import Columns, columns_of
from detrec.replayer.divergence import split_name
from detrec.replayer.run import Run, request_ids, run_of
from detrec.replayer.trace import SketchedTrace, Trace

UNITS = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""The largest relative error of one rounding, by dtype."""

BASE, AMPLIFICATION = 16.0, 4.0
"""Units that an op may add, and how many times it may amplify those of what it was given."""

_BLOCK_ROWS = 256


@dataclass(frozen=True, slots=True)
class Apart:
    """One cell: `units` of rounding apart, where `allowed` are expected. `step` is the recorded run's."""

    step: int
    request: str
    position: int
    layer: int | None
    op: str
    units: float
    allowed: float


@dataclass(frozen=True, slots=True)
class Tolerance:
    """`verdict`: "close"; "apart" from `first` on; "unknown" where no cell has a sketch in both runs.

    `unit` is one rounding of `dtype`, relative. Of the `compared` cells, `apart` are further apart than is
    allowed; `worst` is the one with the largest share of what is allowed.
    """

    verdict: str
    dtype: str
    unit: float
    compared: int
    apart: int
    first: Apart | None
    worst: Apart | None


@dataclass(frozen=True, slots=True)
class _Cell:
    """A cell by its recorded row and compared op."""

    row: int
    op: int
    units: float
    allowed: float


@dataclass(slots=True)
class _Found:
    """How many cells are too far `apart`, the first of them by step, op and row, and the worst of all."""

    step_of_row: np.ndarray
    first: _Cell | None = None
    worst: _Cell | None = None
    apart: int = 0

    def see(self, rows: np.ndarray, units: np.ndarray, allowed: np.ndarray) -> None:
        """Take in cells [rows, ops]; where `units` is NaN there is none."""
        shares = np.where(np.isnan(units), -1.0, np.nan_to_num(units / allowed, posinf=np.inf))
        beyond = np.argwhere(shares > 1)
        self.apart += len(beyond)
        for row, op in beyond[np.lexsort((beyond[:, 1], self.step_of_row[rows[beyond[:, 0]]]))[:1]]:
            cell = _Cell(int(rows[row]), int(op), float(units[row, op]), float(allowed[row, op]))
            if self.first is None or self._when(cell) < self._when(self.first):
                self.first = cell
        row, op = np.unravel_index(int(shares.argmax()), shares.shape)
        if shares[row, op] < 0:
            return
        if self.worst is None or shares[row, op] > self.worst.units / self.worst.allowed:
            self.worst = _Cell(int(rows[row]), int(op), float(units[row, op]), float(allowed[row, op]))

    def _when(self, cell: _Cell) -> tuple[int, int, int]:
        return int(self.step_of_row[cell.row]), cell.op, cell.row


def units_apart(ours: np.ndarray, theirs: np.ndarray, unit: float) -> np.ndarray:
    """How far rows are apart, in units relative to the larger norm: float64 [...] of sketches [..., PARTS].

    NaN where either run has no sketch, infinity where one row is finite and the other is not.
    """
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    norms = np.maximum(ours[..., 0], theirs[..., 0])
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        distance = np.sqrt(((ours - theirs)[..., 1:] ** 2).mean(axis=-1))
        # the norms bound the distance from below, which projections may miss by chance
        distance = np.maximum(distance, np.abs(ours[..., 0] - theirs[..., 0]))
        units: np.ndarray = np.where(norms == 0, 0.0, distance / (norms * unit))
    here, there = np.isfinite(ours).all(axis=-1), np.isfinite(theirs).all(axis=-1)
    units[here != there] = np.inf
    units[np.isnan(ours[..., 0]) | np.isnan(theirs[..., 0]) | ~(here | there)] = np.nan
    return units


def require_sketches(trace: SketchedTrace) -> None:
    """Raise TraceError unless the trace has sketches."""
    if not trace.has_sketches:
        raise TraceError(
            f"{trace.path}: has no sketches, so it compares by bits alone",
            hint="record with --set record.sketch=true",
        )


def compare_sketches(recorded: SketchedTrace, replayed: SketchedTrace) -> Tolerance:
    """Compare every cell that has a sketch in both runs, on rank 0.

    Only what both runs computed from the same tokens is compared: after another token was drawn, nothing.
    Between other numbers of ranks neither is an op that is cut: rank 0 has another share of it. Raises
    TraceError where either trace has no sketches, or was computed in a dtype that is not one of UNITS.
    """
    require_sketches(recorded)
    require_sketches(replayed)
    dtype = max((_dtype(trace) for trace in (recorded, replayed)), key=UNITS.__getitem__)
    ids = request_ids(recorded, replayed)
    runs = run_of(recorded, ids), run_of(replayed, ids)
    columns = columns_of(recorded, replayed)
    cut = columns.lanes[0].cut
    given = np.zeros((len(ids), len(columns.names)))
    found, compared = _Found(recorded.row_step), 0
    for here, there in _blocks(*runs) if columns.names else ():
        ours, theirs = _take(recorded, here), _take(replayed, there)
        units = units_apart(ours[:, columns.recorded], theirs[:, columns.replayed], UNITS[dtype])
        if cut is not None:
            units[:, cut] = np.nan
        compared += int(np.count_nonzero(~np.isnan(units)))
        request = runs[0].rows.request[here]
        for number in np.unique(request):
            rows = request == number
            found.see(here[rows], units[rows], _allowed(units[rows], given[number]))
    verdict = "apart" if found.apart else "close" if compared else "unknown"
    cells = [_tell(runs[0], ids, columns, cell) for cell in (found.first, found.worst)]
    return Tolerance(verdict, dtype, UNITS[dtype], compared, found.apart, *cells)


def needs_cause(tolerance: Tolerance | None, *, by_sketch: bool) -> bool:
    """Is there a divergence to explain, if any is? Where sketches decide, bits that differ alone are none."""
    return not by_sketch or (tolerance is not None and tolerance.verdict == "apart")


def _allowed(units: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Units that each cell of consecutive rows of one request may be apart, [rows, ops].

    `given` [ops]: the most of any row before them, by op; it takes these rows in.
    """
    most = np.maximum.accumulate(np.vstack([given, np.nan_to_num(units, posinf=np.inf)]), axis=0)
    given[:] = most[-1]
    before = np.maximum.accumulate(most[1:], axis=1)
    before = np.hstack([np.zeros((len(before), 1)), before[:, :-1]])
    return BASE + AMPLIFICATION * before


def _dtype(trace: Trace) -> str:
    # the section of a foreign engine may not say, its worker did
    dtype: str = trace.manifest["config"]["engine"].get("dtype") or trace.manifest["engine"]["dtype"]
    if dtype not in UNITS:
        raise TraceError(
            f"{trace.path}: was computed in {dtype}, and sketches are compared of {', '.join(UNITS)}",
            hint="a trace without sketches compares by bits: --set record.sketch=false",
        )
    return dtype


def _blocks(ours: Run, theirs: Run) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Recorded rows and the replayed rows beside them, a block at a time."""
    rows = align(ours.rows, theirs.rows)
    here, there = rows.recorded, rows.replayed
    # from the first other input token of a request on, its rows are of another text
    other = here[ours.trace.row_token[here] != theirs.trace.row_token[there]]
    end = np.full(len(ours.rows.cached), np.iinfo(np.int32).max)
    np.minimum.at(end, ours.rows.request[other], ours.rows.position[other])
    same = ours.rows.position[here] < end[ours.rows.request[here]]
    here, there = here[same], there[same]
    for start in range(0, len(here), _BLOCK_ROWS):
        yield here[start : start + _BLOCK_ROWS], there[start : start + _BLOCK_ROWS]


def _take(trace: SketchedTrace, rows: np.ndarray) -> np.ndarray:
    """Sketches of any rows, float32 [rows, ops, PARTS]."""
    first, stop = int(rows.min()), int(rows.max()) + 1
    if stop - first <= 4 * len(rows):
        return trace.sketches(first, stop)[rows - first]
    return np.concatenate([trace.sketches(row, row + 1) for row in rows.tolist()])


def _tell(run: Run, ids: tuple[str, ...], columns: Columns, cell: _Cell | None) -> Apart | None:
    if cell is None:
        return None
    layer, op = split_name(columns.names[cell.op])
    step, position = int(run.trace.row_step[cell.row]), int(run.rows.position[cell.row])
    return Apart(step, ids[run.rows.request[cell.row]], position, layer, op, cell.units, cell.allowed)
