"""One op by itself: any rows of any op of the clean engine give the bits that they had in their batch."""

from dataclasses import replace

import numpy as np
import pytest

from detrec.engines.ops import Ops
from detrec.replayer.arguments import ARGUMENTS, Given, subset, transplanted, unequal_inputs
from detrec.replayer.experiments import (
    TIMES,
    Held,
    company,
    given,
    graft,
    most_rows,
    named,
    outcome,
    print_of,
)
from detrec.replayer.findings import Batches, Graft, Repeats
from tests.replayer.moments import STEP, moments

SPLIT = f"split_k_by_batch:step={STEP},op=1.qkv,rows=64,splits=4"


def orders(count: int) -> list[list[int]]:
    """Each row alone, all turned round, half of them, and some of them again and again."""
    each = [[row] for row in range(count)]
    return [*each, [*range(count)][::-1], [*range(count)][::2], [at * 7 % count for at in range(3 * count)]]


def alone(moment, row: int) -> Held:
    """An op that one rank runs, in this process."""
    return Held({0: moment}, 0, row, lambda args: {0: outcome(moment, args[0])})


def unlike(moment) -> list[list[int]]:
    """The orders in which a row has other bits than in its batch."""
    return [
        rows
        for rows in orders(len(moment.output))
        if outcome(moment, subset(moment.field, moment.args, rows)).tobytes() != moment.output[rows].tobytes()
    ]


def test_every_field_of_the_table_is_known():
    assert tuple(ARGUMENTS) == Ops.__slots__


@pytest.mark.parametrize(
    ("model", "dtype"), [("qwen2-tiny", "float32"), ("qwen3-tiny", "bfloat16"), ("llama-tiny", "float32")]
)
def test_any_rows_have_the_bits_that_they_had_in_their_batch(model, dtype):
    found = moments(model=model, dtype=dtype)
    assert {moment.field for moment in found.values()} == set(ARGUMENTS)
    names = [name for name in found if not name[0].isdigit() or name[0] in "03"]
    assert {name: unlike(found[name]) for name in names} == {name: [] for name in names}


def test_bans_stay_with_their_row():
    moment = moments(step=STEP + 2)["logits_penalised"]
    assert len(moment.args[1].ban_ids) > 0
    assert len(moment.output) > 1
    assert unlike(moment) == []


def test_rows_of_an_op_that_looks_at_its_batch_have_not():
    found = moments(deterministic=False)
    assert unlike(found["1.qkv"])
    split = moments(start={"fault": SPLIT})["1.qkv"]
    assert len(split.output) < 64
    wide = [at % len(split.output) for at in range(64)]
    assert outcome(split, subset(split.field, split.args, wide)).tobytes() != split.output[wide].tobytes()


def test_an_experiment_leaves_the_inputs_as_they_were():
    for moment in moments().values():
        before = [value.tobytes() for value in moment.args if isinstance(value, np.ndarray)]
        company(moment, 0)
        assert before == [value.tobytes() for value in moment.args if isinstance(value, np.ndarray)]


def test_a_clean_op_is_stable_and_knows_no_batch():
    for moment in moments().values():
        repeats, seen = company(moment, len(moment.output) - 1)
        assert repeats.distinct == 1
        assert repeats.times >= TIMES
        assert seen == Batches(alone=True, permuted=True, padded=True)


def test_a_batch_that_grows_past_the_threshold_shows_it():
    moment = moments(start={"fault": SPLIT})["1.qkv"]
    repeats, seen = company(moment, 0)
    assert repeats.distinct == 1
    assert seen == Batches(alone=True, permuted=True, padded=False)
    assert most_rows(len(moment.output)) >= 64


def test_an_op_that_looks_at_its_first_row_shows_it():
    moment = moments()["1.act"]
    other = replace(moment, op=lambda name, x: moment.op(name, x) + (x[0] == moment.args[0][0]).all())
    assert company(other, 1)[1] == Batches(alone=False, permuted=False, padded=True)


def test_an_op_that_changes_its_mind_is_seen():
    moment = moments()["1.act"]
    calls = []

    def unstable(name, x):
        calls.append(name)
        return moment.op(name, x) + np.float32(len(calls) % 3)

    repeats, _ = company(replace(moment, op=unstable), 1)
    assert repeats.distinct == 3


