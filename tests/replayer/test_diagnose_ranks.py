"""A run on two ranks replayed on one: found and explained as if it had been recorded there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from detrec.config import serve_config
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import record
from detrec.replayer.compare import compare
from detrec.replayer.explain import explain_traces
from detrec.replayer.replay import Replay, replay
from tests.engines.rank_threads import ranks_as_threads
from tests.engines.small import prompt, request

REQUESTS = [request("a", prompt(1, 20), max_tokens=5), request("b", prompt(2, 9), 1, max_tokens=5)]
ONE_RANK = "engine.tensor_parallel_size=1"


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    with ranks_as_threads():
        yield


def recorded(path: Path, ranks: int, reduction: str) -> str:
    engine = {"tensor_parallel_size": ranks, "reduction": reduction, "max_model_len": 64}
    record(serve_config({"model": "builtin:qwen2-tiny", "engine": engine, "requests": REQUESTS}), str(path))
    return str(path)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run on two ranks whose number changes nothing."""
    return recorded(tmp_path_factory.mktemp("ranks") / "two.zarr", 2, "tp_invariant")


def on_one(trace: str, fault: str = "") -> tuple[Replay, list[str]]:
    said: list[str] = []
    done = replay(trace, overrides=[ONE_RANK], fault=fault, diagnose=True, notify=said.append)
    return done, said


def test_one_rank_gives_the_bits_of_two(two):
    done, _ = on_one(two)
    assert done.comparison.verdict == "identical"
    assert done.comparison.counts.missing == 0
    assert {name.partition(".")[2] for name in done.comparison.incomparable} == {"o_partial", "down_partial"}


@pytest.mark.parametrize(
    ("op", "rank"), [pytest.param("1.attn", None, id="cut"), pytest.param("1.output", 0, id="whole")]
)
def test_a_flipped_bit_is_found_and_known_on_one_rank(two, op, rank):
    done, said = on_one(two, f"bitflip:step=3,op={op}")
    first = done.comparison.first
    place = f"step {first.step}, request {first.request}, position {first.position}, layer 1, op {first.op}"
    assert said == [f"fault bitflip: first bit changed at {place}"]
    assert (first.op, first.rank) == (op[2:], rank)
    assert done.diagnosis.cause == "corruption"
    facts = {evidence.kind: evidence.facts for evidence in done.diagnosis.evidence}
    assert facts["reference"] == {"reproduces": True}
    assert facts["graft"]["replayed_op_on_recorded_inputs"] == "recorded"
    assert facts["ranks"]["sizes"] == [2, 1]


def test_ranks_that_add_in_their_order_are_the_cause_of_other_sums(tmp_path):
    traces = [TraceReader(recorded(tmp_path / f"{ranks}.zarr", ranks, "ranks")) for ranks in (2, 1)]
    found = compare(*traces)
    assert (found.first.step, found.first.layer, found.first.op, found.first.rank) == (0, 0, "o_proj", 0)
    cause = explain_traces(*traces, found)
    assert (cause.cause, cause.rule) == ("collective", "another number of ranks")
    assert cause.summary == "2 ranks recorded it and 1 replayed it: 0.o_proj adds other partial sums"
    # each rank's attention is a part of the one rank's, until a sum differs
    assert found.divergent.op.min() == found.ops.index("0.o_proj")


@pytest.mark.parametrize(
    ("fault", "rank", "rule"),
    [
        pytest.param("autotuned_matmul:op=1.qkv,winner=2,rank=3", None, "another kernel", id="cut"),
        pytest.param("bitflip:step=3,op=1.o_proj,bit=27,rank=3", 3, "one bit, once", id="whole"),
        pytest.param("bitflip:step=3,op=1.o_partial,bit=27,rank=2", 0, "one bit, once", id="summand"),
    ],
)
def test_where_their_number_changes_nothing_ranks_of_another_number_are_looked_at_one_by_one(
    two, fault, rank, rule
):
    done = replay(two, overrides=["engine.tensor_parallel_size=4"], fault=fault, diagnose=True)
    assert done.comparison.first.rank == rank
    assert done.diagnosis.rule == rule
    (ranks,) = (evidence for evidence in done.diagnosis.evidence if evidence.kind == "ranks")
    assert ranks.text.startswith("recorded on 2 ranks, replayed on 4")
    assert f"of 4 ranks only rank {fault[-1]} differs" in ranks.text
