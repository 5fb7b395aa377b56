"""autotuned_matmul: one configuration a run, another one in another run."""

import pytest

from detrec.engines.faults import arm
from detrec.engines.faults.tiles import CANDIDATES
from tests.engines.faults.broken import assert_seen, broken
from tests.engines.faults.rows import changed
from tests.engines.small import prompt, request

REQUESTS = [request("a", prompt(1, 24), max_tokens=6), request("b", prompt(2, 17), 1, max_tokens=6)]
ENGINE = {"max_num_batched_tokens": 20}
RIGHT = "cpu.matmul fma-chain k=0..K"


@pytest.mark.parametrize("winner", [1, 4])
@pytest.mark.parametrize(
    ("step", "op", "named"),
    [
        (0, "0.gate_up", ""),
        (3, "2.qkv", ",op=2.qkv"),
        (2, "3.down_partial", ",op=3.down_partial"),
        (1, "logits", ",op=logits"),
    ],
)
def test_every_row_of_its_op_has_the_winners_bits(winner, step, op, named):
    run = broken(f"autotuned_matmul:step={step},winner={winner}{named}", REQUESTS, follow=True, **ENGINE)
    first = assert_seen(run, "autotuned_matmul")
    assert (first.step, first.name) == (step, op)
    leaves = f"cpu.split_k_matmul fma-chain leaves={CANDIDATES[winner - 1]}"
    assert [kernel for at, kernel in run.kernels(op) if at >= step] == [leaves] * sum(
        at >= step for at, _ in run.kernels(op)
    )
    assert {kernel for at, kernel in run.kernels(op) if at < step} <= {RIGHT}
    assert {kernel for _, kernel in run.kernels("1.o_partial")} == {RIGHT}


def test_a_winner_is_stable_within_a_run_and_the_same_whenever_it_is_named():
    one, two = (broken("autotuned_matmul:winner=3", REQUESTS, **ENGINE).wrong for _ in range(2))
    for ours, theirs in zip(one.ops, two.ops, strict=True):
        assert [output.tobytes() for _, output, _ in ours] == [output.tobytes() for _, output, _ in theirs]
    wrong = broken("autotuned_matmul:winner=3", REQUESTS, follow=True, **ENGINE)
    assert set(changed(wrong, "0.gate_up")) == {step.index for step in wrong.wrong.steps}


def test_without_a_name_starts_do_not_agree():
    # 200 starts that pick one of four alike: once in 10^120
    starts = {arm("autotuned_matmul", ("0.gate_up",), print).leaves for _ in range(200)}
    assert starts <= set(CANDIDATES)
    assert len(starts) > 1
