"""Outputs that an engine gives together, fingerprinted by one launch; its table is worked out once."""

import itertools
from collections.abc import Sequence

import numpy as np

from detrec.engines.hooks import Outputs
from detrec.kernels import cuda
from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.fingerprint_many import FingerprintTable, fingerprint_table, fingerprints_of
from detrec.kernels.launch import on_stream
from detrec.recorder.device_region import Lines, Region

# kinds of outputs that come together whose form is kept
_FORMS = 64


class Together:
    """Fingerprints outputs of the ops of `lines` on `device`."""

    def __init__(self, device: Device, lines: Lines) -> None:
        self._device, self._lines = device, lines
        # two by turns: what the step before the last one sent has arrived
        self._entries = [_Entries(device), _Entries(device)]
        self._forms: dict[Outputs, _Form] = {}

    def begin(self) -> None:
        """A step begins."""
        self._entries.reverse()
        self._entries[0].begin()

    def fingerprint(self, region: Region, some: Outputs, addresses: Sequence[int]) -> None:
        """Those of the rows of `some`, which lies at `addresses`, into their places in `region`."""
        form = self._forms.get(some)
        if form is None:
            if len(self._forms) >= _FORMS:
                self._forms.clear()
            form = self._forms[some] = _Form(self._lines, some)
        form.name(region.kernels)
        table = form.at(addresses)
        entries = self._entries[0].send(table.entries)
        with on_stream(self._device.stream.handle):
            fingerprints_of(table, entries, region.part(False))


class _Form:
    """Outputs that an engine gives together in many steps, each time elsewhere: all but where they lie."""

    def __init__(self, lines: Lines, some: Outputs) -> None:
        places = [lines.places[output.name] for output in some.ops]
        assert not any(at.samples for at in places), "outputs of rows that sample"
        by_index = sorted((at.index, output.kernel) for at, output in zip(places, some.ops, strict=True))
        starts = [0, *(n for n in range(1, len(by_index)) if by_index[n][0] != by_index[n - 1][0] + 1)]
        runs = [by_index[start:end] for start, end in itertools.pairwise([*starts, len(by_index)])]
        self._kernels = [(run[0][0], [kernel for _, kernel in run]) for run in runs if run]
        # 16 apart, so that an entry's address says whose it is
        arrays = [output.at(16 * number, some.rows) for number, output in enumerate(some.ops)]
        entered = [(at.place, array) for at, array in zip(places, arrays, strict=True)]
        self._table = fingerprint_table(entered, "outputs", some.rows)
        self._whose = np.empty(len(arrays), np.int64)
        self._whose[self._table.entries[:, 0] // 16] = np.arange(len(arrays))

    def name(self, kernels: list[str]) -> None:
        """Say of each op what computed it."""
        for first, names in self._kernels:
            kernels[first : first + len(names)] = names

    def at(self, addresses: Sequence[int]) -> FingerprintTable:
        """The table of the outputs that lie there."""
        return self._table.moved(np.array(addresses, np.int64), self._whose)


class _Entries:
    """Pinned memory for the tables of one step, and its twin on the device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._pinned, self._used = np.empty((0, 3), np.int64), 0
        self._twin = device.empty((0, 3), "int64")
        self._outgrown: list[tuple[np.ndarray, DeviceArray]] = []

    def begin(self) -> None:
        """A step begins; every copy of the one before that these were used for is over."""
        self._used = 0
        self._outgrown.clear()

    def send(self, entries: np.ndarray) -> DeviceArray:
        """Queue the copy of a table's entries; gives their twin."""
        start, end = self._used, self._used + len(entries)
        if end > len(self._pinned):
            # what is on its way from the old memory, and to it, is kept alive by nobody else
            self._outgrown.append((self._pinned, self._twin))
            self._pinned = cuda.pinned(2 * 24 * end).view(np.int64).reshape(-1, 3)
            self._twin = self._device.empty(self._pinned.shape, "int64")
        self._used = end
        self._pinned[start:end] = entries
        twin = self._twin[start:end]
        self._device.stream.copy_to_device(twin, self._pinned[start:end])
        return twin
