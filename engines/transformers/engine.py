"""transformers' continuous batching as an Engine: its batches and kernels, watched and, if asked, forced."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from detrec.config import ServeConfig
from detrec.engines.base import Event, EventKind, Probe, Rank, RankProbe, Request, Sample, Scheduler, Step
from detrec.engines.builtin.requests import check_requests, resolve_requests
from detrec.engines.builtin.state import RequestState, neutral
from detrec.engines.builtin.weights import Checkpoint, open_checkpoint, tensor_digests
from detrec.engines.transformers import library
from detrec.engines.transformers.batches import Batch, Batches
from detrec.engines.transformers.cpu_kernels import CpuKernels
from detrec.engines.transformers.draws import DeviceDraws, Draws, HostDraws
from detrec.engines.transformers.forced import FollowedSchedule, register
from detrec.engines.transformers.invariant import Invariant, Kernels
from detrec.engines.transformers.model import build
from detrec.engines.transformers.names import ROPE, op_names
from detrec.engines.transformers.own import OwnSchedule
from detrec.engines.transformers.settings import batching_config, settings_of
from detrec.engines.transformers.static import StaticBatches
from detrec.engines.transformers.watch import Watch
from detrec.errors import ConfigError
from detrec.kernels import arrays, cuda
from detrec.kernels.device import Device


class TransformersEngine:
    """Runs requests on a transformers model whose weights are the checkpoint's of `config.model`.

    `requests` None means those of `config`. `forced` gives, by request id, the tokens to go on with whatever
    is drawn; a request whose forced tokens are used up ends, unless a plan is followed. ConfigError for what
    transformers' batching would not do for each request by itself: it draws with one generator for all.
    """

    rank = Rank()
    lasting = False

    def __init__(
        self,
        config: ServeConfig,
        *,
        requests: Sequence[Request] | None = None,
        forced: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self.config = config
        self._settings = settings_of(config.engine)
        self._checkpoint: Checkpoint = open_checkpoint(config.model)
        model = self._checkpoint.config
        # the built-in engine's checks, with the one limit on length that there is here
        limits = replace(config.engine, max_model_len=model.max_position_embeddings)
        if requests is None:
            requests = resolve_requests(replace(config, engine=limits), self._checkpoint)
        else:
            check_requests(limits, model, requests)
        self.requests = tuple(requests)
        for request in self.requests:
            _check_greedy(request)
        self.op_names = op_names(model)
        self.states = {request.id: RequestState(request) for request in self.requests}
        self._forced = forced
        self._following = False
        self._eos = model.eos_token_ids
        self._model = build(
            self._checkpoint, config.engine.dtype, config.engine.device, self._settings.attn_implementation
        )
        self._invariant: Invariant | None = None
        if self._settings.invariant_kernels:
            self._invariant = Invariant(self._model, model, self._invariant_kernels())
        # batches run in a stream of their own, which does not wait for the one that weights were made in
        arrays.synchronize("torch", str(self._model.device))
        self._batches: Batches | StaticBatches | None = None
        self._device: Device | None = None

    def manifest(self) -> dict[str, Any]:
        """What can change bits besides the settings: the weights, the libraries, the threads, the kernels."""
        torch = library.module("torch")
        kind: dict[str, Any] = {"kind": "cpu"}
        if self.device is not None:
            kind = {"kind": "gpu", **cuda.describe(self.device.index)}
        return {
            "model_digest": self._checkpoint.digest(),
            "tensor_digests": tensor_digests(self._checkpoint),
            "device": kind,
            "torch": torch.__version__,
            "transformers": version("transformers"),
            "threads": torch.get_num_threads(),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "attention": self._model.config._attn_implementation,
            "invariant_kernels": self._settings.invariant_kernels,
            **self._resolved(),
        }

    def _resolved(self) -> dict[str, Any]:
        """What transformers made of the settings for its batches."""
        if isinstance(batches := self._running(), StaticBatches):
            return {"max_requests_per_batch": batches.size}
        resolved = batches.resolved
        return {
            "max_batch_tokens": resolved.max_batch_tokens,
            "max_requests_per_batch": resolved.max_requests_per_batch,
            "num_blocks": resolved.num_blocks,
            "page_size": getattr(resolved, "page_size", None) or resolved.block_size,
        }

    @property
    def device(self) -> Device | None:
        """The GPU, with the stream that the batches that have begun run in; None on a CPU."""
        if self.config.engine.device == "cpu":
            return None
        if self._device is None:
            self._device = Device("torch", "gpu", self._running().stream)
        return self._device

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`."""
        return self._checkpoint.tokenizer().decode(list(tokens))

    def own_scheduler(self) -> OwnSchedule:
        """Whatever transformers' scheduler decides; a request is given to it at the step of its arrival."""
        self._batches = self._start(None)
        return OwnSchedule(self._batches, self.requests, self._admit)

    def follow(self, plan: Scheduler) -> FollowedSchedule:
        """The steps of `plan`, forced on transformers' scheduler."""
        self._following = True
        self._batches = self._start(register())
        for request in self.requests:
            self._admit(request.id)
        return FollowedSchedule(plan, self._batches)

    def run(
        self,
        scheduler: Scheduler,
        probe: Probe | None = None,
        names: Collection[str] = (),
        others: RankProbe | None = None,
    ) -> Iterator[tuple[Step, tuple[Sample, ...]]]:
        """Run every step of `scheduler`, which must be this engine's; hooks are there for as long as that."""
        assert isinstance(scheduler, OwnSchedule | FollowedSchedule), "a scheduler of another engine"
        model, device = self._checkpoint.config, self.device
        draws: Draws = HostDraws() if device is None else DeviceDraws(device, model.vocab_size)
        with self._invariant.in_place() if self._invariant else nullcontext():
            watch = Watch(self._model, model, probe, names, self._kernels(), draws, device)
            try:
                while (step := scheduler.next_step()) is not None:
                    assert scheduler.batch is not None
                    yield step, self._run_step(scheduler.batch, watch, draws, probe)
            finally:
                self._running().stop()
                watch.remove()

    def close(self) -> None:
        """Nothing lies outside of this process; a run that nobody finished ends."""
        if self._batches is not None:
            self._batches.stop()
        self._batches = None

    def _kernels(self) -> Mapping[str, str]:
        """What computes the ops that are no module's output."""
        if self._invariant:
            return self._invariant.kernels.names
        return {"attn": self._settings.attn_implementation, "act": "silu * up", "rope": ROPE}

    def _running(self) -> Batches | StaticBatches:
        if self._batches is None:
            self._batches = self._start(None)
        return self._batches

    def _invariant_kernels(self) -> Kernels:
        config = self._checkpoint.config
        if self.config.engine.device == "cpu":
            return CpuKernels(config)
        # it loads Triton, which an engine on the CPU has no use for
        from detrec.engines.transformers.gpu_kernels import GpuKernels

        return GpuKernels(config, str(self._model.device))

    def _start(self, scheduler: str | None) -> Batches | StaticBatches:
        # other batches run in another stream
        self._device = None
        if self._settings.static:
            size = self._settings.batching.get("max_requests_per_batch") or len(self.requests)
            return StaticBatches(self._model, self.states, size)
        return Batches(self._model, batching_config(self._settings, self.requests, scheduler), self.states)

    def _admit(self, request: str) -> None:
        params, prompt = self.states[request].request.sampling, self.states[request].request.prompt
        limit = min(params.max_tokens, self._checkpoint.config.max_position_embeddings - len(prompt))
        if self._forced is not None and not self._following:
            limit = max(1, min(limit, len(self._forced[request])))
        self._running().admit(request, limit, self._ends(request))

    def _ends(self, request: str) -> list[int]:
        """The tokens after which `request` goes no further."""
        params = self.states[request].request.sampling
        return sorted({*params.stop_token_ids, *(() if params.ignore_eos else self._eos)})

    def _run_step(self, batch: Batch, watch: Watch, draws: Draws, probe: Probe | None) -> tuple[Sample, ...]:
        batches, step = self._running(), batch.step
        if self._invariant:
            self._invariant.begin(step, self.device)
        with watch.step(step, batch.tokens, batch.layout):
            batches.compute()
        taken = batches.settle(step, self._take)
        scores = draws.scores([drawn for drawn, _ in taken.values()])
        samples = tuple(
            self._sampled(request, *tokens, *score)
            for (request, tokens), score in zip(taken.items(), scores, strict=True)
        )
        finished = tuple(
            Event(EventKind.FINISHED, sample.request, self.states[sample.request].generated)
            for sample in samples
            if sample.finish
        )
        if probe:
            probe.sampled(samples, finished)
        return samples

    def _take(self, request: str, drawn: int) -> int:
        """The forced token where there is one."""
        state = self.states[request]
        rest = [] if self._forced is None else self._forced[request][state.generated :]
        return rest[0] if rest else drawn

    def _sampled(self, request: str, token: int, taken: int, logprob: float, margin: float) -> Sample:
        state = self.states[request]
        position = len(state.tokens) - 1
        state.tokens.append(taken)
        if not self._running().running(request):
            state.finish = self._finish(state)
        return Sample(
            request=request,
            position=position,
            token=token,
            taken=taken,
            logprob=logprob,
            margin=margin,
            seed=0,
            counter=0,
            finish=state.finish,
        )

    def _finish(self, state: RequestState) -> str:
        """Why transformers stopped."""
        if state.tokens[-1] in self._ends(state.request.id):
            return "stop"
        full = len(state.tokens) >= self._checkpoint.config.max_position_embeddings
        return "length" if full or state.generated >= state.request.sampling.max_tokens else "trace_end"


def _check_greedy(request: Request) -> None:
    params = request.sampling
    where = f"request {request.id}: sampling"
    if params.temperature:
        raise ConfigError(
            f"{where}.temperature: expected 0, got {params.temperature}: transformers draws for all requests "
            "from one generator, so none could be drawn again in another batch",
            hint="set temperature: 0",
        )
    if not neutral(params) or params.min_tokens or params.stop:
        raise ConfigError(
            f"{where}: penalties, min_tokens and stop are not followed with engine.name: transformers",
            hint="leave them out; stop_token_ids and ignore_eos are followed",
        )
