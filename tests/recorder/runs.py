"""A made-up run that has everything a trace can hold, step by step."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detrec.config import SamplingParams
from detrec.engines.base import Event, EventKind, Kind, OpKind, Request, Sample, Slice, Step
from detrec.recorder import schema
from detrec.recorder.rank_writer import RankWriter
from detrec.recorder.steps import Record, StepWriter
from detrec.recorder.writer import TraceWriter

OPS = ("embedding", "0.attn", "0.output", "logits", "sampled")
KINDS = (OpKind.REPLICATED, OpKind.CUT, OpKind.PARTIAL, OpKind.REPLICATED, OpKind.REPLICATED)
REQUESTS = (
    Request("a", (5, 6, 7), SamplingParams(seed=42, temperature=0.1, stop=("é\n", '"')), arrival=0),
    Request(
        "b", (9,), SamplingParams(seed=None, top_p=0.3, stop_token_ids=(2, 0), ignore_eos=True), arrival=3
    ),
    Request("never ran", (1, 2), SamplingParams(max_tokens=1, seed=922337203685477580), arrival=7),
)
MANIFEST = {"config": {"model": "builtin:tiny", "digest": "0" * 32}, "list": [1, 2.5, None, "é"]}


@dataclass(frozen=True)
class Played:
    """One step, `fingerprints` one array a rank."""

    step: Step
    tokens: list[int]
    fingerprints: list[np.ndarray]
    kernels: tuple[str, ...]
    samples: list[Sample]
    finished: list[Event]
    seconds: float
    padded_rows: int = 0
    graph_bucket: int = 0

    def record(self, rank: int = 0, sketches: np.ndarray | None = None) -> Record:
        """What the writer of `rank` is given."""
        return Record(
            *(self.step, self.tokens, self.fingerprints[rank], self.kernels, self.samples, self.finished),
            *(self.seconds, self.padded_rows, self.graph_bucket, sketches),
        )


@dataclass
class Run:
    """A run of `length` steps: `a` decodes and is preempted every tenth step, `b` decodes beside it."""

    length: int = 25
    ranks: int = 1
    seed: int = 0
    played: list[Played] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.played = [self._play(index, rng) for index in range(self.length)]

    def _play(self, index: int, rng: np.random.Generator) -> Played:
        again = index % 10 == 0
        start, stop = (0, index + 3) if again else (index + 2, index + 3)
        kind = Kind.PREFILL if again else Kind.DECODE
        slices = [Slice("a", start, stop, kind, True, index % 7)]
        events = [Event(EventKind.PREEMPTED, "a", index + 2)] if again and index else []
        if index >= 3:
            slices.append(Slice("b", index - 3, index - 2, Kind.DECODE, index % 2 == 0))
            events += [Event(EventKind.HIT, "b", 16)] if index == 3 else []
        step = Step(index, tuple(slices), tuple(events))
        drawn = [
            Sample(
                request=part.request,
                position=part.stop - 1,
                token=int(rng.integers(50000)),
                taken=int(rng.integers(50000)),
                logprob=float(-rng.random()),
                margin=float("inf") if index == 4 else float(rng.random()),
                seed=2**63 + index,
                counter=part.stop,
                finish="length" if index == self.length - 1 and part.request == "a" else "",
            )
            for part in slices
            if part.samples
        ]
        prints = [rng.integers(1, 2**63, (step.rows, len(OPS)), dtype=np.uint64) for _ in range(self.ranks)]
        kernels = tuple(f"{name} v{2 if again else 1}" if name != "0.attn" else "" for name in OPS)
        finished = [Event(EventKind.FINISHED, "a", index)] if index == self.length - 1 else []
        tokens = rng.integers(50000, size=step.rows).tolist()
        return Played(step, tokens, prints, kernels, drawn, finished, index / 8, step.rows + 1, index % 3)

    def write(self, writer: StepWriter, rank: int = 0) -> None:
        """Play all steps of `rank` into `writer`."""
        for played in self.played:
            write_step(writer, played, rank)

    def record(self, path: str | Path, **options: Any) -> None:
        """Make a complete trace of it."""
        with open_writer(path, ranks=self.ranks, **options) as writer, ExitStack() as stack:
            others = [
                stack.enter_context(RankWriter(path, rank, uuid=writer.uuid)) for rank in range(1, self.ranks)
            ]
            for played in self.played:
                for other in others:
                    write_step(other, played, other.rank)
                write_step(writer, played)


def open_writer(path: str | Path, *, commit_seconds: float = 1e9, **options: Any) -> TraceWriter:
    """A writer for the steps of a Run, which commits by their number and not by the time they take."""
    options |= {"ops": OPS, "kinds": KINDS, "commit_seconds": commit_seconds}
    return TraceWriter(path, manifest=MANIFEST, requests=REQUESTS, **options)


def write_step(
    writer: StepWriter, played: Played, rank: int = 0, *, sketches: np.ndarray | None = None
) -> None:
    """Play one step into `writer`."""
    writer.step(played.record(rank, sketches))


def shrink(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Chunks of eight rows for growing arrays, of sixteen for fingerprints; `put` sets an attribute."""
    groups = {group: (8, columns) for group, (_, columns) in schema._GROUPS.items()}
    put(schema, "_GROUPS", groups)
    put(schema, "_MAX_CHUNK_ROWS", 16)
    put(schema, "_MIN_CHUNK_ROWS", 16)


def files_of(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of a trace by key, in order."""
    for file in sorted(path.rglob("*")):
        if file.is_file():
            yield file.relative_to(path).as_posix(), file.read_bytes()
