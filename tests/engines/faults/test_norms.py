"""norm_rows_per_program, norm_padding: one norm, whose lanes follow the number of rows."""

import pytest

from tests.engines.faults.broken import Broken, assert_seen, broken
from tests.engines.faults.rows import changed
from tests.engines.small import prompt, request

# steps of 16, 8, 17, then 2 and 1 rows
ENGINE = {"max_num_batched_tokens": 20}
RIGHT = "cpu.rms_norm lanes=1024 squares=fma (x*rstd)*w"
WRONG = "cpu.rms_norm lanes={} squares=fma (x*rstd)*w"


def run_of(fault: str, seed: int = 1) -> Broken:
    requests = [
        request("a", prompt(seed, 24), max_tokens=8),
        request("b", prompt(seed + 1, 17), 1, max_tokens=9),
    ]
    return broken(fault, requests, follow=True, **ENGINE)


def by_program(rows: int, programs: int) -> int:
    """Lanes: half of 8 for two rows a program, and so on."""
    each = -(-rows // programs)
    return {1: 0, 2: 4, 3: 2, 4: 2}.get(each, 1)


def by_padding(rows: int, multiple: int) -> int:
    missing = (multiple - rows % multiple) % multiple
    return (1, 2, 4)[(missing - 1) % 3] if missing else 0


@pytest.mark.parametrize("seed", [1, 7, 13])
@pytest.mark.parametrize(
    ("fault", "step", "op", "lanes"),
    [
        ("norm_rows_per_program:step=0,op=0.attn_norm", 0, "0.attn_norm", lambda rows: by_program(rows, 1)),
        (
            "norm_rows_per_program:step=2,op=3.mlp_norm,programs=8",
            2,
            "3.mlp_norm",
            lambda r: by_program(r, 8),
        ),
        (
            "norm_rows_per_program:step=1,op=final_norm,programs=2",
            1,
            "final_norm",
            lambda r: by_program(r, 2),
        ),
        ("norm_padding:step=0,op=0.mlp_norm,multiple=32", 0, "0.mlp_norm", lambda rows: by_padding(rows, 32)),
        ("norm_padding", 2, "0.attn_norm", lambda rows: by_padding(rows, 4)),
        ("norm_padding:step=1,op=final_norm,multiple=7", 1, "final_norm", lambda rows: by_padding(rows, 7)),
    ],
)
def test_lanes_follow_the_rows_and_the_first_bit_is_told(fault, step, op, lanes, seed):
    run = run_of(fault, seed)
    first = assert_seen(run, fault.partition(":")[0])
    assert (first.step, first.name) == (step, op)
    kernels = dict(run.kernels(op))
    for each in run.wrong.steps:
        wrong = lanes(each.rows) if each.index >= step else 0
        assert kernels[each.index] == (WRONG.format(wrong) if wrong else RIGHT)
    other = "1.attn_norm" if op != "1.attn_norm" else "0.attn_norm"
    assert {kernel for _, kernel in run.kernels(other)} == {RIGHT}


@pytest.mark.parametrize(
    ("fault", "spared"), [("norm_rows_per_program:step=0,programs=2", 2), ("norm_padding:step=0", 16)]
)
def test_steps_of_some_sizes_are_spared(fault, spared):
    run = run_of(fault)
    # the first norm has the right inputs whatever the fault did before
    rows = changed(run, "0.attn_norm")
    sizes = {step.index: step.rows for step in run.wrong.steps}
    assert rows
    assert spared in sizes.values()
    assert spared not in {sizes[step] for step in rows}


@pytest.mark.parametrize("fault", ["norm_padding:step=99", "norm_rows_per_program:programs=17"])
def test_where_no_batch_is_large_enough_nothing_changes_and_that_is_told(fault):
    run = run_of(fault)
    assert run.notices == [f"fault {fault.partition(':')[0]}: changed no bit in this run"]
    assert run.first() is None
