"""The arguments of every entry of the Ops table as rows: some of them, in any order, or of two runs at once.

Pure: what is given is never changed, what comes back may share memory with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from detrec.engines.builtin.batch import Batch, Draws, Penalties
from detrec.kernels.cpu.packed import PackedWeight

ARGUMENTS: dict[str, tuple[tuple[str, str], ...]] = {
    "embedding": (("tokens", "rows"), ("table", "shared")),
    "rms_norm": (("x", "rows"), ("weight", "shared"), ("eps", "shared")),
    "matmul": (("x", "rows"), ("weight", "shared"), ("bias", "shared")),
    "rope": (("x", "rows"), ("positions", "rows"), ("cos", "shared"), ("sin", "shared")),
    "kv_write": (("k", "rows"), ("v", "rows"), ("cache", "cache"), ("slots", "slots")),
    "attention": (("q", "rows"), ("cache", "cache"), ("positions", "batch"), ("scale", "shared")),
    "all_reduce": (("x", "rows"),),
    "add": (("x", "rows"), ("y", "rows")),
    "silu_mul": (("x", "rows"),),
    "penalise": (("logits", "rows"), ("penalties", "rows")),
    "log_softmax": (("x", "rows"),),
    "sample": (("logprobs", "rows"), ("draws", "rows")),
}
"""By field of Ops, each argument after the name: what it is called, and how it relates to rows.

"rows": one entry a row. "shared": the same for all. "cache": the layer's KV. "slots" and "batch" say where in
the cache a row lies: where an engine happened to put it is no input.
"""


@dataclass(frozen=True, slots=True)
class Given:
    """`args` of an op of the Ops field `field`, and one `row` of them."""

    field: str
    args: tuple[Any, ...]
    row: int


def subset(field: str, args: tuple[Any, ...], rows: Sequence[int]) -> tuple[Any, ...]:
    """The arguments for `rows` alone, in that order; a row may be repeated, and then writes what it wrote."""
    return tuple(
        value if how in ("shared", "cache") else _taken(value, np.asarray(rows, np.int64))
        for value, (_, how) in zip(args, ARGUMENTS[field], strict=True)
    )


def kv_read(given: Given) -> np.ndarray:
    """Keys, then values, of positions 0 to its own as the row of an attention reads them: [p + 1, 2*KV]."""
    cache, batch = given.args[1], given.args[2]
    lines: np.ndarray = cache.reshape(-1, 2 * cache.shape[3])
    return lines[_slots_read(given, cache, batch)]


def unequal_inputs(recorded: Given, replayed: Given) -> tuple[str, ...]:
    """The names of the row's inputs whose bits are not the same."""
    names = []
    for index, (name, how) in enumerate(ARGUMENTS[recorded.field]):
        ours, theirs = recorded.args[index], replayed.args[index]
        if how == "slots" or (how == "cache" and recorded.field == "kv_write"):
            continue
        if how == "cache":
            ours, theirs = kv_read(recorded), kv_read(replayed)
        elif how == "batch":
            ours, theirs = (given.args[index].positions[given.row] for given in (recorded, replayed))
        elif how == "rows":
            ours, theirs = (_taken(g.args[index], np.array([g.row])) for g in (recorded, replayed))
        if not same_bits(ours, theirs):
            names.append(name)
    return tuple(names)


def transplanted(into: Given, donor: Given) -> tuple[Any, ...] | None:
    """The arguments of `into`, its row with the inputs of the donor's row, and all that rows share.

    None where the two are not of one make: another dtype or another width.
    """
    result = []
    for index, (_, how) in enumerate(ARGUMENTS[into.field]):
        ours, theirs = into.args[index], donor.args[index]
        if how == "shared":
            result.append(theirs)
        elif how in ("slots", "batch"):
            result.append(ours)
        elif how == "cache":
            if ours.dtype != theirs.dtype or ours.shape[3] != theirs.shape[3]:
                return None
            result.append(_with_kv(into, donor) if into.field == "attention" else ours)
        elif isinstance(ours, np.ndarray):
            if ours.dtype != theirs.dtype or ours.shape[1:] != theirs.shape[1:]:
                return None
            moved = ours.copy()
            moved[into.row] = theirs[donor.row]
            result.append(moved)
        else:
            result.append(_spliced(ours, into.row, theirs, donor.row))
    return tuple(result)


