"""A step's inputs on their way to the GPU: one pinned buffer, one copy, arrays at fixed places.

A captured graph reads the same addresses at every replay, so lists whose length moves from step to step lie
last, each in the room that its longest could take, and the copy ends where the last one in use ends.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
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


def arrays_of(batch: Batch, sampling: Sampling | None) -> dict[str, np.ndarray]:
    """What a step reads of `batch` and `sampling`, by name; lists, whose length varies, come last."""
    arrays = {name: getattr(batch, name) for name in _BATCH}
    if sampling is not None:
        arrays |= {name: getattr(sampling.draws, name) for name in _DRAWS}
        arrays |= {name: getattr(sampling.penalties, name) for name in _PENALTIES}
    return arrays


_LISTS = ("ban_ids", "ids", "output_counts", "in_prompt")
_BATCH = tuple(field.name for field in fields(Batch))
_DRAWS = tuple(field.name for field in fields(Draws))
_PENALTIES = (*(field.name for field in fields(Penalties) if field.name not in _LISTS), *_LISTS)
_ENDS = ("offsets", "ban_offsets")


class Inputs:
    """Pinned memory and its twin on the device, grown to the largest step so far."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._pinned = np.empty(0, np.uint8)

    def send(self, arrays: Mapping[str, np.ndarray]) -> dict[str, DeviceArray]:
        """Queue the copy of `arrays`; gives their twins.

        The copy before must be over: the host has seen a result of the step that it was for.
        """
        places, end = _places({name: array.nbytes for name, array in arrays.items()})
        if end > len(self._pinned):
            self._pinned = cuda.pinned(end)
            self._memory = self._device.empty((end,), "uint8")
        for name, array in arrays.items():
            _view(self._pinned, places[name], array.shape, array.dtype)[...] = array
        self._device.stream.copy_to_device(self._memory[:end], self._pinned[:end])
        return {
            name: _twin(self._memory, places[name], array.shape, array.dtype)
            for name, array in arrays.items()
        }


class GraphInputs:
    """The inputs of a graph of `rows` decodes, at fixed places: `twins` are what its launches read.

    `fixed` are the arrays that no replay changes, `first` those of the step that it is captured for; `blocks`
    is the width of block tables, `room` how many elements each of the lists may come to have.
    """

    def __init__(
        self,
        device: Device,
        rows: int,
        blocks: int,
        fixed: Mapping[str, np.ndarray],
        first: Mapping[str, np.ndarray],
        room: Mapping[str, int],
    ) -> None:
        arrays = {**fixed, **first}
        shapes = {name: array.shape for name, array in fixed.items()}
        shapes |= {name: (room.get(name, rows + (name in _ENDS)),) for name in first}
        shapes["block_tables"] = (rows, blocks)
        sizes = {name: math.prod(shape) * arrays[name].itemsize for name, shape in shapes.items()}
        self._places, end = _places(sizes)
        self._stream, self._pinned = device.stream, cuda.pinned(end)
        self._memory = device.empty((end,), "uint8")
        about = {name: (self._places[name], shape, arrays[name].dtype) for name, shape in shapes.items()}
        self._views = {name: _view(self._pinned, *place) for name, place in about.items()}
        self.twins = {name: _twin(self._memory, *place) for name, place in about.items()}
        for name, view in self._views.items():
            view[...] = fixed.get(name, 0)
        # what a row that a step lacks holds in place of 0, so that no kernel does anything for it
        self._padding = {"slots": PADDING, "row_seq": PADDING, "temperature": PADDING, "repetition": 1}

    def fits(self, arrays: Mapping[str, np.ndarray]) -> bool:
        """Whether there is room for the lists among `arrays`."""
        return all(len(arrays[name]) <= len(self._views[name]) for name in _LISTS)

    def send(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Queue the copy of a step's `arrays`, which fit; what it lacks of rows becomes padding.

        The copy before must be over: the host has seen a result of the step that it was for.
        """
        end = 0
        for name, array in arrays.items():
            view, count = self._views[name], len(array)
            if name == "block_tables":
                view[:count, : array.shape[1]] = array
            else:
                view[:count] = array
            if name in _LISTS:
                end = self._places[name] + array.nbytes if count else end
                continue
            end = self._places[name] + view.nbytes
            if count < len(view):
                view[count:] = array[-1] if name in _ENDS else self._padding.get(name, 0)
        self._stream.copy_to_device(self._memory[:end], self._pinned[:end])


def _places(sizes: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Where arrays of so many bytes lie one after another, and where the last one ends."""
    places, end = {}, 0
    for name, size in sizes.items():
        places[name] = end
        # an array without elements is a launch's argument too: its address must be in memory that is there
        end += -(-max(size, 1) // _ALIGNMENT) * _ALIGNMENT
    return places, end


def _view(memory: np.ndarray, start: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    stop = start + math.prod(shape) * dtype.itemsize
    return memory[start:stop].view(dtype).reshape(shape)


def _twin(memory: DeviceArray, start: int, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
    return DeviceArray(memory.address + start, dtype.name, shape, (), memory.owner)


def device_batch(
    twins: Mapping[str, DeviceArray],
    plan: AttentionPlan,
    scratch: DeviceArray,
    whole: tuple[tuple[int, int], ...] = (),
) -> DeviceBatch:
    """The arrays of a `Batch`, and the plan's table, out of all that was sent."""
    names = (*_BATCH, "table")
    return DeviceBatch(**{name: twins[name] for name in names}, plan=plan, scratch=scratch, whole=whole)


def device_sampling(twins: Mapping[str, Any]) -> tuple[Any, Any]:
    """Penalties and Draws of DeviceArrays, by their names in `twins`."""
    return Penalties(**{name: twins[name] for name in _PENALTIES}), Draws(**{n: twins[n] for n in _DRAWS})
