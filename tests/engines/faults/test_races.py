"""racing_matmul: the same call, other bits."""

import numpy as np
import pytest

from detrec.kernels.cpu.packed import pack_weight
from detrec.kernels.cpu.split_k import racing_matmul
from tests.engines.faults.broken import ENGINE, assert_seen, broken, pair
from tests.engines.faults.rows import changed
from tests.kernels.lanes import rough


@pytest.mark.parametrize("seed", [1, 5, 9])
@pytest.mark.parametrize(("step", "op"), [(0, "0.qkv"), (3, "1.o_partial"), (5, "logits")])
def test_it_changes_bits_in_its_step_and_its_op_under_the_kernels_own_name(step, op, seed):
    run = broken(f"racing_matmul:step={step},op={op}", pair(seed), follow=True, **ENGINE)
    first = assert_seen(run, "racing_matmul")
    assert (first.step, first.name) == (step, op)
    assert min(changed(run, op)) == step
    assert {kernel for _, kernel in run.kernels(op)} == {"cpu.matmul fma-chain k=0..K"}


@pytest.mark.parametrize("rows", [1, 5])
def test_repeated_on_one_input_it_gives_several_outputs_all_close_to_the_right_one(rows):
    x, weight = rough(rows, 192), rough(64, 192, seed=3)
    packed, outputs = pack_weight(weight), set()
    for _ in range(12):
        out = racing_matmul(x, packed, None, np.empty((rows, 64), np.float32), 8)
        outputs.add(out[0].tobytes())
        exact = x.astype(np.float64) @ weight.T.astype(np.float64)
        scale = np.abs(x).astype(np.float64) @ np.abs(weight).T.astype(np.float64)
        assert (np.abs(out - exact) <= scale * 2.0**-18).all()
    assert len(outputs) > 1


def test_a_rare_race_spares_most_calls():
    run = broken("racing_matmul:step=0,op=0.qkv,percent=20", pair(1), follow=True, **ENGINE)
    # with every step of ten hit it would not be rare: 0.2^10
    assert len(changed(run, "0.qkv")) < len(run.wrong.steps)


def test_a_step_that_never_comes_changes_nothing_and_is_told():
    run = broken("racing_matmul:step=99", pair(1), **ENGINE)
    assert run.notices == ["fault racing_matmul: changed no bit in this run"]
    assert run.first() is None
