"""Traces of the ranks of one run, each written by its own worker, made into one.

Ranks run the same steps; where they did not, that is what there is to say about the run.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from detrec.engines.base import OpKind, Sample
from detrec.errors import TraceError
from detrec.recorder.rank_writer import RankWriter
from detrec.recorder.reader import TraceReader
from detrec.recorder.steps import Record, StepWriter
from detrec.recorder.writer import TraceWriter


def merge(
    paths: Sequence[str | Path],
    output: str | Path,
    manifest: dict[str, Any],
    *,
    kinds: Sequence[OpKind] | None = None,
    overwrite: bool = False,
    reason: str = "",
    finishing: Callable[[TraceWriter, TraceReader], None] = lambda writer, first: None,
) -> TraceReader:
    """One trace at `output` of the traces at `paths`, rank 0 first, with `manifest`; gives it, opened.

    Steps that not all ranks have committed are left out. Samples, sketches and wall times are rank 0's.
    `kinds` says of every op what the ranks hold of it. `reason`: the run failed for it. `finishing` may add
    to the trace before it is closed. Raises TraceError where the ranks ran different steps.
    """
    ranks = [TraceReader(path) for path in paths]
    first = ranks[0]
    for rank, trace in enumerate(ranks):
        if (trace.ops, trace.requests) != (first.ops, first.requests):
            raise TraceError(f"{trace.path}: rank {rank} recorded other ops or requests than rank 0")
    steps = min(trace.n_steps for trace in ranks)
    if not reason:
        reason = next((trace.reason for trace in ranks if trace.reason), "")
        if not reason and any(trace.status != "complete" or trace.n_steps != steps for trace in ranks):
            reason = f"the ranks' recorders stopped at steps {[trace.n_steps for trace in ranks]}"
    with TraceWriter(
        output,
        manifest=manifest,
        requests=first.requests,
        ops=first.ops,
        ranks=len(ranks),
        kinds=kinds,
        sketch_parts=first.sketches(0, 0).shape[2] if first.has_sketches else 0,
        overwrite=overwrite,
    ) as writer:
        with ExitStack() as stack:
            others = [
                stack.enter_context(RankWriter(output, rank, uuid=writer.uuid))
                for rank in range(1, len(ranks))
            ]
            _steps(ranks, [writer, *others], steps)
        finishing(writer, first)
        if reason:
            writer.fail(reason)
    return TraceReader(output)


def _steps(ranks: Sequence[TraceReader], writers: Sequence[StepWriter], count: int) -> None:
    first = ranks[0]
    ends = [*first.column("steps/row_start").tolist(), first.n_rows]
    padded, buckets = (first.column(f"steps/{name}").tolist() for name in ("padded_rows", "graph_bucket"))
    samples = _samples(first)
    for step, *others in zip(*(trace.steps() for trace in ranks), strict=False):
        index = step.index
        if index >= count:
            break
        for rank, other in enumerate(others, start=1):
            if other != step:
                raise TraceError(
                    f"{ranks[rank].path}: step {index}: "
                    f"rank {rank} ran {_short(other)}, rank 0 {_short(step)}",
                    hint="ranks that schedule differently cannot reduce together: report it to the engine",
                )
        start, stop = ends[index], ends[index + 1]
        for writer, trace in zip(writers, ranks, strict=True):
            writer.step(
                Record(
                    step,
                    first.row_token[start:stop],
                    trace.fingerprints(start, stop),
                    first.kernels_of(index),
                    samples.get(index, ()),
                    first.finished(index),
                    float(first.step_seconds[index]),
                    padded_rows=padded[index],
                    graph_bucket=buckets[index],
                    sketches=first.sketches(start, stop) if first.has_sketches else None,
                )
            )


def _samples(trace: TraceReader) -> dict[int, list[Sample]]:
    columns = trace.samples()
    names = [request.id for request in trace.requests]
    found: dict[int, list[Sample]] = {}
    for at, step in enumerate(columns.step.tolist()):
        found.setdefault(step, []).append(
            Sample(
                request=names[columns.request[at]],
                position=int(columns.position[at]),
                token=int(columns.token[at]),
                taken=int(columns.taken[at]),
                logprob=float(columns.logprob[at]),
                margin=float(columns.margin[at]),
                seed=int(columns.seed[at]),
                counter=int(columns.counter[at]),
                finish=str(columns.finish[at]),
            )
        )
    return found


def _short(step: Any) -> str:
    return ", ".join(f"{part.request}[{part.start}, {part.stop})" for part in step.slices) or "nothing"
