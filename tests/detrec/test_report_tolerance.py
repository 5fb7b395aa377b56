"""What a report says of runs that are close by sketch."""

import pytest

from detrec.replayer.compare import compare
from detrec.replayer.tolerance import Apart, Tolerance
from detrec.report import to_text
from tests.detrec.compared import STEPS
from tests.replayer.fakes import fake_trace


@pytest.mark.parametrize(
    ("units", "said"),
    [
        pytest.param(0.0, ["  sketch     7 are equal"], id="equal"),
        pytest.param(
            2.5,
            [
                "  sketch     7 within tolerance; the nearest to it at "
                "step 0, request r0, position 1, op logits",
                "             2.5 units of float32 rounding apart, 16 at most expected",
            ],
            id="apart",
        ),
    ],
)
def test_a_distance_is_told_where_there_is_one(units, said):
    worst = Apart(step=0, request="r0", position=1, layer=None, op="logits", units=units, allowed=16.0)
    tolerance = Tolerance("close", "float32", 2.0**-24, 7, 0, None, worst)
    lines = to_text(compare(fake_trace(STEPS), fake_trace(STEPS)), seconds=0.5, tolerance=tolerance)
    assert lines.splitlines()[1 : 1 + len(said)] == said
