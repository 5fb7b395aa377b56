"""A fault on one rank of several: there it acts, the others compute as ever, and rank 0 tells where."""

import pytest

from detrec.engines.builtin.model import op_names
from detrec.engines.builtin.seeded import SeededCheckpoint
from detrec.engines.faults import FAULTS, arm, check_ranks
from detrec.engines.faults.base import Sighting
from detrec.engines.faults.one_rank import OnOneRank
from detrec.errors import ConfigError
from tests.engines.rank_threads import told_by_ranks
from tests.engines.small import Told, prompt, request

OPS = tuple(op_names(SeededCheckpoint("qwen2-tiny").config))
REQUESTS = [request("a", prompt(1, 20), max_tokens=5), request("b", prompt(2, 9), 1, max_tokens=5)]
ENGINE = {"max_num_batched_tokens": 16}


def run(fault: str = "", ranks: int = 2) -> tuple[list[Told], list[str]]:
    """What each rank tells, and what rank 0 is told of the fault."""
    notices: list[str] = []
    return told_by_ranks(ranks, REQUESTS, fault=fault, notify=notices.append, **ENGINE), notices


@pytest.fixture(scope="module")
def right() -> list[Told]:
    return run()[0]


def first(right: Told, wrong: Told) -> tuple[int, str] | None:
    """Step and op of the first output that has other bits."""
    for index, (before, after) in enumerate(zip(right.ops, wrong.ops, strict=True)):
        for (name, output, _), (_, other, _) in zip(before, after, strict=True):
            if output.tobytes() != other.tobytes():
                return index, name
    return None


@pytest.mark.parametrize(
    ("fault", "step", "op", "rank"),
    [
        pytest.param("bitflip:step=2,op=1.attn", 2, "1.attn", 0, id="an output of rank 0"),
        pytest.param("bitflip:step=2,op=1.attn", 2, "1.attn", 1, id="an output"),
        pytest.param("bitflip:step=2,op=1.o_proj,bit=27", 2, "1.o_proj", 1, id="what it made of a sum"),
        pytest.param("weight_bitflip:step=1,op=0.o_partial,bit=20", 1, "0.o_partial", 1, id="a weight"),
        pytest.param("autotuned_matmul:step=1,op=2.qkv,winner=2", 1, "2.qkv", 0, id="a kernel of rank 0"),
        pytest.param("misplaced_write:step=2,request=a", 2, "0.attn", 1, id="a slot"),
    ],
)
def test_only_that_rank_has_other_bits_where_it_says(right, fault, step, op, rank):
    wrong, notices = run(f"{fault},rank={rank}")
    assert first(right[rank], wrong[rank]) == (step, op)
    # the other one has them by the next sum over ranks, which comes later
    after = first(right[1 - rank], wrong[1 - rank])
    assert after is None or (after[0], OPS.index(after[1])) > (step, OPS.index(op))
    (told,) = notices
    assert told.startswith(f"fault {fault.partition(':')[0]}: first bit changed at step {step}, ")
    assert told.endswith(f", op {op.rpartition('.')[2]}, rank {rank}")


def test_one_that_never_acted_says_so_and_of_one_rank_there_is_nothing_to_ask():
    assert run("bitflip:step=99,rank=1")[1] == ["fault bitflip: changed no bit in this run"]
    notices = run("bitflip:step=2,op=1.attn,rank=0", ranks=1)[1]
    assert [text.rpartition(", ")[2] for text in notices] == ["rank 0"]


def test_a_place_names_its_rank_where_it_has_one():
    assert str(Sighting(3, "a", 7, "1.attn")) == "step 3, request a, position 7, layer 1, op attn"
    assert str(Sighting(3, "a", 7, "logits", 0)) == "step 3, request a, position 7, op logits, rank 0"


ALL_DO = "does not do {} by itself: all ranks do, and go on with one result"
REFUSED = [
    pytest.param("bitflip:rank=2", "rank: expected 0 to 1, got 2", "engine.tensor_parallel_size", id="none"),
    pytest.param("bitflip:rank=1,op=logprobs", ALL_DO.format("logprobs"), "name an op", id="what is drawn"),
    pytest.param(
        "weight_bitflip:rank=1,op=embedding", ALL_DO.format("embedding"), "name an op", id="a cut table"
    ),
    pytest.param("bitflip", "acts on one rank, got engine.tensor_parallel_size: 2", "rank=1", id="all"),
]


@pytest.mark.parametrize(("text", "message", "hint"), REFUSED)
def test_what_one_rank_cannot_have_is_refused(text, message, hint):
    with pytest.raises(ConfigError) as refused:
        check_ranks(arm(text, OPS, print), 2)
    assert str(refused.value).startswith("--fault ")
    assert str(refused.value).endswith(message)
    assert hint in refused.value.hint


def test_a_fault_that_all_ranks_must_have_has_no_rank():
    for name in ("seed_drift", "early_eviction", "allreduce_arrival_order", "unaligned_chunk"):
        with pytest.raises(ConfigError, match="'rank=0' is not a parameter"):
            arm(f"{name}:rank=0", OPS, print)
    with pytest.raises(ConfigError, match=r"rank: expected 0 to .*, got -1"):
        arm("bitflip:rank=-1", OPS, print)


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.one_rank])
def test_of_one_rank_a_fault_on_it_is_the_same_fault(name):
    armed = arm(f"{name}:step=3,rank=0", OPS, print)
    assert isinstance(armed, OnOneRank)
    assert (type(armed.fault), armed.name, armed.fault.from_step) == (FAULTS[name], name, 3)
    check_ranks(armed, 1)
