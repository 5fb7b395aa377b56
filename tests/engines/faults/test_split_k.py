"""split_k_by_batch: one matmul, from one step on, in small steps only."""

import pytest

from tests.engines.faults.broken import assert_seen, broken
from tests.engines.small import prompt, request

# steps of 16, 8 and 1 + 16 rows, then of two
REQUESTS = [request("a", prompt(1, 24), max_tokens=8), request("b", prompt(2, 17), 1, max_tokens=8)]
ENGINE = {"max_num_batched_tokens": 20}
RIGHT, WRONG = "cpu.matmul fma-chain k=0..K", "cpu.split_k_matmul fma-chain leaves={}"


@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize(
    ("parameters", "step", "op"),
    [
        pytest.param("", 2, "1.qkv", id="as it comes"),
        pytest.param(":step=0,op=0.gate_up,splits=2", 0, "0.gate_up", id="from the start"),
        pytest.param(":step=5,op=3.down_partial", 5, "3.down_partial", id="later"),
        pytest.param(":step=1,op=logits", 1, "logits", id="where tokens are drawn"),
        pytest.param(":step=1,op=2.o_partial,splits=1024", 1, "2.o_partial", id="more leaves than numbers"),
    ],
)
def test_the_first_bit_is_where_it_says(follow, parameters, step, op):
    run = broken(f"split_k_by_batch{parameters}", REQUESTS, follow=follow, **ENGINE)
    first = assert_seen(run, "split_k_by_batch")
    assert (first.step, first.name) == (step, op)


def test_the_kernel_is_the_wrong_one_from_its_step_on_in_steps_of_fewer_rows_and_in_its_op_alone():
    run = broken("split_k_by_batch:step=1,op=1.qkv,rows=16,splits=3", REQUESTS, follow=True, **ENGINE)
    rows = [step.rows for step in run.wrong.steps]
    assert rows[:3] == [16, 8, 17]
    expected = [WRONG.format(3) if index and count < 16 else RIGHT for index, count in enumerate(rows)]
    assert [kernel for _, kernel in run.kernels("1.qkv")] == expected
    assert {kernel for _, kernel in run.kernels("1.gate_up") + run.kernels("0.qkv")} == {RIGHT}
    assert assert_seen(run, "split_k_by_batch").step == 1


def test_a_step_that_never_comes_changes_nothing_and_is_told():
    run = broken("split_k_by_batch:step=99", REQUESTS, **ENGINE)
    assert run.notices == ["fault split_k_by_batch: changed no bit in this run"]
    assert run.first() is None
