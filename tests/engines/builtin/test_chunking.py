"""Where prompts are cut: FastDeploy's aligned rule, and what it leaves open."""

import pytest

from detrec.engines.builtin.chunking import aligned, greedy, whole


@pytest.mark.parametrize(
    ("position", "remaining", "budget", "count"),
    [
        pytest.param(0, 40, 40, 32, id="an exact fit is still cut"),
        pytest.param(0, 40, 48, 40, id="room up to the next boundary takes the end"),
        pytest.param(0, 40, 31, 16, id="one boundary fits"),
        pytest.param(0, 40, 15, 0, id="no boundary fits"),
        pytest.param(10, 40, 5, 0, id="next boundary just out of reach"),
        pytest.param(10, 40, 6, 6, id="next boundary just in reach"),
        pytest.param(10, 40, 22, 22, id="two boundaries"),
        pytest.param(96, 10, 5, 0, id="a short tail is deferred, not cut off its boundary"),
        pytest.param(96, 10, 10, 10, id="a short tail that fits"),
        pytest.param(90, 10, 6, 6, id="a short tail across a boundary stops at it"),
    ],
)
def test_aligned_cuts(position, remaining, budget, count):
    assert aligned(16)(position, remaining, budget, False) == count


def test_aligned_cuts_end_on_a_boundary_or_at_the_end():
    for split in (1, 4, 16):
        rule = aligned(split)
        for position in range(0, 40, 3):
            for remaining in range(1, 40):
                for budget in range(60):
                    count = rule(position, remaining, budget, True)
                    assert 0 <= count <= min(remaining, budget)
                    assert count in (0, remaining) or (position + count) % split == 0
                    # whoever stands on a boundary can always go on when one split fits
                    if budget >= split and position % split == 0:
                        assert count > 0


def test_greedy_takes_what_it_can():
    assert greedy(5, 40, 17, False) == 17


def test_whole_prompts_wait_unless_they_are_alone():
    assert whole(0, 40, 39, False) == 0
    assert whole(0, 40, 39, True) == 40
    assert whole(0, 40, 40, False) == 40
