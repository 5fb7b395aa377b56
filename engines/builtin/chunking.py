"""Where a prompt is cut when it does not fit one step.

Deterministic cuts fall on multiples of `split`, or at the prompt's end. The rule is that of FastDeploy's
deterministic mode (PR #6476) without its unaligned tail: where a chunk would end off a multiple and short
of the prompt's end, it is deferred instead.
"""

from collections.abc import Callable

ChunkRule = Callable[[int, int, int, bool], int]
"""(position, remaining tokens, budget, first prefill of the step) -> tokens to run now, 0 to defer."""


def aligned(split: int) -> ChunkRule:
    """Cut at multiples of `split`; an exact fit of a whole split or more is cut too, as FastDeploy does."""

    def rule(position: int, remaining: int, budget: int, first: bool) -> int:
        if remaining < split and remaining <= budget:
            return remaining
        end = (position + budget) // split * split
        return min(max(end - position, 0), remaining)

    return rule


def greedy(position: int, remaining: int, budget: int, first: bool) -> int:
    """Use the whole budget, wherever that cuts: what `deterministic: false` does."""
    return min(remaining, budget)


def whole(position: int, remaining: int, budget: int, first: bool) -> int:
    """Never cut: run all of it when it fits, or when it is alone."""
    return remaining if remaining <= budget or first else 0
