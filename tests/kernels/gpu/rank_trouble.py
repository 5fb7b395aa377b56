"""What ranks of a DeviceGroup do when one is refused, does not come or dies; run by `rank_cases.py`."""

import os
import signal
import time
from typing import Any

import numpy as np

from detrec.errors import EngineError
from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.device_group import DeviceGroup
from tests.kernels.gpu.device import device, fresh, host

# how long those wait who must wait in vain: longer than one that was there a moment ago may be late
LIMIT_S = 1.0


def refusals(number: int, world: int) -> Any:
    """Messages of what a group refuses; nobody waits for anybody."""

    def body(group: DeviceGroup, _: Device) -> dict[str, Any]:
        def refused(*arrays: DeviceArray, **options: Any) -> str:
            try:
                group.all_reduce(*arrays, **options)
            except RuntimeError as error:
                return str(error)
            return "nothing"

        x = device(np.ones((4, 8), np.float32))
        long = fresh((group.max_bytes // 4 + 1,), "float32")
        half = device(np.ones((4, 8), np.float16))
        said = {
            "dtype": refused(device(np.ones((4, 8), np.int64)), fresh((4, 8), "int64")),
            "size": refused(long, fresh(long.shape, "float32")),
            "shape": refused(x, fresh((4, 9), "float32")),
            "order": refused(x, fresh((4, 8), "float32"), order="arrival"),
            "cast": refused(half, fresh((4, 8), "float32")),
            "overlap": refused(x, x),
            "strided": refused(x[:, :4], fresh((4, 4), "float32")),
        }
        group.close()
        said["closed"] = refused(x, fresh((4, 8), "float32"))
        return said

    return body


def deaths(number: int, world: int) -> Any:
    """As `absences`, but the last rank is killed while the others wait for it."""
    return absences(number, world, kills=True)


def absences(number: int, world: int, kills: bool = False) -> Any:
    """The last rank does not come: how long the others wait, what they say, how long more sums take then."""

    def body(group: DeviceGroup, _: Device) -> dict[str, Any]:
        x = device(np.ones((4, 8), np.float32))
        first = fresh((4, 8), "float32")
        # compiled, and all are there
        host(group.all_reduce(x, first))
        if not kills:
            group.time_limit_s = LIMIT_S
            group._tell_kernels()
        group._meeting.barrier()
        if group.rank == world - 1:
            if kills:
                time.sleep(0.2)
                os.kill(os.getpid(), signal.SIGKILL)
            # until the others have given up
            group._meeting.barrier()
            return {"said": "", "waited": 0, "then": 0}
        begin = time.monotonic()
        host(group.all_reduce(x, first))
        middle = time.monotonic()
        for _ in range(10):
            group.all_reduce(x, first)
        host(first)
        then = time.monotonic() - middle
        if not kills:
            group._meeting.barrier()
        try:
            group.check()
        except EngineError as error:
            return {"said": str(error), "waited": middle - begin, "then": then}
        return {"said": "nothing", "waited": middle - begin, "then": then}

    return body
