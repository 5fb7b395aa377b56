"""A recorded run of a FastDeploy worker, run again in a worker: the same tasks before the same steps.

FastDeploy's scheduler and its engine process are not asked: the worker runs all steps by itself, each rank
the same ones, so that their collectives meet.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detrec.engines.base import Request
from detrec.engines.fastdeploy.slots import Running
from detrec.engines.fastdeploy.tasks import Batch, Kit, Maker, installed_kit
from detrec.errors import ReplayError
from detrec.kernels import arrays
from detrec.kernels.cuda import Stream


@dataclass(frozen=True, slots=True)
class Recorded:
    """`batches[i]` came before step i; `taken` are the tokens gone on with, by step and request.

    `prepared` are, by request id, the sampling parameters that FastDeploy had made of the request's.
    """

    batches: Sequence[Batch]
    taken: Mapping[tuple[int, str], int]
    prepared: Mapping[str, Mapping[str, Any]]


def rerun(
    runner: Any,
    requests: Sequence[Request],
    recorded: Recorded,
    *,
    alive: Callable[[], bool] = lambda: True,
    kit: Kit | None = None,
) -> None:
    """Give `runner` every recorded task before its step, and run the step; until `alive` says no."""
    maker = Maker(kit or installed_kit(), requests, recorded.prepared)
    for batch in recorded.batches:
        if not alive():
            return
        tasks = [maker.make(task) for task in batch.tasks]
        if tasks:
            runner.insert_tasks_v1(tasks, batch.running)
        runner.execute_model(tasks or None, batch.running)


def force(tokens: Any, running: Running, recorded: Recorded, stream: Stream | None) -> None:
    """Overwrite what was drawn, `tokens` [slots, 1] int64, with what the recorded run went on with."""
    drawing = (part.request for part in running.step.slices if part.samples)
    for request, row in zip(drawing, running.drawing, strict=True):
        token = recorded.taken.get((running.step.index, request))
        if token is None:
            raise ReplayError(
                f"step {running.step.index}: request {request} draws a token, and drew none when recorded"
            )
        if stream is None:
            arrays.host_view(tokens).reshape(-1)[row] = token
        else:
            target = arrays.device_view(tokens)[row : row + 1]
            stream.copy_to_device(target, np.array([[token]], str(target.dtype)))
