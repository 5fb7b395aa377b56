"""A divergence on one rank alone: found on that rank, and looked into there."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detrec.config import serve_config
from detrec.engines.builtin.cut import Cut
from detrec.engines.builtin.seeded import SeededCheckpoint
from detrec.engines.faults import FAULTS
from detrec.engines.faults.base import Fault
from detrec.engines.ops import Ops
from detrec.kernels.cpu.packed import PANEL, PackedWeight
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import record
from detrec.replayer.compare import compare
from detrec.replayer.explain import explain_traces
from detrec.replayer.replay import Replay, replay
from tests.engines.rank_threads import ranks_as_threads
from tests.engines.small import prompt, request

REQUESTS = [request("a", prompt(1, 40), max_tokens=6), request("b", prompt(2, 15), 1, max_tokens=6)]
ENGINE = {"max_model_len": 64, "max_num_batched_tokens": 32, "block_size": 8, "split_kv_size": 8}


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    with ranks_as_threads():
        yield


def recorded(path: Path, ranks: int, level: str = "op") -> str:
    data = {"engine": {**ENGINE, "tensor_parallel_size": ranks}, "record": {"level": level}}
    record(serve_config({"model": "builtin:qwen2-tiny", "requests": REQUESTS, **data}), str(path))
    return str(path)


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> dict[object, str]:
    """On two and four ranks, and on two at level layer."""
    folder = tmp_path_factory.mktemp("ranks")
    made: dict[object, str] = {ranks: recorded(folder / f"{ranks}.zarr", ranks) for ranks in (2, 4)}
    return made | {"layer": recorded(folder / "layer.zarr", 2, "layer")}


def explained(trace: str, fault: str, **more: str) -> Replay:
    """Replayed with a fault that is found exactly where it says, its rank included."""
    said: list[str] = []
    done = replay(trace, fault=fault, diagnose=True, notify=said.append, **more)
    first, diagnosis = done.comparison.first, done.diagnosis
    assert first is not None
    assert diagnosis is not None
    (told,) = said
    # a trace of layers has it at the end of its layer
    if "1.attn" in TraceReader(trace).ops:
        layer = "" if first.layer is None else f"layer {first.layer}, "
        place = f"step {first.step}, request {first.request}, position {first.position}, "
        assert told.endswith(f" at {place}{layer}op {first.op}, rank {first.rank}")
    return done


ON_TWO = [
    pytest.param(2, 1, "attention_backend:layer=1", "kernel-choice", "another kernel", id="attention"),
    pytest.param(2, 1, "split_k_by_batch:step=0", "reduction-order", "batch-variant op", id="order"),
    pytest.param(2, 1, "bitflip:step=3,op=1.o_proj,bit=27", "corruption", "one bit, once", id="a sum"),
    pytest.param(2, 1, "silu_by_tanh:op=2.act", "numerics", "other arithmetic", id="arithmetic"),
]
ON_BOTH = [
    pytest.param(ranks, rank, fault, cause, rule, id=f"{name} of {ranks}")
    for ranks, rank in ((2, 1), (4, 2))
    for fault, cause, rule, name in (
        ("autotuned_matmul:winner=3", "kernel-choice", "another kernel", "kernel"),
        ("weight_bitflip:step=2,bit=20", "corruption", "one bit of a weight", "weight"),
        ("wrong_block:step=1,request=a", "cache", "lost KV", "KV"),
        ("racing_matmul:step=2", "race", "unstable op", "race"),
    )
]


@pytest.mark.parametrize(("ranks", "rank", "fault", "cause", "rule"), [*ON_TWO, *ON_BOTH])
def test_what_is_wrong_on_one_rank_is_known_there(traces, ranks, rank, fault, cause, rule):
    done = explained(traces[ranks], f"{fault},rank={rank}")
    assert done.comparison.first.rank == rank
    assert (done.diagnosis.cause, done.diagnosis.rule) == (cause, rule)
    facts = {evidence.kind: evidence.facts for evidence in done.diagnosis.evidence}
    assert facts["reference"] == {"reproduces": True}
    assert facts["ranks"]["differ"] == [rank]


def test_a_weight_is_named_by_its_place_in_the_whole_tensor(traces):
    # of down_proj, [128, 256], rank 2 of 4 has columns 128 to 191
    fault = f"weight_bitflip:step=2,op=3.down_partial,bit=20,element={7 * 64 + 5},rank=2"
    summary = explained(traces[4], fault).diagnosis.summary
    place = 7 * 256 + 128 + 5
    assert summary == f"bit 20 of element {place} of model.layers.3.mlp.down_proj.weight is flipped"


@pytest.mark.parametrize(
    ("op", "first"),
    [
        pytest.param("1.act", "act", id="a share"),
        pytest.param("1.o_partial", "o_partial", id="a summand"),
        pytest.param("1.down_proj", "down_proj", id="a sum"),
    ],
)
def test_a_trace_of_layers_is_narrowed_down_to_the_op_and_the_rank(traces, op, first, tmp_path):
    done = explained(traces["layer"], f"bitflip:step=3,op={op},bit=27,rank=1", keep_tensors=str(tmp_path))
    # whatever differs in one summand differs in the sum, on every rank
    assert (done.comparison.first.layer, done.comparison.first.op) == (1, "output")
    assert (done.diagnosis.cause, done.diagnosis.rule) == ("corruption", "one bit, once")
    assert done.diagnosis.summary.startswith(f"one bit of the output of 1.{first} was flipped")
    facts = {evidence.kind: evidence.facts for evidence in done.diagnosis.evidence}
    assert facts["ranks"]["differ"] == [1]
    assert facts["ranks"]["equal_partials"] is (True if first == "down_proj" else None)
    assert (tmp_path / "replayed.output.npy").exists()


def test_two_traces_alone_send_to_a_replay_whatever_the_rank(traces, tmp_path):
    path = str(tmp_path / "again.zarr")
    replay(traces[2], path, fault="silu_by_tanh:rank=1")
    sides = TraceReader(traces[2]), TraceReader(path)
    found = explain_traces(*sides, compare(*sides))
    assert (found.cause, found.summary) == (
        "unknown",
        "of 2 ranks only rank 1 had other bits in 0.act: memory, weights or processor there",
    )
    assert "needed" in {evidence.kind for evidence in found.evidence}


class TableBit(Fault):
    """A bit of rank 1's part of the output layer turns before step 1: all ranks have its logits."""

    name, cause, least_ranks = "table_bit", "corruption", 2
    summary = source = ""
    row, column, bit = 86, 5, 21

    def equip(self, ops: Ops) -> Ops:
        """Turn it in place, once."""
        turned: list[str] = []

        def matmul(name: str, x: np.ndarray, weight: PackedWeight, bias: np.ndarray | None) -> np.ndarray:
            here = self.group is not None and self.group.rank == 1
            if here and self._now.index == 1 and name == "logits" and not turned:
                turned.append(name)
                words = weight.panels.view(np.uint32)
                words[self.row // PANEL, self.column, self.row % PANEL] ^= np.uint32(1 << self.bit)
            output: np.ndarray = ops.matmul(name, x, weight, bias)
            return output

        matmul.kernel = ops.matmul.kernel
        return replace(ops, matmul=matmul)


def test_what_one_rank_brought_to_all_is_found_whichever_rank_shows_it(traces, monkeypatch):
    monkeypatch.setitem(FAULTS, TableBit.name, TableBit)
    done = replay(traces[2], fault=TableBit.name, diagnose=True)
    first = done.comparison.first
    # rank 0 is the first that has the logits of rank 1
    assert (first.step, first.op, first.rank) == (1, "logits", 0)
    assert (done.diagnosis.cause, done.diagnosis.rule) == ("corruption", "one bit of a weight")
    model = SeededCheckpoint("qwen2-tiny").config
    element = (Cut(model, 1, 2).vocab_part + TableBit.row) * model.hidden_size + TableBit.column
    tensor = "model.embed_tokens.weight"
    assert done.diagnosis.summary == f"bit {TableBit.bit} of element {element} of {tensor} is flipped"
    facts = {evidence.kind: evidence.facts for evidence in done.diagnosis.evidence}
    assert facts["graft"]["unequal_inputs"] == ["weight"]