def same_bits(a: Any, b: Any) -> bool:
    """Whether two arguments are one and the same, bit for bit."""
    if a is b:
        return True
    if isinstance(a, PackedWeight) and isinstance(b, PackedWeight):
        return a.shape == b.shape and same_bits(a.panels, b.panels)
    if isinstance(a, (Batch, Penalties, Draws)) and type(a) is type(b):
        return all(same_bits(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, (np.ndarray, np.generic)) and isinstance(b, (np.ndarray, np.generic)):
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        return bool(np.array_equal(bits(a), bits(b)))
    return bool(a == b)


def bits(values: Any) -> np.ndarray:
    """An array's elements as unsigned integers: NaN equals itself, and 0.0 is not -0.0."""
    array = np.ascontiguousarray(values)
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.names is None else array.view(np.uint64)


def _slots_read(given: Given, cache: np.ndarray, batch: Batch) -> np.ndarray:
    size, row = cache.shape[1], given.row
    positions = np.arange(int(batch.positions[row]) + 1)
    table = batch.block_tables[batch.row_seq[row]].astype(np.int64)
    slots: np.ndarray = table[positions // size] * size + positions % size
    return slots


def _with_kv(into: Given, donor: Given) -> np.ndarray:
    cache: np.ndarray = into.args[1].copy()
    slots = _slots_read(into, cache, into.args[2])
    lines = kv_read(donor)
    count = min(len(slots), len(lines))
    cache.reshape(-1, 2 * cache.shape[3])[slots[:count]] = lines[:count]
    return cache


def _taken(value: Any, rows: np.ndarray) -> Any:
    if isinstance(value, Batch):
        return replace(
            value,
            tokens=value.tokens[rows],
            positions=value.positions[rows],
            slots=value.slots[rows],
            row_seq=value.row_seq[rows],
            sample_rows=np.flatnonzero(np.isin(rows, value.sample_rows)),
        )
    if isinstance(value, Draws):
        return Draws(**{f.name: getattr(value, f.name)[rows] for f in fields(Draws)})
    if isinstance(value, Penalties):
        return _penalties([(value, row) for row in rows.tolist()])
    return value[rows]


def _spliced(ours: Any, row: int, theirs: Any, donor: int) -> Any:
    """Penalties or Draws with one row of another's."""
    count = len(ours.repetition if isinstance(ours, Penalties) else ours.seed)
    chosen = [(theirs, donor) if at == row else (ours, at) for at in range(count)]
    if isinstance(ours, Penalties):
        return _penalties(chosen)
    return Draws(
        **{
            f.name: np.array([getattr(of, f.name)[at] for of, at in chosen], getattr(ours, f.name).dtype)
            for f in fields(Draws)
        }
    )


def _penalties(chosen: Sequence[tuple[Penalties, int]]) -> Penalties:
    """One row after another, each out of its own."""
    first = chosen[0][0]

    def joined(name: str, offsets: str) -> np.ndarray:
        parts = [
            getattr(of, name)[getattr(of, offsets)[row] : getattr(of, offsets)[row + 1]] for of, row in chosen
        ]
        return np.concatenate(parts)

    def ends(offsets: str) -> np.ndarray:
        lengths = [getattr(of, offsets)[row + 1] - getattr(of, offsets)[row] for of, row in chosen]
        return np.cumsum([0, *lengths], dtype=np.int64)

    def weight(name: str) -> np.ndarray:
        return np.array([getattr(of, name)[row] for of, row in chosen], getattr(first, name).dtype)

    return Penalties(
        ids=joined("ids", "offsets"),
        offsets=ends("offsets"),
        output_counts=joined("output_counts", "offsets"),
        in_prompt=joined("in_prompt", "offsets"),
        repetition=weight("repetition"),
        presence=weight("presence"),
        frequency=weight("frequency"),
        ban_ids=joined("ban_ids", "ban_offsets"),
        ban_offsets=ends("ban_offsets"),
    )
