"""What ranks do in tests of DeviceGroup: `python -m tests.kernels.gpu.rank_cases CASE[:NUMBER],... RANKS`.

Prints JSON: of each rank, what went wrong by case.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

if not Path("/dev/nvidia0").exists():
    os.environ["TRITON_INTERPRET"] = "1"

from detrec.kernels.device import Device
from detrec.kernels.device_group import DeviceGroup
from detrec.kernels.gpu import staging as laid
from detrec.kernels.launch import INTERPRETED
from detrec.kernels.rendezvous import Rendezvous
from tests.kernels.gpu.rank_processes import device_of, in_processes
from tests.kernels.gpu.rank_results import gathers, graphs, groups, nans, rows, sums
from tests.kernels.gpu.rank_trouble import absences, deaths, refusals

CASES = {
    "sums": sums,
    "gathers": gathers,
    "rows": rows,
    "nans": nans,
    "refusals": refusals,
    "absences": absences,
    "deaths": deaths,
    "groups": groups,
    "graphs": graphs,
}


def several(cases: str, world: int) -> Any:
    """One after another."""
    bodies = {
        name: CASES[name](int(number or 1), world)
        for name, _, number in (case.partition(":") for case in cases.split(","))
    }

    def body(group: DeviceGroup, on: Device) -> dict[str, Any]:
        return {name: each(group, on) for name, each in bodies.items()}

    return body


def main(cases: str, world: int) -> None:
    """Run them; little staging, so that small arrays take several turns of both kernels."""
    if INTERPRETED:
        laid.BLOCKS, laid.UNITS = 2, 32
        laid.ONE_STAGE_BYTES = dict.fromkeys(range(2, 9), 1 << 10)
        laid.TWO_STAGE_BYTES = world << 10
        most = 6 << 10
    else:
        import torch  # noqa: F401  once, before the ranks are forked

        laid.ONE_STAGE_BYTES = dict.fromkeys(range(2, 9), 512 << 10)
        laid.TWO_STAGE_BYTES = 1 << 20
        most = 3 << 20
    dies = world - 1 if cases == "deaths" else None
    body = several(cases, world)

    def work(meeting: Rendezvous) -> Any:
        on = device_of(meeting.rank)
        return body(DeviceGroup(meeting, on, most, 60.0), on)

    print(json.dumps(in_processes(world, work, dies=dies)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
