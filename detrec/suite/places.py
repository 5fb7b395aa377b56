"""Where a fault is tried: steps, ops, layers, requests and ranks, drawn from a literal seed."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from detrec.engines.base import SAMPLE_OPS
from detrec.engines.faults.base import Fault


def places(
    fault: type[Fault],
    ops: Sequence[str],
    steps: int,
    requests: Sequence[str],
    seed: int,
    ranks: int = 0,
) -> Iterator[str]:
    """`NAME:key=value,...` without end, the defaults first; a fault need not be able to act everywhere.

    `ranks`: on one of so many alone, the last one first; 0: wherever the engine has it.
    """
    draw = random.Random(f"{fault.name} {seed}")
    keys = tuple(fault.__init__.__kwdefaults__ or {}) + (("rank",) if ranks else ())
    able = [op for op in ops if not fault.acts_on or op.rpartition(".")[2] in fault.acts_on]
    if ranks:
        # no rank has these by itself
        able = [op for op in able if op not in (*SAMPLE_OPS, *fault.together)]
    yield f"{fault.name}:rank={ranks - 1}" if ranks else fault.name
    while True:
        chosen: dict[str, Any] = {}
        for key in keys:
            if key == "step":
                chosen[key] = draw.randrange(1, max(steps * 2 // 3, 2))
            elif key == "op":
                chosen[key] = draw.choice(able)
            elif key == "layer":
                chosen[key] = draw.randrange(
                    1 + max(int(op.partition(".")[0]) for op in ops if op[0].isdigit())
                )
            elif key == "by":
                chosen[key] = draw.randrange(1, 12)
            elif key == "request":
                chosen[key] = draw.choice(list(requests))
            elif key == "rank":
                chosen[key] = draw.randrange(ranks)
        yield ":".join(
            filter(None, (fault.name, ",".join(f"{key}={value}" for key, value in chosen.items())))
        )
