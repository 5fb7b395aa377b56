"""Running somebody else's decisions: each step of a plan, placed in this engine's own KV blocks.

Decisions are taken as they are or refused with a ReplayError; none is repaired silently.
"""

from collections.abc import Mapping
from dataclasses import replace

from detrec.engines.base import EventKind, Scheduler, Slice, Step
from detrec.engines.builtin.blocks import BlockManager
from detrec.engines.builtin.state import RequestState
from detrec.errors import ReplayError
from detrec.printable import counted


class FollowingScheduler:
    """Places every step of `plan`: preemptions first, then prefix-cache hits, then room for the slices."""

    def __init__(self, plan: Scheduler, states: Mapping[str, RequestState], blocks: BlockManager) -> None:
        self._plan = plan
        self._states = states
        self._blocks = blocks

    def next_step(self) -> Step | None:
        """The plan's next step, with the physical blocks it got here."""
        step = self._plan.next_step()
        if step is None:
            return None
        for event in step.events:
            state = self._state(event.request, step)
            if event.kind == EventKind.PREEMPTED:
                self._blocks.release(event.request)
                state.computed = 0
            elif event.kind == EventKind.HIT:
                self._hit(state, event.tokens, step)
        return replace(step, slices=tuple([self._place(part, step) for part in step.slices]))

    def _state(self, request: str, step: Step) -> RequestState:
        if request not in self._states:
            raise ReplayError(
                f"step {step.index}: the plan names request {request!r}, which the trace does not have"
            )
        return self._states[request]

    def _hit(self, state: RequestState, tokens: int, step: Step) -> None:
        found, size = self._blocks.match(state.tokens), self._blocks.block_size
        # only whole blocks can be shared: the rest of a hit would be read without having been written
        if (
            found < tokens
            or tokens % size
            or not self._blocks.admit(state.request.id, state.tokens, tokens, tokens)
        ):
            raise ReplayError(
                f"step {step.index}: request {state.request.id}: recorded a prefix-cache hit of {tokens} "
                f"tokens, here {found} are cached, in blocks of {size}",
            )
        state.computed = tokens

    def _place(self, part: Slice, step: Step) -> Slice:
        state, table = self._state(part.request, step), self._blocks.tables.get(part.request)
        if part.start != state.computed:
            what = f"does not start where this run stands, at {state.computed}"
            raise _refused(part, step, what)
        if part.stop > len(state.tokens):
            raise _refused(part, step, f"runs past the {counted(len(state.tokens), 'token')} known here")
        if table is None:
            granted = self._blocks.admit(part.request, state.tokens, 0, part.stop)
        else:
            granted = self._blocks.grow(part.request, part.stop)
        if not granted:
            raise _refused(part, step, f"needs more KV blocks than the {self._blocks.free} left here")
        first_block = self._blocks.tables[part.request][part.start // self._blocks.block_size]
        return state.cut(part.stop - part.start, first_block)


def _refused(part: Slice, step: Step, why: str) -> ReplayError:
    return ReplayError(
        f"step {step.index}: request {part.request}: recorded slice [{part.start}, {part.stop}) {why}"
    )
