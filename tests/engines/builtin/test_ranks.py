"""An engine of several ranks: what each computes, how it is added up, and that all of them agree."""

import itertools

import numpy as np
import pytest

from detrec.errors import EngineError
from tests.bits import assert_same_bits
from tests.engines.rank_threads import seeded, told_by_ranks
from tests.engines.small import Told, prompt, request
from tests.kernels.lanes import bfloat16, floats

REQUESTS = [
    request("a", prompt(1, 20), max_tokens=4),
    request("b", prompt(2, 9), 1, temperature=0.9, seed=5, max_tokens=5, ignore_eos=True),
]
CUT = ("qkv", "q_norm", "k_norm", "rope_q", "rope_k", "kv_write", "attn", "gate_up", "act")
PARTIAL = ("o_partial", "down_partial")


def whole(name: str) -> bool:
    """Every rank has all of this op's output."""
    return name.rpartition(".")[2] not in (*CUT, *PARTIAL)


def outputs(told: Told) -> dict[tuple[int, str], np.ndarray]:
    """By step and op what was computed, samples as words."""
    return {
        (step, name): output.view(np.int64) if output.dtype.names else output
        for step, ops in enumerate(told.ops)
        for name, output, _ in ops
    }


def rank_sum(parts: list[np.ndarray]) -> np.ndarray:
    """Partial sums added in rank order in float32, rounded once."""
    if parts[0].dtype == np.uint16:
        return bfloat16(rank_sum([floats(part) for part in parts]))
    return list(itertools.accumulate(parts))[-1]


# three ranks: KV heads and MLP that only 3 and 6 divide, and a vocabulary that nothing divides
THREE = {"num_heads": 6, "num_kv_heads": 3, "intermediate_size": 192, "head_dim": 32, "vocab_size": 509}


@pytest.mark.parametrize(
    ("size", "model", "sizes", "dtype"),
    [
        pytest.param(2, "qwen2-tiny", {}, "float32", id="2"),
        pytest.param(2, "qwen3-tiny", {}, "bfloat16", id="2 bfloat16, head norms"),
        pytest.param(3, "llama-tiny", THREE, "float32", id="3"),
        pytest.param(4, "qwen2-tiny", {}, "bfloat16", id="4 bfloat16, shared KV heads"),
        pytest.param(6, "qwen3-tiny", THREE, "float32", id="6, shared KV heads"),
    ],
)
def test_ranks_have_one_embedding_one_sum_and_one_text(size, model, sizes, dtype):
    checkpoint = seeded(model, **sizes)
    (alone,) = told_by_ranks(1, REQUESTS, checkpoint=checkpoint, dtype=dtype)
    ranks = [outputs(told) for told in told_by_ranks(size, REQUESTS, checkpoint=checkpoint, dtype=dtype)]
    for (step, name), output in ranks[0].items():
        each = [rank[step, name] for rank in ranks]
        if whole(name):
            for other in each[1:]:
                assert_same_bits(other, output)
        if name.endswith("_proj"):
            parts = [rank[step, name.replace("_proj", "_partial")] for rank in ranks]
            assert_same_bits(output, rank_sum(parts))
        if (step, name) == (0, "embedding"):
            assert_same_bits(output, outputs(alone)[step, name])
        if (step, name) == (0, "0.attn"):
            assert_same_bits(np.concatenate(each, axis=1), outputs(alone)[step, name])


EIGHT = {"num_heads": 8, "num_kv_heads": 2, "head_dim": 16, "vocab_size": 509}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tp_invariant_gives_the_same_bits_on_1_2_4_and_8_ranks(dtype):
    checkpoint = seeded("qwen2-tiny", **EIGHT)
    engine = {"checkpoint": checkpoint, "dtype": dtype, "reduction": "tp_invariant"}
    (alone,) = told_by_ranks(1, REQUESTS, **engine)
    wanted = outputs(alone)
    for size in (2, 4, 8):
        told = told_by_ranks(size, REQUESTS, **engine)
        ranks = [outputs(each) for each in told]
        assert told[0].samples == alone.samples
        for place, output in wanted.items():
            if whole(place[1]):
                assert_same_bits(ranks[-1][place], output)
            if place[1].endswith((".attn", ".act")) and place[1].endswith(CUT):
                halves = [rank[place] for rank in ranks]
                assert_same_bits(np.concatenate(halves, axis=1), output)


def test_ranks_in_order_do_not_give_the_bits_of_one():
    """Negative control: the test above sees a sum of other parts."""
    (alone,) = told_by_ranks(1, REQUESTS)
    two = told_by_ranks(2, REQUESTS)[0]
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(outputs(two)[0, "0.o_proj"], outputs(alone)[0, "0.o_proj"])


def test_a_plan_is_rank_0s_and_followed_by_all():
    own = told_by_ranks(3, REQUESTS, checkpoint=seeded("llama-tiny", **THREE))
    forced = {r["id"]: [s.taken for s in own[0].samples if s.request == r["id"]] for r in REQUESTS}
    again = told_by_ranks(
        3, REQUESTS, checkpoint=seeded("llama-tiny", **THREE), plan=own[0].steps, forced=forced
    )
    for before, after in zip(own, again, strict=True):
        assert [step.slices for step in after.steps] == [step.slices for step in before.steps]
        assert after.samples == before.samples


def test_a_rank_that_draws_another_token_is_named_with_its_step():
    drift = {1: "seed_drift:step=2"}
    with pytest.raises(EngineError, match="before step 3, rank 1 does not agree with the others"):
        told_by_ranks(3, REQUESTS, checkpoint=seeded("llama-tiny", **THREE), fault=drift)


def test_no_schedule_changes_a_bit_of_what_all_ranks_have():
    def rows(**engine: object) -> dict[tuple[str, str, int], bytes]:
        told = told_by_ranks(2, [*REQUESTS, request("again", prompt(1, 20), 2, max_tokens=4)], **engine)[0]
        return {
            place: row.tobytes()
            for place, computed in told.rows().items()
            if whole(place[0])
            for _, row in computed
        }

    first = rows()
    for engine in (
        {"max_num_seqs": 1},
        {"max_num_batched_tokens": 16},
        {"enable_prefix_caching": False},
        {"num_gpu_blocks_override": 3},
    ):
        again = rows(**engine)
        # a row that a cache hit spared is not computed in every run
        assert all(first[place] == row for place, row in again.items() if place in first)
        assert len(first.keys() & again.keys()) > 800
