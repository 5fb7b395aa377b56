"""transformers' own batches, one at a time: what its scheduler decided, as a Step, and what it drew.

The processor of continuous batching is driven in this thread, through the three calls that its own thread
makes for a step. It decides everything; this only asks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detrec.engines.base import Event, EventKind, Step
from detrec.engines.builtin.state import RequestState
from detrec.engines.hooks import Layout
from detrec.engines.transformers import library
from detrec.errors import ConfigError, DetrecError, EngineError


@dataclass(frozen=True, slots=True)
class Batch:
    """A step that is about to run, the input token ids of its rows, and where the rows lie."""

    step: Step
    tokens: list[int]
    layout: Layout


class Batches:
    """The batches of `model` over the requests that are admitted; `states` follow them.

    `config` is a ContinuousBatchingConfig. EngineError where the installed transformers lacks a part.
    """

    def __init__(self, model: Any, config: Any, states: Mapping[str, RequestState]) -> None:
        transformers = library.module("transformers")
        # requests have their own ends: -1 is no token
        greedy = library.part(transformers, "GenerationConfig")(do_sample=False, eos_token_id=-1)
        self._model, self._states = model, states
        attention = model.config._attn_implementation
        if not hasattr(config, "auto_switch_to_flash") and not attention.startswith("paged|"):
            # 5.17 takes flash attention wherever it is installed, whatever was asked for
            library.part(model, "set_attn_implementation")(f"paged|{attention}")
        try:
            with library.within_memory("transformers' KV cache"):
                self._build(library.part(model, "init_continuous_batching"), greedy, config)
        except ValueError as error:
            raise ConfigError(f"engine: transformers refuses its configuration: {error}") from None
        self._manager.batch_processor = self._processor
        for name in ("prepare_next_batch", "_generation_step", "update_batch"):
            library.part(self._processor, name)
        self.scheduler = library.part(self._processor, "scheduler")
        for name in ("waiting_requests", "active_requests", "cache"):
            library.part(self.scheduler, name)
        self.resolved = library.part(self._manager, "continuous_batching_config")
        self._index = 0

    def _build(self, start: Callable[..., Any], greedy: Any, config: Any) -> None:
        self._manager = start(generation_config=greedy, continuous_batching_config=config)
        self._processor = library.part(self._manager, "_create_batch_processor")()

    @property
    def stream(self) -> int:
        """The handle of the CUDA stream that the model runs in; transformers makes one of its own."""
        host = library.part(self._processor, "inputs_and_outputs")
        stream = library.part(host, "compute_stream")
        return 0 if stream is None else int(stream.cuda_stream)

    def admit(self, request: str, limit: int, eos: Sequence[int]) -> None:
        """From now on `request` may run, for at most `limit` tokens or until one of `eos`."""
        self._manager.add_request(
            list(self._states[request].request.prompt),
            request_id=request,
            max_new_tokens=limit,
            eos_token_id=list(eos) or [-1],
        )

    def prepare(self) -> Batch | None:
        """What runs next; None where nothing is left to run."""
        try:
            with library.within_memory("a batch"):
                ready = self._processor.prepare_next_batch()
        except DetrecError:
            raise
        except RuntimeError as error:
            raise EngineError(
                f"step {self._index}: transformers cannot go on: {error}",
                hint="raise engine.num_blocks: a request must fit into the KV cache",
            ) from None
        if not ready:
            return None
        host = self._processor.inputs_and_outputs
        futures = library.part(host, "requests_in_batch")
        events = self._preempted()
        slices = []
        for future in futures:
            state = self._states[future.state.request_id]
            start = future.state.position_offset - future.query_length
            events += self._moved(state, start)
            part = state.cut(future.query_length, -1)
            if part.samples != future.has_new_token or part.stop > len(state.tokens):
                raise EngineError(
                    f"step {self._index}: request {part.request}: transformers runs [{part.start}, "
                    f"{part.stop}) of {len(state.tokens)} known tokens, and says new token: "
                    f"{future.has_new_token}"
                )
            slices.append(part)
        step = Step(self._index, tuple(slices), tuple(events))
        self._index += 1
        return Batch(step, self._checked(step, host), self._layout(step, host))

    def compute(self) -> None:
        """Run the batch that was prepared."""
        with library.module("torch").no_grad(), library.within_memory("a forward pass"):
            self._processor._generation_step(self._model)

    def settle(self, step: Step, take: Callable[[str, int], int]) -> dict[str, tuple[int, int]]:
        """Let transformers account for the step: by request, the token drawn and the one it goes on with.

        `take(request, drawn)` says which that is.
        """
        host = self._processor.inputs_and_outputs
        _, drawn, _ = host.prepare_batch_update()
        sampling = [part.request for part in step.slices if part.samples]
        taken = {
            name: (token, take(name, token))
            for name, token in zip(sampling, drawn[: len(sampling)], strict=True)
        }
        update = type(host).prepare_batch_update

        def replaced() -> Any:
            requests, tokens, logprobs = update(host)
            tokens[: len(sampling)] = [taken[name][1] for name in sampling]
            return requests, tokens, logprobs

        host.prepare_batch_update = replaced
        try:
            self._processor.update_batch()
        finally:
            del host.prepare_batch_update
        for part in step.slices:
            self._states[part.request].computed = part.stop
        return taken

    def running(self, request: str) -> bool:
        """Whether transformers has not finished `request`."""
        return request in self.scheduler.active_requests or request in self.scheduler.waiting_requests

    def stop(self) -> None:
        """Nothing runs between two steps."""

    def _preempted(self) -> list[Event]:
        """Requests that were put back to wait, their KV given up."""
        found = []
        for name in self.scheduler.waiting_requests:
            state = self._states[name]
            if state.computed:
                found.append(Event(EventKind.PREEMPTED, name, state.computed))
                state.computed = 0
        return found

    def _moved(self, state: RequestState, start: int) -> list[Event]:
        """What happened to a request that runs from `start`: preempted and begun anew, or given cached KV."""
        found = []
        if start < state.computed:
            found.append(Event(EventKind.PREEMPTED, state.request.id, state.computed))
            state.computed = 0
        if start > state.computed:
            if state.computed:
                raise EngineError(
                    f"step {self._index}: request {state.request.id} runs from {start}, "
                    f"but only {state.computed} tokens were computed"
                )
            found.append(Event(EventKind.HIT, state.request.id, start))
            state.computed = start
        return found

    def _checked(self, step: Step, host: Any) -> list[int]:
        """The input tokens, once they and their positions are what the slices say.

        On a GPU, reading them also waits for the stream that transformers writes a step's inputs in: the
        model's own stream does not.
        """
        known: list[int] = []
        places: list[int] = []
        for part in step.slices:
            known += self._states[part.request].tokens[part.start : part.stop]
            places += range(part.start, part.stop)
        for name, expected in (("input_ids", known), ("position_ids", places)):
            found = library.part(host, name).reshape(-1)[: step.rows].tolist()
            if found != expected:
                row = next(row for row in range(step.rows) if found[row] != expected[row])
                raise EngineError(
                    f"step {step.index}: row {row}: {name} is {found[row]}, expected {expected[row]}",
                    hint=f"detrec's adapter was tried with transformers {library.TRIED}",
                )
        return known

    def _layout(self, step: Step, host: Any) -> Layout:
        launched = library.part(host, "num_q_tokens")
        return Layout(launched, np.arange(step.rows), len(step.slices), np.arange(len(step.sample_rows)))
