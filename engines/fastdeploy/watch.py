"""What happens in one FastDeploy worker, told to a Probe step by step.

The model runner computes; this only looks. On a GPU nothing here waits: what is needed of small tensors is
copied behind the work and read when the step has arrived.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, overload

import numpy as np

from detrec.engines.base import Event, EventKind, Probe, Sample
from detrec.engines.fastdeploy.copies import Copies
from detrec.engines.fastdeploy.slots import Running, Slots
from detrec.engines.fastdeploy.tasks import Batch, Task
from detrec.engines.hooks import Teller
from detrec.errors import EngineError

T = TypeVar("T")


class WaitingProbe(Probe, Protocol):
    """A Probe that may keep steps until the GPU's results have come."""

    def meanwhile(self) -> None:
        """Take in what has come; nobody waits."""
        ...

    def finish(self) -> None:
        """Take in all that is on its way, waiting for it."""
        ...


class Arriving(Sequence[T]):
    """What `make` gives, made when it is first looked at: not before the step has arrived."""

    def __init__(self, make: Callable[[], Sequence[T]]) -> None:
        self._make = make
        self._made: Sequence[T] | None = None

    def _all(self) -> Sequence[T]:
        if self._made is None:
            self._made = self._make()
        return self._made

    def __len__(self) -> int:
        return len(self._all())

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: Any) -> Any:
        return self._all()[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self._all())


class Watch:
    """Steps of one worker: `insert`, then `begin`, ops, `draws`, `drew` and `end`, for each.

    `limits` gives by request id how many tokens it may generate. `done` are the requests that were seen to
    finish, `batches` the tasks before each step.
    """

    def __init__(
        self,
        probe: WaitingProbe,
        teller: Teller,
        copies: Copies,
        block_size: int,
        limits: Mapping[str, int],
    ) -> None:
        self._probe, self._teller, self._copies, self._limits = probe, teller, copies, limits
        self._slots = Slots(block_size)
        self._order: dict[int, int] = {}
        self._pending: list[Task] = []
        self._running = 0
        self._steps = 0
        self._now: Running | None = None
        self.batches: list[Batch] = []
        self.done: set[str] = set()

    @property
    def open(self) -> bool:
        """Whether a step has begun and not ended."""
        return self._now is not None

    def insert(self, tasks: Sequence[Task], running: int) -> None:
        """FastDeploy's scheduler has decided `tasks`; `running` slots are in use."""
        for task in tasks:
            if task.request not in self._limits:
                raise EngineError(
                    f"FastDeploy runs request {task.request}, which was not asked for",
                    hint="nobody else may send requests to the engine while it is recorded",
                )
            self._slots.insert(task)
        self._pending += tasks
        self._running = running

    def begin(self, inputs: Mapping[str, Any], launched: Any, order: Mapping[int, int]) -> bool:
        """The model is about to run on `launched`, its input token ids; False where no slot runs anything.

        `inputs` are FastDeploy's share_inputs, whose seq_lens_this_time_cpu has arrived.
        """
        lengths = np.asarray(inputs["seq_lens_this_time_cpu"].numpy()).reshape(-1)
        self._order = dict(order)
        now = self._slots.run(self._steps, lengths, int(launched.shape[0]), order)
        if now is None:
            return False
        self._copies.begin()
        self._now = now
        self._starts = self._copies.take(inputs["seq_lens_decoder"])
        tokens = self._copies.take(launched)[: now.step.rows]
        self.batches.append(Batch(tuple(self._pending), self._running))
        self._pending = []
        self._teller.begin(now.step, tokens, now.layout)
        self._seeds = self._drawn = self._taken = self._stopped = self._blocked = np.zeros(0, np.int64)
        return True

    def op(self, name: str, output: Any, kernel: str) -> None:
        """An op gave `output`."""
        self._teller.op(name, output, kernel)

    def draws(self, inputs: Mapping[str, Any]) -> None:
        """The sampler is about to draw: these are the seeds that it uses."""
        self._seeds = self._copies.take(inputs["infer_seed"])

    def drew(self, tokens: Any) -> None:
        """The sampler of this rank drew `tokens`, one a slot."""
        self._drawn = self._copies.take(tokens)

    def drawing(self) -> Running:
        """The step that runs."""
        assert self._now is not None, "no step runs"
        return self._now

    def settled(self, tokens: Any, inputs: Mapping[str, Any]) -> None:
        """`tokens` are what the slots go on with, and the slots have been told who stops."""
        self._taken = self._copies.take(tokens)
        self._stopped = self._copies.take(inputs["stop_flags"])
        self._blocked = self._copies.take(inputs["is_block_step"])

    def end(self) -> None:
        """The step has been given to the GPU."""
        now = self.drawing()
        self._now = None
        self._steps += 1
        samples, finished = self._arriving(now)
        self._probe.sampled(samples, finished)
        self._probe.meanwhile()

    def _arriving(self, now: Running) -> tuple[Arriving[Sample], Arriving[Event]]:
        starts, seeds, drawn, taken = self._starts, self._seeds, self._drawn, self._taken
        stopped, blocked, aborted = self._stopped, self._blocked, now.aborted
        counts = [self._slots.generated(row, self._order) for row in now.drawing]

        def samples() -> list[Sample]:
            self._expect(now, starts)
            made = []
            requests = [part.request for part in now.step.slices if part.samples]
            for request, row, position, count in zip(
                requests, now.drawing, now.positions, counts, strict=True
            ):
                finish = self._finish(request, bool(stopped[row]) and not blocked[row], count)
                made.append(
                    Sample(
                        request=request,
                        position=position,
                        token=int(drawn[row]),
                        taken=int(taken[row]),
                        # FastDeploy keeps neither, and to compute them would be work of the GPU's
                        logprob=float("nan"),
                        margin=float("nan"),
                        seed=int(seeds[row]),
                        counter=0,
                        finish=finish,
                    )
                )
            return made

        drew = Arriving(samples)

        def finished() -> list[Event]:
            ended = [
                Event(EventKind.FINISHED, sample.request, count)
                for sample, count in zip(drew, counts, strict=True)
                if sample.finish
            ]
            self.done |= {event.request for event in (*aborted, *ended)}
            return [*aborted, *ended]

        return drew, Arriving(finished)

    def _finish(self, request: str, stops: bool, count: int) -> str:
        if not stops:
            return ""
        return "length" if count >= self._limits[request] else "stop"

    def _expect(self, now: Running, starts: np.ndarray) -> None:
        """The slots' own record of where they stand, which came with the step, must be ours."""
        for part, row in zip(now.step.slices, now.slots, strict=True):
            if int(starts[row]) != part.start:
                raise EngineError(
                    f"step {now.step.index}: request {part.request}: FastDeploy runs from position "
                    f"{int(starts[row])}, its tasks said {part.start}",
                    hint="report the version of FastDeploy that you use",
                )
