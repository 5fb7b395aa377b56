"""Tensors of the first divergence, as `--keep-tensors` left them: elements, bits, distance, and where they
lie.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detrec.engines.builtin.bfloat16 import widened
from detrec.errors import TraceError
from detrec.replayer.arguments import bits
from detrec.replayer.tensor_diff import ulp_distance

_SIDES = ("recorded", "replayed")
# float32, and bfloat16 by its bits
_FLOATS = (np.float32, np.uint16)


@dataclass(frozen=True, slots=True)
class Element:
    """One element of both runs: its bits as an unsigned integer of `Tensor.width` bits, its value, ULP
    between.
    """

    row: int
    column: int
    recorded_bits: int
    replayed_bits: int
    recorded: float
    replayed: float
    ulp: int
    differs: bool


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input ("x", "weight") or the "output" of the op, [rows, columns] each.

    float32, uint16 (bfloat16 bits) or integers; of records, one field ("output.token").
    `places[i]` is (request, position) of row i, empty where rows are not those of the batch. A side is None
    where it was not kept.
    """

    name: str
    recorded: np.ndarray | None
    replayed: np.ndarray | None
    places: tuple[tuple[str, int], ...]

    @property
    def comparable(self) -> bool:
        """Are both sides there, and of one shape and dtype?"""
        a, b = self.recorded, self.replayed
        return a is not None and b is not None and a.shape == b.shape and a.dtype == b.dtype

    def differs(self) -> np.ndarray:
        """Which elements have other bits, bool [rows, columns]. ValueError where the two are not
        comparable.
        """
        a, b = self._both()
        return bits(a) != bits(b)

    def elements(self, row: int, start: int = 0, stop: int | None = None) -> tuple[Element, ...]:
        """Elements [start, stop) of one row."""
        a, b = self._both()
        part = slice(start, stop)
        left, right = a[row, part], b[row, part]
        values = _values(left), _values(right)
        ulp = ulp_distance(left, right) if left.dtype in _FLOATS else np.zeros(len(left), np.int64)
        return tuple(
            Element(row, start + i, int(x), int(y), float(u), float(v), int(d), bool(x != y))
            for i, (x, y, u, v, d) in enumerate(zip(bits(left), bits(right), *values, ulp, strict=True))
        )

    def picture(self, lines: int, columns: int) -> np.ndarray:
        """The share of elements that differ, float64 [at most lines, at most columns], of the whole
        tensor.
        """
        return _shares(self.differs(), lines, columns)

    def _both(self) -> tuple[np.ndarray, np.ndarray]:
        if self.recorded is None or self.replayed is None or not self.comparable:
            raise ValueError(f"{self.name}: the runs have no tensors of one shape and dtype")
        return self.recorded, self.replayed


@dataclass(frozen=True, slots=True)
class Tensors:
    """What was kept of one op of one step of either run; `scalars` are by side and name."""

    op: str
    steps: tuple[int | None, int | None]
    kernels: tuple[str, str]
    tensors: tuple[Tensor, ...]
    scalars: Mapping[str, Mapping[str, Any]]

    def named(self, name: str) -> Tensor | None:
        """The tensor called so."""
        return next((tensor for tensor in self.tensors if tensor.name == name), None)


def kept_tensors(folder: str | Path) -> Tensors:
    """Read what `--keep-tensors` wrote, mapped, not loaded. TraceError where the folder is not one of
    those.
    """
    path = Path(folder)
    try:
        about = json.loads((path / "README.json").read_text(encoding="utf-8"))
        sides = {side: about[side] for side in _SIDES if side in about}
        if not sides:
            raise KeyError("recorded")
        known = next(iter(sides.values()))
        names = dict.fromkeys(_name(side, file) for side, facts in sides.items() for file in facts["files"])
        return Tensors(
            known["op"],
            (_step(sides.get("recorded")), _step(sides.get("replayed"))),
            tuple(sides.get(side, {}).get("kernel", "") for side in _SIDES),
            tuple(tensor for name in names for tensor in _tensors(path, name, sides)),
            {side: facts.get("scalars", {}) for side, facts in sides.items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = error.strerror if isinstance(error, OSError) else error
        raise TraceError(
            f"{path}: holds no tensors of a divergence: {what}",
            hint="detrec replay RUN --keep-tensors DIR fills such a folder",
        ) from None


def _name(side: str, file: str) -> str:
    return file.removeprefix(f"{side}.").removesuffix(".npy")


def _step(facts: Mapping[str, Any] | None) -> int | None:
    return None if facts is None else int(facts["step"])


def _tensors(path: Path, name: str, sides: Mapping[str, Mapping[str, Any]]) -> Iterator[Tensor]:
    """One tensor, or of records one a field."""
    kept = {
        side: np.load(path / file, mmap_mode="r", allow_pickle=False)
        for side in sides
        if (file := f"{side}.{name}.npy") in sides[side]["files"]
    }
    places: tuple[tuple[str, int], ...] = ()
    for side, array in kept.items():
        rows = sides[side]["rows"]
        if not places and array.ndim and len(array) == len(rows):
            places = tuple((str(row["request"]), int(row["position"])) for row in rows)
    fields = next(iter(kept.values())).dtype.names
    for field in fields or (None,):
        ours, theirs = (_flat(kept.get(side), field) for side in _SIDES)
        yield Tensor(name if field is None else f"{name}.{field}", ours, theirs, places)


def _flat(array: np.ndarray | None, field: str | None) -> np.ndarray | None:
    """[rows, columns], of records one field."""
    if array is None:
        return None
    values = array if field is None or array.dtype.names is None else np.ascontiguousarray(array[field])
    return values.reshape(len(values), -1) if values.ndim else values.reshape(1, 1)


def _values(array: np.ndarray) -> np.ndarray:
    return widened(array) if array.dtype == np.uint16 else array


def _shares(differ: np.ndarray, lines: int, columns: int) -> np.ndarray:
    out = differ.astype(np.float64)
    for axis, parts in enumerate((lines, columns)):
        size = out.shape[axis]
        count = max(min(parts, size), 1)
        edges = np.arange(count) * size // count
        width = np.diff([*edges, size])
        out = np.add.reduceat(out, edges, axis=axis) / (width[:, None] if axis == 0 else width)
    return out
