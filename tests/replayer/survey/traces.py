"""Small traces on disk: what `fakes.fake_trace` makes, written by the real writer."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from detrec.config import SamplingParams
from detrec.engines.base import Event, EventKind, Request, Sample, Slice, Step
from detrec.recorder.rank_writer import RankWriter
from detrec.recorder.steps import Record, StepWriter
from detrec.recorder.writer import TraceWriter
from tests.replayer.fakes import OPS, FakeTrace, fake_trace, part

MANIFEST = {
    "config": {"model": "builtin:qwen2-tiny", "engine": {"block_size": 4}},
    "engine": {"num_blocks": 8},
    "environment": {},
}
STEPS: list[Any] = [
    [part("r0", 0, 6), part("r1", 0, 3)],
    [part("r0", 6, 7), part("r1", 3, 4), part("r2", 0, 5, samples=False)],
    [part("r0", 7, 8), part("r1", 4, 5), part("r2", 5, 8)],
    [part("r0", 8, 9), part("r2", 8, 9)],
]
Change = tuple[str, int, str] | tuple[str, int, str, int]


def written(
    path: Path,
    steps: Iterable[Any] = STEPS,
    *,
    changes: Sequence[Change] = (),
    ids: Sequence[str] = ("r0", "r1", "r2"),
    ops: Sequence[str] = OPS,
    ranks: int = 1,
    manifest: dict[str, Any] = MANIFEST,
    kernels: Callable[[int], tuple[str, ...]] | None = None,
    token: Callable[[str, int], int] = lambda request, position: position + 1,
    blank: Sequence[Change] = (),
    close: bool = True,
    seed: int = 42,
    padding: int | None = 0,
) -> str:
    """Write a run of `steps`; `changes` are cells with other bits, `blank` ones that were not recorded."""
    steps = list(steps)
    run = fake_trace(steps, ids=ids, ops=ops, ranks=ranks, token=token)
    for change in changes:
        run.change(*change)
    for request, position, op, *rank in blank:
        run.cells[rank[0] if rank else 0, run.at(request, position), list(ops).index(op)] = 0
    return stored(
        path, run, steps, manifest=manifest, kernels=kernels, close=close, seed=seed, padding=padding
    )


def stored(
    path: Path,
    run: FakeTrace,
    steps: Sequence[Any],
    *,
    manifest: dict[str, Any] = MANIFEST,
    kernels: Callable[[int], tuple[str, ...]] | None = None,
    close: bool = True,
    seed: int = 42,
    padding: int | None = 0,
) -> str:
    """Write the fake trace that was made of `steps`, every rank by a writer of its own."""
    writer = writer_of(path, run, manifest)
    with ExitStack() as stack:
        ranks = range(1, run.ranks)
        others = [stack.enter_context(RankWriter(path, rank, uuid=writer.uuid)) for rank in ranks]
        for index, given in enumerate(steps):
            for other in others:
                step(other, run, index, given, kernels, seed, other.rank, padding)
            step(writer, run, index, given, kernels, seed, padding=padding)
        if not close:
            writer.commit()
    if close:
        writer.close()
    return str(path)


def writer_of(path: Path, run: FakeTrace, manifest: dict[str, Any] = MANIFEST) -> TraceWriter:
    """A writer for the steps of a fake trace."""
    requests = [Request(r.id, (1, 2), SamplingParams(seed=42)) for r in run.requests]
    return TraceWriter(
        path,
        manifest=manifest,
        requests=requests,
        ops=run.ops,
        ranks=run.ranks,
        kinds=run.kinds,
        commit_seconds=1e9,
    )


def step(
    writer: StepWriter,
    run: FakeTrace,
    index: int,
    given: Any,
    kernels: Callable[[int], tuple[str, ...]] | None = None,
    seed: int = 42,
    rank: int = 0,
    padding: int | None = 0,
) -> None:
    """Write one step of a fake trace, as one of its ranks; `padding` rows on a GPU, None on a CPU."""
    slices, events = given if isinstance(given, tuple) else (given, ())
    before = tuple(event for event in events if event.kind is not EventKind.FINISHED)
    rows = run.row_step == index
    drawn = [part for part in slices if part.samples]
    tokens = run.drawn.token[run.drawn.step == index].tolist()
    writer.step(
        Record(
            Step(index, tuple(slices), before),
            run.row_token[rows],
            run.cells[rank][rows],
            kernels(index) if kernels else ("kernel",) * len(run.ops),
            [_sample(part, token, seed) for part, token in zip(drawn, tokens, strict=True)],
            [event for event in events if event.kind is EventKind.FINISHED],
            0.5,
            padded_rows=int(rows.sum()) + padding if padding is not None else 0,
            graph_bucket=0 if padding is None else 8,
        )
    )


def finished(request: str, tokens: int) -> Event:
    """The event that ends a request."""
    return Event(EventKind.FINISHED, request, tokens)


def _sample(of: Slice, token: int, seed: int) -> Sample:
    return Sample(of.request, of.stop - 1, token, token, -1.0, 0.25, seed, of.stop - 1)
