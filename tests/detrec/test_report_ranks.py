"""What a report says of runs on several ranks, to a reader and to a program."""

import json

from detrec.replayer.compare import compare
from detrec.report import to_json, to_text
from tests.replayer.parallel import parallel_trace


def test_other_numbers_of_ranks_in_text_and_json():
    replayed = parallel_trace(2)
    replayed.change("r0", 4, "0.attn", rank=1)
    replayed.change("r0", 5, "0.output", rank=1)
    found = compare(parallel_trace(1), replayed)
    lines = to_text(found, seconds=0.5).splitlines()
    assert (
        lines[0] == "diverged: first at step 1, request r0, position 4, layer 0, op attn, the sum over ranks"
    )
    assert lines[3:5] == [
        "  ranks      replayed: ranks disagree first at step 2, request r0, position 5, layer 0, op output: "
        "rank 1 has not what rank 0 has",
        "  ranks      o_partial: summands of other ranks, not comparable (13 cells)",
    ]
    data = json.loads(json.dumps(to_json(found, trace="a", replayed="b", seconds=0.5)))
    assert data["first"]["rank"] is None
    assert data["ranks"] == {
        "recorded": None,
        "replayed": {"step": 2, "request": "r0", "position": 5, "layer": 0, "op": "output", "rank": 1},
        "incomparable": ["o_partial"],
    }


def test_of_one_rank_nothing_is_said_of_ranks():
    found = compare(parallel_trace(1), parallel_trace(1))
    assert "rank" not in to_text(found, seconds=0.5)
    assert "ranks" not in to_json(found, trace="a", replayed="b", seconds=0.5)


def test_equal_runs_on_several_ranks_say_on_how_many_their_fingerprints_are():
    found = compare(parallel_trace(2), parallel_trace(2))
    assert to_text(found, seconds=0.5).splitlines()[0].endswith(" ops on 2 ranks are equal")
