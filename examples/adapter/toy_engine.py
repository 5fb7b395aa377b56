"""The adapter: how detrec records and replays the toy engine.

An adapter decides nothing that the engine decides: it says which tokens a step ran, hooks tell which rows
came out of which module, and a plan's slices are run as they are or refused.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import paddle
from toy_model import LAYERS, Memory, Model

from detrec.config import ServeConfig
from detrec.engines.base import Event, EventKind, Kind, Probe, Rank, Request, Sample, Scheduler, Slice, Step
from detrec.engines.hooks import Hooks, Layout, Tap, Teller
from detrec.errors import ConfigError, ReplayError

# names are the built-in engine's where there is such an op: `level: layer` keeps what is called output
TAPS = [
    Tap("embedding", "embed"),
    *(
        tap
        for layer in range(LAYERS)
        for tap in (
            Tap(f"{layer}.attn", f"layers.{layer}.mix"),
            Tap(f"{layer}.o_proj", f"layers.{layer}.project"),
            Tap(f"{layer}.output", f"layers.{layer}"),
        )
    ),
    Tap("logits", "head"),
]


@dataclass
class State:
    """How far one request has come."""

    request: Request
    tokens: list[int]
    computed: int = 0
    generated: int = 0
    finish: str = ""
    memories: list[Memory] = field(default_factory=lambda: [Memory() for _ in range(LAYERS)])


class ToyEngine:
    """Runs requests greedily on a Model, at most `budget` tokens a step.

    `requests` None means those of `config`, which are bytes; a replay gives those of its trace. `forced`
    gives, by request id, the tokens to go on with whatever is drawn.
    """

    op_names = tuple(tap.op for tap in TAPS)
    rank = Rank()
    device = None
    lasting = False

    def __init__(
        self,
        config: ServeConfig,
        *,
        requests: Sequence[Request] | None = None,
        forced: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        arguments = dict(config.engine.arguments)
        self.budget: int = arguments.pop("budget", 16)
        if arguments:
            raise ConfigError(f"engine: unknown key {next(iter(arguments))!r}", hint="the toy has budget")
        self.requests = tuple(_resolved(config) if requests is None else requests)
        self.states = {request.id: State(request, list(request.prompt)) for request in self.requests}
        self.forced, self._following = forced, False
        self.model = Model()

    def manifest(self) -> dict[str, Any]:
        """What can change bits; of two models, the tensors that differ are named by `tensor_digests`."""
        digests = {
            name: hashlib.blake2b(tensor.numpy().tobytes(), digest_size=16).hexdigest()
            for name, tensor in self.model.state_dict().items()
        }
        whole = hashlib.blake2b("".join(digests.values()).encode(), digest_size=16).hexdigest()
        return {"model_digest": whole, "tensor_digests": digests, "paddle": paddle.__version__}

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`."""
        return bytes(tokens).decode("utf-8", "replace")

    def own_scheduler(self) -> "Own":
        """The toy's own decisions."""
        return Own(self)

    def follow(self, plan: Scheduler) -> "Followed":
        """The steps of `plan`; a request goes on for as long as the plan says."""
        self._following = True
        return Followed(self, plan)

    def run(
        self,
        scheduler: Scheduler,
        probe: Probe | None = None,
        names: Collection[str] = (),
        others: object = None,
    ) -> Iterator[tuple[Step, tuple[Sample, ...]]]:
        """Run every step of `scheduler`; the hooks are there for as long as that."""
        teller = Teller(probe, names) if probe else None
        hooks = Hooks(self.model, TAPS, teller.op if teller else lambda *told: None)
        try:
            while (step := scheduler.next_step()) is not None:
                states = [self.states[part.request] for part in step.slices]
                pairs = list(zip(step.slices, states, strict=True))
                tokens = [token for part, state in pairs for token in state.tokens[part.start : part.stop]]
                drawn = step.sample_rows
                if teller:
                    # no padding: every row that the model runs is one of the step's
                    layout = Layout(step.rows, np.arange(step.rows), len(drawn), np.arange(len(drawn)))
                    teller.begin(step, tokens, layout)
                with hooks.watching(), paddle.no_grad():
                    parts = [(state.memories, part.stop - part.start) for part, state in pairs]
                    logits = self.model(paddle.to_tensor(tokens), parts, list(drawn))
                for part, state in pairs:
                    state.computed = part.stop
                sampling = [state for part, state in pairs if part.samples]
                rows = logits.numpy() if sampling else []
                samples = tuple(self._take(state, row) for state, row in zip(sampling, rows, strict=True))
                if probe:
                    probe.sampled(samples, [_finished(state) for state in sampling if state.finish])
                yield step, samples
        finally:
            hooks.remove()

    def close(self) -> None:
        """Nothing lies outside of this process."""

    def _take(self, state: State, row: np.ndarray) -> Sample:
        """Draw the likeliest token, and go on with the forced one where there is one."""
        wide = row.astype(np.float64)
        logprobs = wide - wide.max() - np.log(np.exp(wide - wide.max()).sum())
        token = int(row.argmax())
        rest = self.forced[state.request.id][state.generated :] if self.forced is not None else []
        state.tokens.append(rest[0] if rest else token)
        state.generated += 1
        if state.generated == state.request.sampling.max_tokens:
            state.finish = "length"
        elif self.forced is not None and len(rest) < 2 and not self._following:
            state.finish = "trace_end"
        return Sample(
            request=state.request.id,
            position=len(state.tokens) - 2,
            token=token,
            taken=state.tokens[-1],
            logprob=float(logprobs[token]),
            margin=float(logprobs[token] - np.delete(logprobs, token).max()),
            seed=0,
            counter=0,
            finish=state.finish,
        )


