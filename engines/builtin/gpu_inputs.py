"""A step's inputs on their way to the GPU: one pinned buffer, one copy, arrays at fixed places.

A captured graph reads the same addresses at every replay, so arrays whose length moves from step to step lie
last, each in the room that its longest could take, and the copy ends where the last one in use ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from detrec.engines.builtin.batch import Batch, Draws, Penalties
from detrec.engines.builtin.runner import Sampling
from detrec.kernels import cuda
from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.attention import AttentionPlan

_ALIGNMENT = 256

PADDING = -1
"""Marks a row that is none: the sequence of a row, its slot, the temperature it is drawn with."""


@dataclass(frozen=True, slots=True)
class DeviceBatch:
    """A `Batch` on the device, with what attention needs beside it."""

    tokens: DeviceArray
    positions: DeviceArray
    slots: DeviceArray
    row_seq: DeviceArray
    block_tables: DeviceArray
    sample_rows: DeviceArray
    table: DeviceArray
    plan: AttentionPlan
    scratch: DeviceArray
    whole: tuple[tuple[int, int], ...] = ()
    """(first row, end row) of slices that the plan leaves to the vendor's attention."""


def padded_batch(batch: Batch, rows: int, blocks: int) -> Batch:
    """A step of decodes with `rows` rows, block tables of `blocks` blocks; the rows added touch no state."""
    spare = rows - len(batch.tokens)
    tables = np.zeros((rows, blocks), np.int32)
    tables[: len(batch.block_tables), : batch.block_tables.shape[1]] = batch.block_tables
    return Batch(
        tokens=np.pad(batch.tokens, (0, spare)),
        positions=np.pad(batch.positions, (0, spare)),
        slots=np.pad(batch.slots, (0, spare), constant_values=PADDING),
        row_seq=np.pad(batch.row_seq, (0, spare), constant_values=PADDING),
        block_tables=tables,
        sample_rows=np.arange(rows, dtype=np.int64),
    )


def padded_sampling(sampling: Sampling, rows: int) -> Sampling:
    """The same for what is drawn: a row added has no penalties and a negative temperature."""
    by, draws = sampling.penalties, sampling.draws
    spare = rows - len(draws.temperature)
    if not spare:
        return sampling
    return Sampling(
        replace(
            by,
            offsets=np.pad(by.offsets, (0, spare), mode="edge"),
            ban_offsets=np.pad(by.ban_offsets, (0, spare), mode="edge"),
            repetition=np.pad(by.repetition, (0, spare), constant_values=1),
            presence=np.pad(by.presence, (0, spare)),
            frequency=np.pad(by.frequency, (0, spare)),
        ),
        Draws(
            **{
                field.name: np.pad(
                    getattr(draws, field.name),
                    (0, spare),
                    constant_values=PADDING if field.name == "temperature" else 0,
                )
                for field in fields(Draws)
            }
        ),
    )


def arrays_of(batch: Batch, plan: AttentionPlan, sampling: Sampling | None) -> dict[str, np.ndarray]:
    """Everything that a step reads, by name; what varies in length from step to step comes last."""
    arrays = {field.name: getattr(batch, field.name) for field in fields(Batch)}
    arrays["table"] = plan.table
    if sampling is not None:
        arrays |= {field.name: getattr(sampling.draws, field.name) for field in fields(Draws)}
        penalties = {field.name: getattr(sampling.penalties, field.name) for field in fields(Penalties)}
        lists = {name: penalties.pop(name) for name in ("ban_ids", "ids", "output_counts", "in_prompt")}
        arrays |= penalties | lists
    return arrays


class Inputs:
    """Pinned memory and its twin on the device, grown to the largest step so far."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._pinned = np.empty(0, np.uint8)

    def send(
        self, arrays: Mapping[str, np.ndarray], room: Mapping[str, int] | None = None
    ) -> dict[str, DeviceArray]:
        """Queue the copy of `arrays`; gives their twins.

        `room` is how many elements to keep for an array whose length varies; its twin has that length. The
        copy before must be over: the host has seen a result of the step that it was for.
        """
        places, end = {}, 0
        for name, array in arrays.items():
            places[name] = end
            count = (room or {}).get(name, array.size)
            if array.size > count:
                raise ValueError(f"{name}: {array.size} elements do not fit the room of {count}")
            end += -(-count * array.itemsize // _ALIGNMENT) * _ALIGNMENT
        if end > len(self._pinned):
            self._grow(end)
        used = 0
        for name, array in arrays.items():
            start, stop = places[name], places[name] + array.nbytes
            self._pinned[start:stop] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            used = stop if array.size else used
        self._device.stream.copy_to_device(self._memory[:used], self._pinned[:used])
        return {
            name: DeviceArray(
                self._memory.address + places[name],
                array.dtype.name,
                (room[name],) if room and name in room else array.shape,
                (),
                self._memory.owner,
            )
            for name, array in arrays.items()
        }

    def _grow(self, nbytes: int) -> None:
        # graphs keep addresses and need what was handed out to stay, so they have Inputs of their own
        self._pinned = cuda.pinned(nbytes)
        self._memory = self._device.empty((nbytes,), "uint8")


def device_batch(
    twins: Mapping[str, DeviceArray],
    plan: AttentionPlan,
    scratch: DeviceArray,
    whole: tuple[tuple[int, int], ...] = (),
) -> DeviceBatch:
    """The arrays of a `Batch` out of all that was sent."""
    names = {field.name for field in fields(Batch)} | {"table"}
    return DeviceBatch(**{name: twins[name] for name in names}, plan=plan, scratch=scratch, whole=whole)


def device_sampling(twins: Mapping[str, DeviceArray]) -> tuple[Any, Any]:
    """Penalties and Draws whose arrays are on the device."""
    penalties = Penalties(**{field.name: twins[field.name] for field in fields(Penalties)})  # type: ignore[arg-type]
    return penalties, Draws(**{field.name: twins[field.name] for field in fields(Draws)})  # type: ignore[arg-type]
