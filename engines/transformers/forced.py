"""Somebody else's schedule run by transformers: its scheduler is asked for one slice after another."""

from inspect import signature
from typing import Any

from detrec.engines.base import EventKind, Scheduler, Step
from detrec.engines.transformers import library
from detrec.engines.transformers.batches import Batch, Batches
from detrec.engines.transformers.static import StaticBatches
from detrec.errors import EngineError, ReplayError
from detrec.printable import counted

NAME = "detrec_forced"


def register() -> str:
    """Make the scheduler known to transformers; the name to ask for it by."""
    scheduling = library.batching("scheduler")
    mapping = library.part(scheduling, "SCHEDULER_MAPPING")
    if NAME not in mapping:
        mapping[NAME] = _scheduler_class(scheduling)
    return NAME


def check_built(scheduler: Any) -> None:
    """EngineError where transformers built another: it falls back silently for a name it does not know."""
    if not hasattr(scheduler, "detrec_step"):
        raise EngineError(
            f"transformers built its {type(scheduler).__name__} in place of detrec's scheduler",
            hint=f"detrec's adapter was tried with transformers {library.TRIED}",
        )


def _scheduler_class(scheduling: Any) -> Any:
    base = library.part(scheduling, "FIFOScheduler")
    for name in ("_process_candidates", "_cleanup_waiting_queue"):
        library.part(base, name)

    class Forced(base):  # type: ignore[valid-type, misc]
        """Runs `detrec_step`, one candidate after another, each with its slice as the budget."""

        detrec_step: Step | None = None

        def schedule_batch(self, token_budget: int, cache_budget: int) -> Any:
            step = self.detrec_step
            assert step is not None, "no step to run"
            self._preempt(step)
            done: list[Any] = []
            gone: set[str] = set()
            fast, read = True, 0
            for part in step.slices:
                state = self.active_requests.get(part.request) or self.waiting_requests.get(part.request)
                if state is None:
                    raise ReplayError(f"step {step.index}: request {part.request} does not run here any more")
                size = part.stop - part.start
                found, full, fast_path, rows, kv = self._process_candidates([state], size, cache_budget, gone)
                if full and hasattr(self.cache, "evict_cached_blocks") and self.cache.evict_cached_blocks():
                    # what transformers does before it preempts anybody
                    found, _, fast_path, rows, kv = self._process_candidates(
                        [state], size, cache_budget, gone
                    )
                if len(found) != 1 or rows != size:
                    raise ReplayError(
                        f"step {step.index}: request {part.request}: recorded slice [{part.start}, "
                        f"{part.stop}), transformers gives it {counted(rows, 'row')}",
                        hint="are engine.num_blocks and engine.max_batch_tokens as large as recorded?",
                    )
                done += found
                fast = fast and fast_path
                read += kv
                cache_budget -= kv
            if step.rows > token_budget:
                raise ReplayError(
                    f"step {step.index} has {counted(step.rows, 'row')}, "
                    f"engine.max_batch_tokens is {token_budget}"
                )
            self._cleanup_waiting_queue(gone)
            return done, fast, step.rows, read

        def _preempt(self, step: Step) -> None:
            """Give up the KV of requests that were preempted for this step, and let them begin anew."""
            for event in step.events:
                state = self.active_requests.get(event.request)
                if event.kind == EventKind.PREEMPTED and state is not None:
                    # where freed blocks are kept for sharing, those of a preempted request are not
                    if "no_cache" in signature(self.cache.free_blocks).parameters:
                        self.cache.free_blocks(event.request, no_cache=True)
                    self.finish_request(event.request)
                    self.add_waiting_request(state.create_equivalent_initial_request())

    return Forced


class FollowedSchedule:
    """The steps of `plan`, run by `batches`, whose scheduler is detrec's."""

    def __init__(self, plan: Scheduler, batches: Batches | StaticBatches) -> None:
        self._plan, self._batches = plan, batches
        check_built(batches.scheduler)
        self.batch: Batch | None = None
        """What the latest step runs."""

    def next_step(self) -> Step | None:
        """The plan's next step. ReplayError where transformers runs anything else."""
        planned = self._plan.next_step()
        if planned is None:
            return None
        self._batches.scheduler.detrec_step = planned
        self.batch = self._batches.prepare()
        if self.batch is None:
            raise ReplayError(f"step {planned.index}: transformers has nothing left to run")
        step = self.batch.step
        found = [(part.request, part.start, part.stop) for part in step.slices]
        expected = [(part.request, part.start, part.stop) for part in planned.slices]
        if found != expected:
            raise ReplayError(
                f"step {planned.index}: recorded {_said(expected)}, transformers runs {_said(found)}"
            )
        return step


def _said(slices: list[tuple[str, int, int]]) -> str:
    return ", ".join(f"{name} [{start}, {stop})" for name, start, stop in slices)
