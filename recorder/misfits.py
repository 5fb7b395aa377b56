"""Which steps a trace refuses: those that do not fit it, or would say what nobody could read."""

from collections.abc import Container, Sequence

from detrec.engines.base import Event, EventKind, Sample, Slice
from detrec.recorder.steps import Record


def refuse_misfits(
    record: Record, expected: int, ops: Sequence[str], sketch_parts: int, requests: Container[str]
) -> None:
    """ValueError unless `record` can be step `expected` of a trace of these ops and requests."""
    step = record.step
    rows, shape = step.rows, (step.rows, len(ops))
    found = len(record.tokens), len(record.kernels), record.fingerprints.shape
    if found != (rows, len(ops), shape):
        raise ValueError(
            f"step {step.index}: expected {rows} tokens, {len(ops)} kernels and a fingerprint of each, "
            f"got {found[0]}, {found[1]} and shape {found[2]}"
        )
    if sketch_parts and (record.sketches is None or record.sketches.shape != (*shape, sketch_parts)):
        raise ValueError(f"step {step.index}: expected sketches of shape {(*shape, sketch_parts)}")
    if step.index != expected:
        raise ValueError(f"step {step.index}: expected step {expected}")
    named: tuple[Slice | Event | Sample, ...] = (
        *step.slices,
        *step.events,
        *record.samples,
        *record.finished,
    )
    for part in named:
        if part.request not in requests:
            raise ValueError(f"step {step.index}: unknown request {part.request!r}")
    before = [event.kind is EventKind.FINISHED for event in step.events]
    after = [event.kind is EventKind.FINISHED for event in record.finished]
    if any(before) or not all(after):
        raise ValueError(f"step {step.index}: requests finish after a step, and nothing else does")
