"""The engine's own policy: continuous batching, first come first served, preemption by recompute.

Nothing is drawn at random: priority is arrival, then request id. The request with the highest priority can
always run, because whoever came later gives up its blocks; so nothing starves.
"""

from collections.abc import Mapping

from detrec.config import EngineConfig
from detrec.engines.base import Event, EventKind, Kind, Slice, Step
from detrec.engines.builtin.blocks import BlockManager
from detrec.engines.builtin.chunking import ChunkRule, aligned, greedy, whole
from detrec.engines.builtin.state import RequestState


def chunk_rule(config: EngineConfig) -> ChunkRule:
    """The rule by which `config` cuts prompts."""
    if not config.enable_chunked_prefill:
        return whole
    return aligned(config.split_kv_size) if config.deterministic else greedy


class FcfsScheduler:
    """Decodes first, then prefills under way, then new requests, each in order of priority."""

    def __init__(
        self, config: EngineConfig, states: Mapping[str, RequestState], blocks: BlockManager, rule: ChunkRule
    ) -> None:
        self._config = config
        self._blocks = blocks
        self._rule = rule
        self._waiting = sorted(states.values(), key=lambda state: state.priority)
        self._running: list[RequestState] = []
        self._index = 0

    def next_step(self) -> Step | None:
        """Decide the next step and take the blocks it needs."""
        self._running = [state for state in self._running if not state.finish]
        if not self._running and not self._waiting:
            return None
        plan = _Plan(self._config.max_num_batched_tokens)
        decodes: list[RequestState] = []
        prefills: list[RequestState] = []
        for state in self._running:
            (decodes if state.decoding else prefills).append(state)
        for state in decodes:
            # whoever was preempted for an earlier one runs no more
            preempted = plan.preempted and state not in self._running
            if not preempted and plan.budget and self._make_room(state, 1, plan):
                plan.add(state, 1, self._blocks)
        self._continue_prefills(prefills, plan)
        if not plan.preempted and not plan.deferred:
            self._admit(plan)
        assert plan.slices, "a step without rows: the first request in line could not run"
        step = Step(self._index, tuple(plan.slices.values()), tuple(plan.events))
        self._index += 1
        return step

    def _continue_prefills(self, prefills: list[RequestState], plan: "_Plan") -> None:
        for state in prefills:
            if state not in self._running:
                continue
            count = self._rule(state.computed, state.remaining, plan.budget, plan.first_prefill)
            if not count:
                # whoever came later must not overtake it
                plan.deferred = True
                return
            if self._make_room(state, count, plan):
                plan.add(state, count, self._blocks)

    def _make_room(self, state: RequestState, count: int, plan: "_Plan") -> bool:
        """Grow `state` by `count` tokens, preempting whoever came after it; False: it waits a step."""
        while not self._blocks.grow(state.request.id, state.computed + count):
            victim = self._running[-1]
            if victim is state:
                return False
            self._preempt(victim, plan)
        return True

    def _preempt(self, victim: RequestState, plan: "_Plan") -> None:
        plan.drop(victim)
        plan.events.append(Event(EventKind.PREEMPTED, victim.request.id, victim.computed))
        plan.preempted = True
        self._blocks.release(victim.request.id)
        victim.computed = 0
        self._running.remove(victim)
        self._waiting = sorted([*self._waiting, victim], key=lambda state: state.priority)

    def _admit(self, plan: "_Plan") -> None:
        clock = self._index
        if not self._running and not any(state.request.arrival <= clock for state in self._waiting):
            # an idle engine does not wait for the clock
            clock = self._waiting[0].request.arrival
        for state in [state for state in self._waiting if state.request.arrival <= clock]:
            if len(self._running) >= self._config.max_num_seqs:
                return
            cached = self._blocks.match(state.tokens)
            count = self._rule(cached, len(state.tokens) - cached, plan.budget, plan.first_prefill)
            if not count or not self._blocks.admit(state.request.id, state.tokens, cached, cached + count):
                return
            if cached:
                plan.events.append(Event(EventKind.HIT, state.request.id, cached))
            state.computed = cached
            self._waiting.remove(state)
            self._running = sorted([*self._running, state], key=lambda state: state.priority)
            plan.add(state, count, self._blocks)


class _Plan:
    """A step under construction."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.slices: dict[str, Slice] = {}
        self.events: list[Event] = []
        self.preempted = False
        self.deferred = False
        self.first_prefill = True

    def add(self, state: RequestState, count: int, blocks: BlockManager) -> None:
        name = state.request.id
        part = state.cut(count, blocks.tables[name][state.computed // blocks.block_size])
        self.slices[name] = part
        # a whole prompt may exceed the budget when it runs alone
        self.budget = max(self.budget - count, 0)
        self.first_prefill = self.first_prefill and part.kind is Kind.DECODE

    def drop(self, state: RequestState) -> None:
        part = self.slices.pop(state.request.id, None)
        if part is not None:
            self.budget += part.stop - part.start
