"""KV that a row reads and that is not what it should be: who wrote it, and what."""

from dataclasses import replace

import numpy as np
import pytest

from detrec.config import serve_config
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import record
from detrec.replayer.capture import Capture, Writes
from detrec.replayer.comparison import Comparison
from detrec.replayer.diagnose import Made, find
from detrec.replayer.findings import Cache
from detrec.replayer.replay import replay, replayed_config
from detrec.replayer.rerun import Until, rerun
from detrec.replayer.witnesses import cache_findings, place_of
from tests.engines.small import prompt, request

ENGINE = {
    "max_model_len": 96,
    "max_num_batched_tokens": 32,
    "block_size": 16,
    "enable_prefix_caching": True,
}


@pytest.fixture
def served(tmp_path) -> tuple[TraceReader, TraceReader, Comparison, str]:
    """`a` is over when one of its slots is overwritten, and `c`, which has the same beginning, reads it."""
    shared = prompt(5, 32)
    requests = [
        request("a", [*shared, *prompt(1, 9)], max_tokens=2),
        request("b", prompt(2, 20), 1, max_tokens=9),
        request("c", [*shared, *prompt(3, 5)], 6, max_tokens=3),
    ]
    settings = {"model": "builtin:qwen2-tiny", "engine": ENGINE, "requests": requests}
    recorded, again, fault = str(tmp_path / "recorded"), str(tmp_path / "again"), "phantom_row:step=5,slot=3"
    record(serve_config(settings), recorded)
    done = replay(recorded, again, fault=fault)
    return TraceReader(recorded), TraceReader(again), done.comparison, fault


def test_kv_that_a_hit_served_is_told(served):
    recorded, again, comparison, fault = served
    found = find(recorded, again, comparison, Made(fault=fault))
    assert (found.first.request, found.first.layer, found.first.op) == ("c", 0, "attn")
    assert found.cache == Cache(unequal=1, written_alike=True, first=3, hit=True)


def test_kv_that_was_written_differently_is_not_lost(served):
    recorded, again, comparison, fault = served
    place, config = place_of(recorded, again, comparison), replayed_config(recorded, ())
    sides = []
    for step, broken in ((place.recorded_step, ""), (place.replayed_step, fault)):
        instruments = Capture(place.name, step), Writes(0)
        with rerun(config, Until(recorded, step, fault=broken), *instruments) as side:
            held = side.held(place.name, (place.request, place.position), 0, together=False)
            sides.append((held.moment, side.written(0)))
    (ours, _), (theirs, writes) = sides
    traces = recorded, again
    assert cache_findings(ours, theirs, place, traces, writes).written_alike
    assert len(writes["a", 3]) == 1
    for other in ({**writes, ("a", 3): [1]}, {**writes, ("a", 3): [*writes["a", 3], 1]}, {}):
        assert not cache_findings(ours, theirs, place, traces, other).written_alike
    # what a request wrote that has another beginning is nothing to it
    assert cache_findings(ours, theirs, place, traces, {**writes, ("b", 3): [1]}).written_alike
    narrow = replace(ours, args=(ours.args[0], ours.args[1].astype(np.uint16), *ours.args[2:]))
    assert cache_findings(narrow, theirs, place, traces, writes) is None
