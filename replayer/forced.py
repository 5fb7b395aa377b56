"""The recorded schedule as a Scheduler."""

from detrec.engines.base import Step
from detrec.recorder.reader import TraceReader


class ForcedSchedule:
    """The committed steps of a trace, one after another."""

    def __init__(self, trace: TraceReader) -> None:
        self._steps = trace.steps()

    def next_step(self) -> Step | None:
        """The next recorded step."""
        return next(self._steps, None)
