"""An engine of several ranks in this process, a thread each: no start-up, and every rank can be seen."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from detrec.config import serve_config
from detrec.engines.base import Step
from detrec.engines.builtin.engine import BuiltinEngine
from detrec.engines.builtin.model import op_names
from detrec.engines.builtin.other_rank import _take_part
from detrec.engines.builtin.ranks import Ranks
from detrec.engines.builtin.requests import resolve_requests
from detrec.engines.builtin.seeded import SeededCheckpoint
from detrec.engines.faults import arm
from detrec.errors import RankLost
from detrec.kernels import arrays
from detrec.kernels.rendezvous import Rendezvous
from tests.engines.small import Plan, Told
from tests.kernels.ranks import in_ranks


def seeded(model: str = "qwen2-tiny", **sizes: Any) -> SeededCheckpoint:
    """A model made from a seed, of other sizes than it comes in."""
    checkpoint = SeededCheckpoint(model)
    checkpoint.config = replace(checkpoint.config, **sizes)
    checkpoint._shapes = checkpoint.config.shapes()
    return checkpoint


def told_by_ranks(
    size: int,
    requests: list[dict[str, Any]],
    *,
    checkpoint: SeededCheckpoint | None = None,
    fault: str | Mapping[int, str] = "",
    notify: Callable[[str], None] = lambda text: None,
    plan: list[Step] | None = None,
    forced: Mapping[str, Sequence[int]] | None = None,
    **engine: Any,
) -> list[Told]:
    """What each of `size` ranks tells of a run of `requests`, by rank.

    `fault` acts in all ranks, or is given by rank; `plan` is rank 0's to follow.
    """
    # Paddle must have been imported by the main thread
    arrays.framework_module("paddle")
    model = checkpoint or seeded()
    settings = {"max_model_len": 128, "tensor_parallel_size": size, **engine}
    config = serve_config({"model": "builtin:qwen2-tiny", "engine": settings, "requests": requests})
    resolved = resolve_requests(config, model)

    def work(meeting: Rendezvous) -> Told:
        rank = meeting.rank
        name = fault if isinstance(fault, str) else fault.get(rank, "")
        armed = arm(name, tuple(op_names(model.config)), notify if rank == 0 else print) if name else None
        ranks = Ranks(meeting) if size > 1 else None
        built = BuiltinEngine(config, model, resolved, forced=forced, fault=armed, ranks=ranks)
        told = Told(rank)
        scheduler = built.own_scheduler() if plan is None else built.follow(Plan(plan))
        if rank and ranks:
            ranks.told()
        for _ in built.run(scheduler, told, set(built.op_names)):
            pass
        return told

    return in_ranks(size, work)


@contextmanager
def ranks_as_threads() -> Iterator[None]:
    """Inside, the other ranks of an engine are threads of this process: as real, and started at once."""
    threads: list[threading.Thread] = []

    def be(name: str, rank: int, size: int) -> None:
        meeting = Rendezvous.join(name, rank, size, math.inf)
        try:
            _take_part(meeting)
        except RankLost:
            pass
        except BaseException as error:
            meeting.abort(f"rank {rank}: {error}")
        meeting.close()

    def start(size: int) -> Ranks:
        # Paddle must have been imported by the main thread
        arrays.framework_module("paddle")
        name = Rendezvous.create(size)
        for rank in range(1, size):
            threads.append(threading.Thread(target=be, args=(name, rank, size), daemon=True))
            threads[-1].start()
        return Ranks(Rendezvous.join(name, 0, size, 120.0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ranks, "start", staticmethod(start))
        yield
    for thread in threads:
        thread.join(120.0)
        assert not thread.is_alive(), "a rank did not see that the engine was closed"
