"""silu_by_tanh, wrong_rope_base: other arithmetic, on every row, under the kernel's own name."""

import numpy as np
import pytest

from detrec.engines.faults.numerics import rebased
from detrec.kernels.cpu.rope import inv_freq, rope_tables
from tests.engines.faults.broken import ENGINE, assert_seen, broken, pair
from tests.engines.faults.rows import changed


@pytest.mark.parametrize("seed", [1, 5, 9])
@pytest.mark.parametrize(("step", "op"), [(0, "0.act"), (2, "2.act"), (4, "3.act")])
def test_another_formula_changes_its_op_from_its_step_on(step, op, seed):
    run = broken(f"silu_by_tanh:step={step},op={op}", pair(seed), follow=True, **ENGINE)
    first = assert_seen(run, "silu_by_tanh")
    assert (first.step, first.name) == (step, op)
    assert len({kernel for _, kernel in run.kernels(op)}) == 1
    for right, wrong in zip(run.right.ops[step], run.wrong.ops[step], strict=True):
        if right[0] == op:
            np.testing.assert_allclose(wrong[1], right[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", [1, 5, 9])
@pytest.mark.parametrize(("step", "layer"), [(0, 0), (2, 1), (4, 3)])
def test_another_base_turns_every_row_but_those_at_position_0(step, layer, seed):
    run = broken(f"wrong_rope_base:step={step},layer={layer}", pair(seed), follow=True, **ENGINE)
    first = assert_seen(run, "wrong_rope_base")
    assert (first.step, first.name) == (step, f"{layer}.rope_q")
    expected = {
        each.index: {(part.request, p) for part in each.slices for p in range(max(part.start, 1), part.stop)}
        for each in run.wrong.steps
    }
    if not layer:
        for op in ("0.rope_q", "0.rope_k"):
            assert changed(run, op) == {at: rows for at, rows in expected.items() if at >= step}
    else:
        assert changed(run, f"{layer - 1}.rope_q") == {}


def test_the_turned_tables_are_those_of_the_other_base():
    right, wrong = (rope_tables(inv_freq(theta, 32), 128) for theta in (10000.0, 10100.0))
    for turned, table in zip(rebased(*right, 1.01), wrong, strict=True):
        np.testing.assert_allclose(turned, table, atol=2e-6)
    for turned, table in zip(rebased(*right, 1.01), right, strict=True):
        assert turned[0].tobytes() == table[0].tobytes()
        assert turned[:, 0].tobytes() == table[:, 0].tobytes()
        assert (turned[1:, 1:8] != table[1:, 1:8]).mean() > 0.9


@pytest.mark.parametrize("fault", ["silu_by_tanh:step=99", "wrong_rope_base:step=99"])
def test_a_step_that_never_comes_changes_nothing_and_is_told(fault):
    run = broken(fault, pair(1), **ENGINE)
    assert run.notices == [f"fault {fault.partition(':')[0]}: changed no bit in this run"]
    assert run.first() is None
