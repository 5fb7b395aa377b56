"""What detrec adds to one FastDeploy worker: hooks in its model, and the state that tells its steps."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detrec.engines.fastdeploy.allreduce import watch_all_reduce
from detrec.engines.fastdeploy.copies import DeviceCopies, HostCopies
from detrec.engines.fastdeploy.journal import Job, Journal
from detrec.engines.fastdeploy.names import OUTSIDE, Names, names_of
from detrec.engines.fastdeploy.rerun import force, rerun
from detrec.engines.fastdeploy.support import hides_layers, manifest_of, refusals
from detrec.engines.fastdeploy.tasks import Batch, prepared_of, task_of
from detrec.engines.fastdeploy.watch import Watch
from detrec.engines.hooks import Hooks, Teller, modules_of
from detrec.errors import DetrecError, EngineError
from detrec.kernels import arrays
from detrec.kernels.device import Device


class Worker:
    """What the runner tells, and the state that it takes to tell it.

    Whatever goes wrong here ends the recording, with its reason, and not the serving.
    """

    def __init__(self, runner: Any, journal: Journal) -> None:
        self._runner, self._journal = runner, journal
        self._watch: Watch | None = None
        self.hooks: Hooks | None = None
        self._stream: Any = None
        self._names = Names((), {}, OUTSIDE)
        self._prepared: dict[str, dict[str, Any]] = {}
        self._batches: list[Batch] = []
        self._output: Any = None
        self._job: Job | None = None
        self._ranks = int(runner.fd_config.parallel_config.tensor_parallel_size)
        self._ended = False
        reasons = refusals(runner.fd_config)
        if reasons:
            journal.refuse("; ".join(reasons))
            raise EngineError(f"detrec cannot record this configuration: {'; '.join(reasons)}")
        journal.active(manifest_of(runner.fd_config, os.environ))

    def attach(self, model: Any) -> None:
        """The model is there: put the hooks in. They do nothing outside a recorded step."""
        self.guarded(self._attach, model)

    def _attach(self, model: Any) -> None:
        self._names = names_of(modules_of(model), self._ranks)
        if hides_layers(self._runner.fd_config):
            # a graph runs no Python: its ops would be recorded at some steps and not at others
            ops = tuple(op for op in self._names.ops if op in OUTSIDE)
            self._names = Names((), {}, ops)
        self.hooks = Hooks(model, self._names.taps, self._tell)
        if self._names.partials:
            watch_all_reduce(model, self._names.partials, self._tell)
        compute = model.compute_logits

        def compute_logits(*args: Any, **kwargs: Any) -> Any:
            logits = compute(*args, **kwargs)
            self._tell("logits", logits, "compute_logits")
            return logits

        model.compute_logits = compute_logits
        self._runner.sampler.register_forward_post_hook(self._drew)

    def _tell(self, op: str, output: Any, kernel: str) -> None:
        if self._watch is not None and self._watch.open:
            self.guarded(self._watch.op, op, output, kernel)

    def _start(self) -> bool:
        """Open the trace once it is known what to record."""
        if self._watch is not None or self._ended:
            return self._watch is not None
        job = self._journal.job()
        if job is None:
            return False
        self._job = job
        device = self._device()
        probe, names = self._journal.open(self._names.ops, device)
        copies = HostCopies() if device is None else DeviceCopies(device)
        teller = Teller(probe, names)
        limits = {request.id: request.sampling.max_tokens for request in job.requests}
        block_size = int(self._runner.fd_config.cache_config.block_size)
        self._probe, self._copies = probe, copies
        self._watch = Watch(probe, teller, copies, block_size, limits)
        self._batches = self._watch.batches
        self._stream = None if device is None else device.stream
        return True

    def _device(self) -> Device | None:
        name = str(self._runner.device)
        if not name.startswith("gpu"):
            return None
        # FastDeploy's own stream: what is told is read behind the work that makes it
        return Device("paddle", name, arrays.current_stream("paddle", name))

    def inserted(self, given: Sequence[Any], running: int) -> None:
        """FastDeploy inserts tasks."""
        self.guarded(self._inserted, given, running)

    def _inserted(self, given: Sequence[Any], running: int) -> None:
        if not self._start():
            raise EngineError("FastDeploy was sent a request before detrec said what to record")
        assert self._watch is not None
        for task in given:
            if getattr(task, "sampling_params", None) is not None:
                self._prepared.setdefault(str(task.request_id), prepared_of(task))
        self._watch.insert([task_of(task) for task in given], int(running))

    def forward(self, model_inputs: Any) -> Any:
        """A context in which the model runs."""
        return _Forward(self, model_inputs)

    @property
    def in_step(self) -> bool:
        """Whether a step that is recorded has begun and not ended."""
        return self._watch is not None and self._watch.open

    def begin(self, model_inputs: Mapping[str, Any] | None) -> None:
        """The model is about to run, on `model_inputs`."""
        if self._watch is None or not model_inputs:
            return
        inputs, launched = self._runner.share_inputs, model_inputs["ids_remove_padding"]
        order = getattr(inputs, "index_to_batch_id", None) or {}
        if self._watch.begin(inputs, launched, order):
            self._output = None

    def before_sampling(self) -> None:
        """Right before FastDeploy draws."""
        if self._watch is not None and self._watch.open:
            self.guarded(self._watch.draws, self._runner.share_inputs)

    def _drew(self, sampler: Any, inputs: Any, output: Any) -> None:
        if self._watch is not None and self._watch.open:
            self.guarded(self._took, output)

    def _took(self, output: Any) -> None:
        assert self._watch is not None
        assert self._job is not None
        self._output = output
        tokens = output.sampled_token_ids
        self._watch.drew(tokens)
        self._watch.op("sampled", tokens, type(self._runner.sampler).__name__)
        if self._job.recorded is not None:
            force(tokens, self._watch.drawing(), self._job.recorded, self._stream)

    def after_sampling(self) -> None:
        """FastDeploy has drawn, broadcast, and told its slots."""
        if self._watch is not None and self._watch.open:
            self.guarded(self._settled)

    def _settled(self) -> None:
        assert self._watch is not None
        if self._output is None:
            raise EngineError("FastDeploy drew no tokens in a step", hint="is it a pooling model?")
        tokens = self._output.sampled_token_ids
        self._watch.op("broadcast", tokens, "broadcast")
        self._watch.settled(tokens, self._runner.share_inputs)

    def executed(self) -> None:
        """FastDeploy's step is over, or there was none to run."""
        if self._watch is not None:
            self.guarded(self._executed)

    def _executed(self) -> None:
        assert self._watch is not None
        assert self._job is not None
        if self._watch.open:
            self._watch.end()
            return
        self._probe.meanwhile()
        if self._job.recorded is None and self._watch.done >= {r.id for r in self._job.requests}:
            self._close("")

    def rerun(self) -> None:
        """Where a recorded run is to be run again, run it all, once."""
        if not self._ended and self._watch is None:
            self.guarded(self._rerun)

    def _rerun(self) -> None:
        job = self._journal.job()
        if job is None or job.recorded is None or not self._start():
            return
        rerun(self._runner, job.requests, job.recorded, alive=lambda: not self._ended)
        if not self._ended:
            self._probe.finish()
            self._close("")

    def _close(self, error: str) -> None:
        # hooks stay: one of them may be running, and without a step they do nothing
        self._watch, self._ended = None, True
        self._journal.close(self._batches, self._prepared, error)

    def guarded(self, what: Callable[..., Any], *args: Any) -> None:
        """Call `what`; where it fails the recording ends, and says why."""
        if self._ended:
            return
        try:
            what(*args)
        except DetrecError as error:
            self._close(str(error))
        except Exception as error:
            # whatever it is, FastDeploy's users must not pay for it; the journal says what it was
            self._close(f"{type(error).__name__}: {error}")


class _Forward:
    """The model's forward of one step: what its hooks tell inside is the step's."""

    def __init__(self, worker: Worker, model_inputs: Any) -> None:
        self._worker, self._inputs = worker, model_inputs
        self._watching: Any = None

    def __enter__(self) -> None:
        worker = self._worker
        worker.guarded(worker.begin, self._inputs)
        if worker.hooks is not None and worker.in_step:
            self._watching = worker.hooks.watching()
            self._watching.__enter__()

    def __exit__(self, *raised: Any) -> None:
        if self._watching is not None:
            self._watching.__exit__(*raised)
