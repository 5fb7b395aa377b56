"""transformers' own schedule: its scheduler decides, over the requests that have arrived."""

from collections.abc import Callable, Sequence

from detrec.engines.base import Request, Step
from detrec.engines.transformers.batches import Batch, Batches
from detrec.engines.transformers.static import StaticBatches


class OwnSchedule:
    """transformers' own decisions; a request is admitted at its arrival, or when there is nothing else."""

    def __init__(
        self, batches: Batches | StaticBatches, requests: Sequence[Request], admit: Callable[[str], None]
    ) -> None:
        self._batches, self._admit = batches, admit
        self._later = sorted(requests, key=lambda request: request.arrival)
        self._clock = 0
        self.batch: Batch | None = None
        """What the latest step runs."""

    def next_step(self) -> Step | None:
        """The next step, None where nothing is left to run."""
        self._arrive(self._clock)
        self.batch = self._batches.prepare()
        if self.batch is None and self._later:
            # an idle engine does not wait for the clock
            self._arrive(self._later[0].arrival)
            self.batch = self._batches.prepare()
        self._clock += 1
        return self.batch.step if self.batch else None

    def _arrive(self, clock: int) -> None:
        while self._later and self._later[0].arrival <= clock:
            self._admit(self._later.pop(0).id)
