"""An engine of several ranks in this process, a thread each: no start-up, and every rank can be seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from detrec.config import serve_config
from detrec.engines.base import Step
from detrec.engines.builtin.engine import BuiltinEngine
from detrec.engines.builtin.model import op_names
from detrec.engines.builtin.ranks import Ranks
from detrec.engines.builtin.requests import resolve_requests
from detrec.engines.builtin.seeded import SeededCheckpoint
from detrec.engines.faults import arm
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