class Own:
    """Whoever came first runs first, for as many tokens as are left of the step's budget."""

    def __init__(self, engine: ToyEngine) -> None:
        self._engine, self._index = engine, 0

    def next_step(self) -> Step | None:
        """The next step, None where every request has finished."""
        live = [state for state in self._engine.states.values() if not state.finish]
        live.sort(key=lambda state: (state.request.arrival, state.request.id))
        # an idle engine does not wait for the clock
        here = [state for state in live if state.request.arrival <= self._index] or live[:1]
        left, slices = self._engine.budget, []
        for state in here:
            start, known = state.computed, len(state.tokens)
            stop = min(known, start + left)
            if stop > start:
                kind = Kind.PREFILL if start < len(state.request.prompt) else Kind.DECODE
                slices.append(Slice(state.request.id, start, stop, kind, samples=stop == known))
                left -= stop - start
        self._index += 1
        return Step(self._index - 1, tuple(slices)) if slices else None


class Followed:
    """The steps of a plan, each held against what the engine has computed so far."""

    def __init__(self, engine: ToyEngine, plan: Scheduler) -> None:
        self._engine, self._plan = engine, plan

    def next_step(self) -> Step | None:
        """The plan's next step. Raises ReplayError where a slice does not go on where its request is."""
        step = self._plan.next_step()
        for part in step.slices if step else ():
            state = self._engine.states[part.request]
            if part.start != state.computed or part.stop > len(state.tokens):
                raise ReplayError(
                    f"step {step.index}: {part.request} should run tokens {part.start} to {part.stop}, "
                    f"it has computed {state.computed} of {len(state.tokens)}"
                )
        return step


def _resolved(config: ServeConfig) -> Iterator[Request]:
    """The requests of serve.yaml with token ids for texts, and no parameter left open."""
    for request in config.requests:
        if request.sampling.temperature:
            raise ConfigError(f"request {request.id}: sampling.temperature: the toy is greedy, expected 0")
        prompt = request.prompt_token_ids or tuple((request.prompt or "").encode())
        yield Request(request.id, tuple(prompt), replace(request.sampling, seed=0), request.arrival)


def _finished(state: State) -> Event:
    return Event(EventKind.FINISHED, state.request.id, state.generated)
