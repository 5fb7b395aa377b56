"""The built-in engine: a step at a time, from a scheduler's decision to sampled tokens.

It computes what it is told and tells the probe what it did. Recording, replaying and faults are the
caller's choice of scheduler, Ops table and forced tokens.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from detrec.config import EngineConfig, ServeConfig
from detrec.engines.base import Event, EventKind, Probe, Request, Sample, Scheduler, Step
from detrec.engines.builtin.batch import batch_of, draws_of, penalties_of
from detrec.engines.builtin.blocks import BlockManager, num_blocks
from detrec.engines.builtin.cpu_ops import cpu_ops
from detrec.engines.builtin.follow import FollowingScheduler
from detrec.engines.builtin.loading import Progress, load_decoder, storage
from detrec.engines.builtin.model import op_names
from detrec.engines.builtin.scheduler import FcfsScheduler, chunk_rule
from detrec.engines.builtin.state import RequestState
from detrec.engines.builtin.vendor import vendor_ops
from detrec.engines.builtin.weights import Checkpoint
from detrec.engines.faults.base import Fault
from detrec.engines.ops import Ops, watched
from detrec.kernels.workspace import Workspace


class BuiltinEngine:
    """Runs `requests` on `checkpoint`.

    `forced` gives, by request id, the tokens to go on with whatever is sampled; a request whose forced
    tokens are used up ends, unless a plan is followed, which says itself what runs. `fault` may break the
    Ops table, the chunk rule or a recorded plan.
    """

    def __init__(
        self,
        config: ServeConfig,
        checkpoint: Checkpoint,
        requests: Sequence[Request],
        *,
        forced: Mapping[str, Sequence[int]] | None = None,
        fault: Fault | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.config = config
        self.requests = tuple(requests)
        self.op_names = tuple(op_names(checkpoint.config))
        self.states = {request.id: RequestState(request) for request in requests}
        engine = config.engine
        self._checkpoint = checkpoint
        self._forced = forced
        self._following = False
        self._fault = fault or Fault(lambda text: None)
        self.blocks = BlockManager(
            num_blocks(engine, requests), engine.block_size, prefix_caching=engine.enable_prefix_caching
        )
        self.decoder = load_decoder(checkpoint, engine, self.blocks.num_blocks, progress)
        self._layer_bytes, self._head_bytes = _row_bytes(checkpoint)
        self._workspace = Workspace(engine.framework, self._step_bytes(*_largest_step(engine, requests)))
        dtype = storage(engine.dtype)
        ops = cpu_ops(self._workspace, dtype)
        self.ops = self._fault.equip(ops if engine.deterministic else vendor_ops(ops, engine.framework))
        self._eos = checkpoint.config.eos_token_ids

    def manifest(self) -> dict[str, Any]:
        """The model and its weights; the rest of what can change bits is configuration and environment."""
        return {"model_digest": self._checkpoint.digest(), "num_blocks": self.blocks.num_blocks}

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`."""
        return self._checkpoint.tokenizer().decode(list(tokens))

    def own_scheduler(self) -> FcfsScheduler:
        """First come, first served, over all requests."""
        rule = self._fault.rule(chunk_rule(self.config.engine))
        return FcfsScheduler(self.config.engine, self.states, self.blocks, rule)

    def follow(self, plan: Scheduler) -> FollowingScheduler:
        """The steps of `plan`, placed in this engine's KV blocks."""
        self._following = True
        return FollowingScheduler(self._fault.plan(plan), self.states, self.blocks)

    def run(
        self, scheduler: Scheduler, probe: Probe | None = None, names: Collection[str] = ()
    ) -> Iterator[tuple[Step, tuple[Sample, ...]]]:
        """Run every step of `scheduler`, yielding it with the tokens it gave as soon as they are known.

        `probe` is told of every step and of the ops in `names`.
        """
        ops = watched(self.ops, probe, names) if probe and names else self.ops
        while (step := scheduler.next_step()) is not None:
            yield step, self._run_step(step, ops, probe)

    def _run_step(self, step: Step, ops: Ops, probe: Probe | None) -> tuple[Sample, ...]:
        batch = batch_of(step, self.states, self.blocks)
        # a layer's input is needed until its middle, so a layer's worth of memory keeps it
        self._workspace.begin(self._step_bytes(step.rows, len(batch.sample_rows)))
        self._fault.step(step)
        if probe:
            probe.step(step, batch.tokens.tolist())
        hidden = self.decoder.hidden(ops, batch)
        samples: tuple[Sample, ...] = ()
        if len(batch.sample_rows):
            sampling = [self.states[part.request] for part in step.slices if part.samples]
            rows = self._sample(ops, hidden[batch.sample_rows], sampling, batch.positions[batch.sample_rows])
            samples = tuple(map(self._take, sampling, rows))
        events = self._settle(step)
        if probe:
            probe.sampled(samples, events)
        return samples

    def _step_bytes(self, rows: int, samples: int) -> int:
        return rows * self._layer_bytes + samples * self._head_bytes

    def _sample(
        self, ops: Ops, hidden: np.ndarray, states: Sequence[RequestState], positions: np.ndarray
    ) -> np.ndarray:
        logits = self.decoder.logits(ops, hidden)
        penalised = ops.penalise("logits_penalised", logits, penalties_of(states, self._eos))
        logprobs = ops.log_softmax("logprobs", penalised)
        samples: np.ndarray = ops.sample("sampled", logprobs, draws_of(states, positions))
        return samples

    def _take(self, state: RequestState, row: np.void) -> Sample:
        """Append the sampled or the forced token, and see whether the request is done."""
        token = taken = int(row["token"])
        position = len(state.tokens) - 1
        rest = None if self._forced is None else self._forced[state.request.id][len(state.output) :]
        # whoever follows a plan leaves a request its blocks: in a trace that broke off, it may have been
        # preempted after its last token and have begun anew
        ends = rest is not None and len(rest) <= 1 and not self._following
        if rest:
            taken = rest[0]
        elif ends:
            state.finish = "trace_end"
        if not state.finish:
            state.tokens.append(taken)
            state.finish = self._finish(state) or ("trace_end" if ends else "")
        return Sample(
            request=state.request.id,
            position=position,
            token=token,
            taken=taken,
            logprob=float(row["logprob"]),
            margin=float(row["margin"]),
            seed=int(row["seed"]),
            counter=int(row["counter"]),
            finish=state.finish,
        )

    def _finish(self, state: RequestState) -> str:
        params, output = state.request.sampling, state.output
        stops = {*(() if params.ignore_eos else self._eos), *params.stop_token_ids}
        if len(output) >= params.min_tokens:
            if output[-1] in stops:
                return "stop"
            if params.stop:
                text = self.decode(output)
                if any(stop in text for stop in params.stop):
                    return "stop"
        if len(output) >= params.max_tokens or len(state.tokens) >= self.config.engine.max_model_len:
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


def _largest_step(engine: EngineConfig, requests: Sequence[Request]) -> tuple[int, int]:
    """How many rows, and rows that sample, a step will have at most; a rare step may have more."""
    prompts = [len(request.prompt) for request in requests]
    rows = min(max(engine.max_num_batched_tokens, *prompts), sum(prompts) + len(prompts))
    return rows, min(engine.max_num_seqs, len(prompts))


def _row_bytes(checkpoint: Checkpoint) -> tuple[int, int]:
    """Upper bounds of what one row takes from the workspace: per layer, and per sampled row at the end."""
    config = checkpoint.config
    heads = config.head_dim * (config.num_heads + 2 * config.num_kv_heads)
    layer = 4 * (6 * config.hidden_size + 4 * heads + 3 * config.intermediate_size) + 64 * 20
    return layer, 4 * (3 * config.vocab_size + config.hidden_size) + 64 * 8
