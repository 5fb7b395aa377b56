"""What ranks of a DeviceGroup compute, against the same on the host; run by `rank_cases.py`."""

import time
from typing import Any

import numpy as np

from detrec.kernels import cuda
from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.device_group import DeviceGroup
from detrec.kernels.launch import INTERPRETED, on_stream
from tests.kernels.gpu.device import FLOATS, device, fresh, host
from tests.kernels.gpu.rank_sums import differing, parts_of, read, summed


def misaligned(array: np.ndarray, elements: int) -> DeviceArray:
    """A copy of `array` that begins `elements` after a multiple of 16 bytes."""
    flat = array.reshape(-1)
    longer = device(np.concatenate([flat[:1]] * elements + [flat]))
    return longer[elements:].reshape(*array.shape)


def sums(number: int, world: int) -> Any:
    """Random shapes, dtypes, orders, alignments and arrival times, against the sum on the host."""

    def body(group: DeviceGroup, _: Device) -> dict[str, Any]:
        wrong, late = [], np.random.default_rng(group.rank)
        for seed in range(number):
            draws = np.random.default_rng(10_000 + seed)
            dtype = FLOATS[seed % 3]
            order = ("ranks", "tree")[int(draws.integers(2))]
            to = FLOATS[int(draws.integers(3))] if dtype == "float32" else dtype
            largest = group.max_bytes // (4 if dtype == "float32" else 2)
            # two of the largest, so that all staging is used again
            count = largest if seed < 2 else max(int(largest ** (draws.random() * 1.1 - 0.1)), 1)
            shape = (count // 8, 8) if count % 8 == 0 and draws.random() < 0.5 else (count,)
            parts = parts_of(seed, shape, dtype, world)
            own = parts[group.rank]
            x = misaligned(own, int(draws.integers(1, 4))) if draws.random() < 0.2 else device(own)
            out = fresh(shape, to)
            if late.random() < 0.3:
                time.sleep(late.random() * 0.005)
            group.all_reduce(x, out, order=order)
            wanted = summed(parts, order, to)
            if bad := differing(host(out), wanted):
                wrong.append(f"{seed}: {dtype} {to} {order} {shape}: {bad} of {count}")
        group.check()
        return {"wrong": wrong[:5]}

    return body


def gathers(number: int, world: int) -> Any:
    """Random columns, side by side."""

    def body(group: DeviceGroup, _: Device) -> dict[str, Any]:
        wrong = []
        for seed in range(number):
            draws = np.random.default_rng(20_000 + seed)
            rows, cols = int(draws.integers(1, 9)), int(draws.integers(1, 300 if INTERPRETED else 9000))
            cols = cols // 8 * 8 + 8 if draws.random() < 0.5 else cols
            parts = parts_of(seed, (rows, cols), FLOATS[seed % 3], world)
            wanted = np.concatenate(parts, axis=1)[:, : cols * world - int(draws.integers(min(cols, 20)))]
            out = fresh(wanted.shape, FLOATS[seed % 3])
            group.all_gather(device(parts[group.rank]), out)
            if bad := differing(host(out), np.ascontiguousarray(wanted)):
                wrong.append(f"{seed}: {FLOATS[seed % 3]} {rows} x {cols}: {bad}")
        group.check()
        return {"wrong": wrong[:5]}

    return body


def rows(number: int, world: int) -> Any:
    """A row among `number` rows and alone."""

    def body(group: DeviceGroup, _: Device) -> dict[str, Any]:
        wrong = []
        for dtype in FLOATS:
            own = parts_of(1, (number, 40), dtype, world)[group.rank]
            whole = host(group.all_reduce(device(own), fresh(own.shape, dtype)))
            alone = [host(group.all_reduce(device(row), fresh(row.shape, dtype))) for row in own]
            wrong.append(differing(whole, np.stack(alone)))
        group.check()
        return {"wrong": [each for each in wrong if each]}

    return body


def nans(number: int, world: int) -> Any:
    """What looks like memory that still waits: it arrives, as a NaN."""

    def body(group: DeviceGroup, _: Device) -> dict[str, Any]:
        wrong = []
        for dtype in FLOATS:
            summed_up = host(group.all_reduce(fresh((1, 99), dtype), fresh((1, 99), dtype)))
            beside = host(group.all_gather(fresh((1, 99), dtype), fresh((1, 99 * world), dtype)))
            if not (np.isnan(read(summed_up)).all() and np.isnan(read(beside)).all()):
                wrong.append(dtype)
        group.check()
        return {"wrong": wrong}

    return body


def groups(number: int, world: int) -> Any:
    """One group after another in the same processes, of which some let Python forget the one before late."""

    def body(group: DeviceGroup, on: Device) -> dict[str, Any]:
        wrong, kept = [], []
        for seed in range(number):
            another = DeviceGroup(group._meeting, on, 4096 << (seed % 3), 60)
            parts = parts_of(seed, (1000,), "float32", world)
            out = another.all_reduce(device(parts[another.rank]), fresh((1000,), "float32"))
            wrong.append(differing(host(out), summed(parts, "ranks", "float32")))
            another.check()
            another.close()
            kept = [another] if group.rank % 2 else []
        return {"wrong": [each for each in wrong if each], "kept": len(kept)}

    return body


def graphs(number: int, world: int) -> Any:
    """One graph of five sums, one of them in two stages, and a gather, replayed `number` times."""

    def body(group: DeviceGroup, on: Device) -> dict[str, Any]:
        sizes = (3, 4096, 5000, group.max_bytes // 4, 8)
        parts = [parts_of(seed, (size,), "float32", world) for seed, size in enumerate(sizes)]
        wanted = [summed(each, "ranks", "float32") for each in parts]
        xs = [device(each[group.rank]) for each in parts]
        outs = [fresh((size,), "float32") for size in sizes]
        beside = fresh((1, 5000 * world), "float32")

        def work() -> None:
            for x, out in zip(xs, outs, strict=True):
                group.all_reduce(x, out)
            group.all_gather(xs[2].reshape(1, 5000), beside)

        with on_stream(on.stream.handle):
            work()
            on.stream.synchronize()
            on.stream.begin_capture()
            work()
            graph = on.stream.end_capture()
            wrong = 0
            for replay in range(number):
                for out in (*outs, beside):
                    on.stream.fill_zero(out)
                on.stream.run(graph)
                if replay % 10 == 0:
                    for out, each in zip(outs, wanted, strict=True):
                        wrong += differing(host(out), each)
                    wrong += differing(host(beside)[0], np.concatenate(parts[2]))
        cuda.synchronize()
        group.check()
        return {"wrong": [wrong] if wrong else []}

    return body