def test_a_race_that_only_a_larger_batch_has_is_no_effect_of_the_batch():
    moment = moments()["1.act"]
    calls = []

    def unstable(name, x):
        calls.append(name)
        return moment.op(name, x) + np.float32(len(calls) % 2 * (len(x) > len(moment.output)))

    assert company(replace(moment, op=unstable), 1)[0] == Repeats(TIMES, 2)


def test_a_fault_born_here_stays_with_its_op():
    clean, faulty = moments()["1.qkv"], moments(start={"fault": SPLIT})["1.qkv"]
    prints = print_of(clean.output, 4), print_of(faulty.output, 4)
    assert graft(alone(clean, 4), alone(faulty, 4), prints) == Graft((), "replayed", "recorded")


def test_a_fault_born_before_goes_with_the_inputs():
    clean, faulty = moments()["1.rope_q"], moments(start={"fault": SPLIT})["1.rope_q"]
    prints = print_of(clean.output, 4), print_of(faulty.output, 4)
    assert prints[0] != prints[1]
    assert graft(alone(clean, 4), alone(faulty, 4), prints) == Graft(("x",), "recorded", "replayed")


@pytest.mark.parametrize(
    "name", ["embedding", "2.qkv", "2.rope_k", "2.kv_write", "2.attn", "2.act", "2.output", "sampled"]
)
def test_a_graft_into_another_batch_moves_one_row_alone(name):
    """The first token that `a` generates, in steps that have other rows, and its KV in other blocks."""
    one = moments(step=1)[name]
    flipped = {"fault": "bitflip:step=0,op=1.kv_write,row=0,element=5,bit=28"}
    other = moments(step=2, start=flipped, max_num_batched_tokens=31, block_size=8)[name]
    row, there = one.row("a", 30), other.row("a", 30)
    assert row is not None
    assert there is not None
    assert one.places != other.places
    prints = print_of(one.output, row), print_of(other.output, there)
    found = graft(alone(one, row), alone(other, there), prints)
    assert found is not None
    if name == "embedding":
        assert prints[0] == prints[1]
        assert found.unequal_inputs == ()
    else:
        assert found.unequal_inputs
        assert found == Graft(found.unequal_inputs, "recorded", "replayed")
        assert prints[0] != prints[1]


def test_penalties_and_draws_move_with_their_row():
    found = moments()
    for name, ours, theirs in (("logits_penalised", 1, 2), ("sampled", 0, 1)):
        moment = found[name]
        args = transplanted(given(moment, ours), given(moment, theirs))
        assert args is not None
        output = outcome(moment, args)
        expected = moment.output.copy()
        expected[ours] = moment.output[theirs]
        assert output.tobytes() == expected.tobytes()
    assert len({row.tobytes() for row in found["sampled"].output}) == len(found["sampled"].output)


def test_what_does_not_fit_is_not_grafted():
    one, other = moments()["0.act"], moments(dtype="bfloat16", step=1)["0.act"]
    assert graft(alone(one, 0), alone(other, 0), (1, 2)) is None


def test_where_kv_lies_is_no_input_and_what_it_holds_is():
    one, other = moments()["1.attn"], moments(block_size=4)["1.attn"]
    row = len(one.output) - 1
    assert unequal_inputs(given(one, row), given(other, row)) == ()
    written, elsewhere = moments()["1.kv_write"], moments(block_size=4)["1.kv_write"]
    assert written.args[3][row] != elsewhere.args[3][row]
    assert unequal_inputs(given(written, row), given(elsewhere, row)) == ()
    cache = other.args[1].copy()
    batch = other.args[2]
    position = int(batch.positions[row])
    block = batch.block_tables[batch.row_seq[row], position // 4]
    cache[block, position % 4, 1, 0] += 1
    touched = Given("attention", (other.args[0], cache, *other.args[2:]), row)
    assert unequal_inputs(given(one, row), touched) == ("cache",)
    assert unequal_inputs(given(one, 0), Given("attention", touched.args, 0)) == ()


def test_an_outcome_is_named_after_the_run_that_had_it():
    assert [named(found, (5, 7)) for found in (5, 7, 6)] == ["recorded", "replayed", "other"]
