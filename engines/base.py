"""The seam between an engine and whoever watches it: a Scheduler in, a Probe out.

An engine has no record mode and no replay mode. It asks a Scheduler what to run next and tells a Probe
what it did; who stands behind either is not its business.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from detrec.config import SamplingParams

if TYPE_CHECKING:
    import numpy as np

    from detrec.kernels.device import Device
    from detrec.kernels.share import Share


class Kind(StrEnum):
    """What a slice does: fill the KV cache with known tokens, or extend a request by one."""

    PREFILL = "prefill"
    DECODE = "decode"


class EventKind(StrEnum):
    """What happened to a request between two steps."""

    PREEMPTED = "preempted"
    FINISHED = "finished"
    HIT = "hit"


class OpKind(StrEnum):
    """What the ranks of a tensor-parallel run hold of an op's output.

    Each of them the whole; each its share of every row (kernels/share.py); each a summand of the whole.
    """

    REPLICATED = "replicated"
    CUT = "cut"
    PARTIAL = "partial"


@dataclass(frozen=True, slots=True)
class Rank:
    """Which of `size` ranks an engine is.

    `shares`: by op, what it holds of rows that are cut; `partial`: ops that give a summand of the whole.
    """

    index: int = 0
    size: int = 1
    shares: "Mapping[str, Share]" = field(default_factory=dict)
    partial: frozenset[str] = frozenset()

    def kinds(self, ops: Sequence[str]) -> tuple[OpKind, ...]:
        """What the ranks hold of each of `ops`."""
        partial = dict.fromkeys(self.partial, OpKind.PARTIAL)
        return tuple(OpKind.CUT if op in self.shares else partial.get(op, OpKind.REPLICATED) for op in ops)


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt and how to continue it; `arrival` is the first step at which it may be scheduled.

    `sampling` holds the parameters in effect, defaults filled in and the seed never None.
    """

    id: str
    prompt: tuple[int, ...]
    sampling: SamplingParams
    arrival: int = 0


@dataclass(frozen=True, slots=True)
class Slice:
    """Tokens [start, stop) of one request, run in one step.

    `samples`: the slice ends at the request's last known token, so its last row gives the next one.
    `first_block` is the physical KV block that holds position `start`: a witness, never an input.
    """

    request: str
    start: int
    stop: int
    kind: Kind
    samples: bool
    first_block: int = -1


@dataclass(frozen=True, slots=True)
class Event:
    """`tokens`: positions lost by a preemption, served by a prefix-cache hit, or generated when finished."""

    kind: EventKind
    request: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Step:
    """One forward pass. The order of `slices` is the order of rows in the batch.

    `events` are the preemptions and prefix-cache hits decided for this step, before it runs.
    """

    index: int
    slices: tuple[Slice, ...]
    events: tuple[Event, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows (tokens) the step runs."""
        return sum(part.stop - part.start for part in self.slices)

    @property
    def sample_rows(self) -> tuple[int, ...]:
        """Index, within the step, of the last row of every slice that samples."""
        rows, end = [], 0
        for part in self.slices:
            end += part.stop - part.start
            if part.samples:
                rows.append(end - 1)
        return tuple(rows)


@dataclass(frozen=True, slots=True)
class Sample:
    """The token drawn from the row at `position`; it will stand at `position + 1`.

    `logprob` and `margin` (first minus second logprob) are nats, after penalties and before temperature.
    `seed` and `counter` key the noise; both are 0 where the draw was greedy.
    `token` is what was drawn, `taken` what the request went on with (another one where tokens are forced).
    """

    request: str
    position: int
    token: int
    taken: int
    logprob: float
    margin: float
    seed: int
    counter: int
    finish: str = ""


class Scheduler(Protocol):
    """Decides what runs next."""

    def next_step(self) -> Step | None:
        """The next forward pass, or None when there is nothing left to run."""
        ...


class Probe(Protocol):
    """Is told what an engine does, in the order in which it happens."""

    def step(self, step: Step, tokens: "Sequence[int] | np.ndarray") -> None:
        """A forward pass begins; `tokens` are the input token ids of its rows."""
        ...

    def op(self, name: str, output: Any, rank: int, kernel: str) -> None:
        """Operation `name` gave `output`, one leading index a row, by `kernel`.

        The output is valid during this call only: engines reuse its memory, if later where an engine says
        that outputs are `lasting`. One that lies on a GPU is a DeviceArray, computed when the GPU gets there,
        and valid until a whole layer more was reported.
        """
        ...

    def sampled(self, samples: Sequence[Sample], events: Sequence[Event]) -> None:
        """The step is over; `events` are the requests that finished in it."""
        ...


@runtime_checkable
class GraphProbe(Probe, Protocol):
    """A Probe of an engine that captures steps as CUDA graphs: Python runs at the capture only.

    A graph has `rows` rows; a step that has fewer leaves the last ones as padding.
    """

    def capturing(self, rows: int, *, lasting: bool) -> AbstractContextManager[None]:
        """Ops reported inside are those of the graph of `rows` rows, of which every row samples.

        `lasting`: their outputs stay valid until the end of the block.
        """
        ...

    def replaying(self, rows: int) -> None:
        """The step that has begun is run by that graph: its ops are those reported at the capture."""
        ...

    def meanwhile(self) -> None:
        """The step's work has been given to the GPU, and its results are not there yet: a time to work.

        Called at most once in a step, between its ops and `sampled`.
        """
        ...


class Engine(Protocol):
    """What `record` and `replay` need of an engine."""

    op_names: tuple[str, ...]
    """Every op of a step in causal order, as `"{layer}.{op}"` inside layers and `"{op}"` outside."""

    requests: tuple[Request, ...]
    """The requests in effect: token ids, sampling parameters and seeds resolved."""

    @property
    def rank(self) -> Rank:
        """Which rank this is, and what it holds."""
        ...

    @property
    def device(self) -> "Device | None":
        """The GPU whose memory holds the ops' outputs; None where they are in the host's."""
        ...

    @property
    def lasting(self) -> bool:
        """Do outputs in the host's memory stay as they are until seven more ops ran or the step ends?"""
        ...

    def manifest(self) -> dict[str, Any]:
        """Everything about the engine that can change bits, JSON-ready."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`."""
        ...

    def own_scheduler(self) -> Scheduler:
        """The engine's own policy over its requests."""
        ...

    def follow(self, plan: Scheduler) -> Scheduler:
        """A scheduler that runs the steps of `plan`; its `next_step` raises ReplayError where it cannot."""
        ...

    def run(
        self,
        scheduler: Scheduler,
        probe: Probe | None = None,
        names: Collection[str] = (),
        others: "RankProbe | None" = None,
    ) -> Iterator[tuple[Step, tuple[Sample, ...]]]:
        """Run until the scheduler is done, yielding each step when it has been run.

        `probe` is told of every step, and of the ops in `names`; of the other ranks, what `others` gives.
        """
        ...

    def close(self) -> None:
        """Give back what the engine holds outside of this process; it runs nothing any more."""
        ...


Progress = Callable[[str, int, int], None]
"""(what, done, total): called as work goes on."""

RankProbe = Callable[[Engine], AbstractContextManager[Probe]]
"""The Probe, for one run, of the engine of a rank above 0. Called in its process: it must be picklable."""

SAMPLE_OPS = ("logits", "logits_penalised", "logprobs", "sampled", "broadcast")
"""Ops outside layers that run only on the rows that sample; every other op runs on every row."""
