"""The built-in engine: a step at a time, from a scheduler's decision to sampled tokens.

It computes what it is told and tells the probe what it did. Recording, replaying and faults are the
caller's choice of scheduler, Ops table and forced tokens.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from detrec.config import ServeConfig
from detrec.engines.base import (
    Event,
    EventKind,
    Probe,
    Progress,
    RankProbe,
    Request,
    Sample,
    Scheduler,
    Step,
)
from detrec.engines.builtin.batch import Batch, batch_of, draws_of, penalties_of
from detrec.engines.builtin.blocks import BlockManager, num_blocks
from detrec.engines.builtin.cut import Cut
from detrec.engines.builtin.follow import FollowingScheduler
from detrec.engines.builtin.model import Decoder, op_names
from detrec.engines.builtin.ranks import Ranks, Run
from detrec.engines.builtin.runner import Runner, Sampling, largest_step
from detrec.engines.builtin.scheduler import FcfsScheduler, chunk_rule
from detrec.engines.builtin.shares import rank_of
from detrec.engines.builtin.state import RequestState
from detrec.engines.builtin.weights import Checkpoint, tensor_digests
from detrec.engines.faults.base import Fault
from detrec.engines.instrument import Instrument
from detrec.engines.ops import Ops
from detrec.errors import ConfigError
from detrec.kernels.device import Device
from detrec.kernels.group import Group

T = TypeVar("T")


class BuiltinEngine:
    """Runs `requests` on `checkpoint`.

    `forced` gives, by request id, the tokens to go on with whatever is sampled; a request whose forced
    tokens are used up ends, unless a plan is followed, which says itself what runs. `fault` may break the
    Ops table, the chunk rule or a recorded plan; `instruments` see its table, on a CPU. `ranks` are those
    that the engine is one of.
    """

    def __init__(
        self,
        config: ServeConfig,
        checkpoint: Checkpoint,
        requests: Sequence[Request],
        *,
        forced: Mapping[str, Sequence[int]] | None = None,
        fault: Fault | None = None,
        instruments: Sequence[Instrument] = (),
        progress: Progress | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.config = config
        self._ranks = ranks
        which = (ranks.rank, ranks.meeting.world_size) if ranks else (0, 1)
        self.cut = Cut(checkpoint.config, *which)
        self.rank = rank_of(self.cut)
        self._fault = fault or Fault(lambda text: None)
        self.requests = requests = tuple(self._fault.requests(requests))
        self.op_names = tuple(op_names(checkpoint.config))
        self.states = {request.id: RequestState(request) for request in requests}
        engine = config.engine
        self._checkpoint = checkpoint
        self._forced = forced
        self._following = False
        self._drawn = b""
        self.instruments = tuple(instruments)
        self.blocks = self._fault.blocks(
            BlockManager(
                num_blocks(engine, requests), engine.block_size, prefix_caching=engine.enable_prefix_caching
            )
        )
        self._runner = self._start_runner(checkpoint, progress)
        self._eos = checkpoint.config.eos_token_ids

    def manifest(self) -> dict[str, Any]:
        """The model and its weights; the rest of what can change bits is configuration and environment."""
        return {
            "model_digest": self._checkpoint.digest(),
            "tensor_digests": tensor_digests(self._checkpoint),
            "num_blocks": self.blocks.num_blocks,
            "device": self._runner.manifest(),
        }

    @property
    def device(self) -> Device | None:
        """The GPU that computes; None on a CPU."""
        return self._runner.device

    @property
    def lasting(self) -> bool:
        """They lie in a ring of three layers' worth; where those of a fault or a vendor lie is not known."""
        own = self.config.engine.deterministic and not self._fault.name
        return own and self.rank.size == 1 and self.device is None

    @property
    def decoder(self) -> Decoder:
        """The model, its weights where they are computed with."""
        return self._runner.decoder

    @property
    def ops(self) -> Ops:
        """The Ops table, not watched."""
        return self._runner.ops

    def reserve(self, rows: int, samples: int) -> None:
        """Let ops run on that many rows between two steps; what the latest step gave is lost."""
        self._runner.reserve(rows, samples)

    def _start_runner(self, checkpoint: Checkpoint, progress: Progress | None) -> Runner:
        engine = self.config.engine
        about = engine, checkpoint, self.blocks.num_blocks, largest_step(engine, self.requests)
        if engine.device == "cpu":
            from detrec.engines.builtin.cpu_runner import CpuRunner

            return CpuRunner(*about, self._equip, progress, self._ranks.meeting if self._ranks else None)
        if type(self._fault) is not Fault:
            raise ConfigError(
                f"--fault {self._fault.name}: acts on the CPU's kernels, got engine.device: {engine.device}",
                hint="--set engine.device=cpu; float32 gives the same bits there",
            )
        from detrec.engines.builtin.gpu_runner import GpuRunner

        return GpuRunner(*about, progress, self._ranks.meeting if self._ranks else None)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`."""
        return self._checkpoint.tokenizer().decode(list(tokens))

    def _equip(self, ops: Ops, group: Group | None) -> Ops:
        self._fault.group = group
        ops = self._fault.equip(ops)
        for instrument in self.instruments:
            ops = instrument.equip(ops)
        return ops

    def own_scheduler(self) -> FcfsScheduler:
        """First come, first served, over all requests."""
        rule = self._fault.rule(chunk_rule(self.config.engine))
        return FcfsScheduler(self.config.engine, self.states, self.blocks, rule)

    def follow(self, plan: Scheduler) -> FollowingScheduler:
        """The steps of `plan`, placed in this engine's KV blocks."""
        self._following = True
        plan = self._fault.plan(plan)
        return FollowingScheduler(self._ranks.plan(plan) if self._ranks else plan, self.states, self.blocks)

    def run(
        self,
        scheduler: Scheduler,
        probe: Probe | None = None,
        names: Collection[str] = (),
        others: RankProbe | None = None,
        *,
        until: int | None = None,
    ) -> Iterator[tuple[Step, tuple[Sample, ...]]]:
        """Run every step of `scheduler`, yielding it with the tokens it gave as soon as they are known.

        `probe` is told of every step and of the ops in `names`; of the other ranks, what `others` gives. The
        run ends with step `until`, if that is given.
        """
        self._runner.watch(probe, names)
        if self._ranks and self._ranks.rank == 0:
            self._ranks.tell(Run(self._following, frozenset(names), others, until))
        more = True
        while more and (step := scheduler.next_step()) is not None:
            yield step, self._run_step(step, probe)
            more = until is None or step.index < until
        self._agree("at the end")
        self._fault.end()

    def _agree(self, when: str, *arrays: np.ndarray) -> None:
        """Have all ranks drawn the same in the latest step, and are `arrays` the same in all?"""
        if self._ranks:
            self._ranks.agree(when, self._drawn, *(array.tobytes() for array in arrays))

    def on_every_rank(self, job: Callable[["BuiltinEngine"], T]) -> T:
        """Do `job` on every rank at once, after a run; what it gives on this one. It must be picklable."""
        if self._ranks:
            self._ranks.tell(job)
        return job(self)

    def gather(self, what: T) -> list[T]:
        """What each rank gives, by rank. To be called in a job, by all of them; it must be picklable."""
        return self._ranks.gather(what) if self._ranks else [what]

    def close(self) -> None:
        """Nothing runs any more: the other ranks end."""
        self._runner.close()
        if self._ranks:
            self._ranks.close()

    def _run_step(self, step: Step, probe: Probe | None) -> tuple[Sample, ...]:
        self._fault.step(step)
        batch = self._fault.batch(batch_of(step, self.states, self.blocks))
        self._agree(f"before step {step.index}", batch.tokens, batch.positions, batch.row_seq)
        for instrument in self.instruments:
            instrument.step(step)
        if probe:
            probe.step(step, batch.tokens)
        drawn = [self.states[part.request] for part in step.slices if part.samples]
        rows = self._runner.run(batch, self._sampling(batch, drawn) if drawn else None)
        self._drawn = rows.tobytes() if self._ranks else b""
        samples = tuple(
            self._take(state, *record) for state, record in zip(drawn, rows.tolist(), strict=True)
        )
        events = self._settle(step)
        if probe:
            probe.sampled(samples, events)
        return samples

    def _sampling(self, batch: Batch, drawn: Sequence[RequestState]) -> Sampling:
        return Sampling(penalties_of(drawn, self._eos), draws_of(drawn, batch.positions[batch.sample_rows]))

    def _take(
        self, state: RequestState, token: int, seed: int, counter: int, logprob: float, margin: float
    ) -> Sample:
        """Append the sampled or the forced token, and see whether the request is done."""
        taken, position, ends = token, len(state.tokens) - 1, False
        if self._forced is not None:
            forced, at = self._forced[state.request.id], state.generated
            # whoever follows a plan leaves a request its blocks: in a trace that broke off, it may have been
            # preempted after its last token and have begun anew
            ends = len(forced) - at <= 1 and not self._following
            if at < len(forced):
                taken = forced[at]
            elif ends:
                state.finish = "trace_end"
        if not state.finish:
            state.tokens.append(taken)
            state.finish = self._finish(state) or ("trace_end" if ends else "")
        return Sample(
            state.request.id, position, token, taken, logprob, margin, seed, counter, finish=state.finish
        )

    def _finish(self, state: RequestState) -> str:
        params, generated = state.request.sampling, state.generated
        if generated >= params.min_tokens:
            last = state.tokens[-1]
            if last in params.stop_token_ids or (last in self._eos and not params.ignore_eos):
                return "stop"
            if params.stop:
                text = self.decode(state.output)
                if any(stop in text for stop in params.stop):
                    return "stop"
        if generated >= params.max_tokens or len(state.tokens) >= self.config.engine.max_model_len:
            return "length"
        return ""

    def _settle(self, step: Step) -> tuple[Event, ...]:
        """Account for what was computed; free the blocks of requests that are done."""
        finished = []
        for part in step.slices:
            state = self.states[part.request]
            state.computed = part.stop
            self.blocks.publish(part.request, state.tokens, state.computed)
            if state.finish:
                self.blocks.release(part.request)
                finished.append(Event(EventKind.FINISHED, part.request, len(state.output)))
        return tuple(finished)
