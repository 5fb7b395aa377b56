"""Where several causes would do, the earlier rule has it; where none is certain, none has."""

from dataclasses import replace

import pytest

from detrec.replayer.classify import RULES, classify
from detrec.replayer.findings import Batches, Cache, Draw, Graft, Ranks, Repeats, Weight
from tests.replayer.findings import (
    CASES,
    FLIPPED_WEIGHT,
    ONE_BIT,
    WENT_WELL_AGAIN,
    cut,
    measured,
    told,
    traces_alone,
)

OTHERWISE = [
    pytest.param(
        measured("act", difference=replace(ONE_BIT, max_ulp=1)),
        "numerics",
        id="one rounding, always the same",
    ),
    pytest.param(
        measured("qkv", kernels=("a", "b"), batches=Batches(False, True, True)),
        "reduction-order",
        id="a kernel that follows the batch is no choice made once",
    ),
    pytest.param(
        measured("o_proj", ranks=Ranks(False), repeats=Repeats(8, 3)), "race", id="a race before the sum"
    ),
    pytest.param(
        measured("o_proj", ranks=Ranks(None), repeats=Repeats(8, 3)), "race", id="partials not compared"
    ),
    pytest.param(
        traces_alone("o_proj", manifest=(told("ranks"),), ranks=Ranks(None, (1, 2), invariant=True)),
        "unknown",
        id="other ranks, where their number must not matter",
    ),
    pytest.param(
        traces_alone("act", manifest=(told("ranks"),), ranks=Ranks(None, (1, 2))),
        "unknown",
        id="other ranks, and no sum",
    ),
    pytest.param(
        measured("o_proj", ranks=Ranks(True), difference=ONE_BIT, graft=WENT_WELL_AGAIN),
        "corruption",
        id="a bit flipped after the sum",
    ),
    pytest.param(
        measured("sampled", draw=Draw(7, 7, 20, 24, True), repeats=Repeats(8, 8)),
        "rng",
        id="a generator that moves on is no race",
    ),
    pytest.param(
        measured("sampled", draw=Draw(7, 11, 20, 20, True), kernels=("a", "b")),
        "rng",
        id="another seed before another kernel",
    ),
    pytest.param(
        traces_alone(
            "sampled", draw=Draw(7, 8, 20, 20, True), manifest=(told("requests.r1.sampling.seed", 7, 8),)
        ),
        "input",
        id="a seed that was asked for is no drift",
    ),
    pytest.param(
        traces_alone(
            "sampled", draw=Draw(0, 0, 0, 0, True), manifest=(told("requests.r1.sampling.seed", 7, 8),)
        ),
        "unknown",
        id="a greedy draw has no use for a seed",
    ),
    pytest.param(
        measured("qkv", weights=(FLIPPED_WEIGHT,), graft=Graft((), "replayed", "recorded")),
        "corruption",
        id="the weight of this op",
    ),
    pytest.param(
        measured("act", weights=(FLIPPED_WEIGHT,)), "numerics", id="a weight of another op explains nothing"
    ),
    pytest.param(
        traces_alone("qkv", digests=("1", "2")), "input", id="a model that is too large to name tensors"
    ),
    pytest.param(
        traces_alone("act", digests=("1", "2")), "unknown", id="other weights, in an op that uses none"
    ),
    pytest.param(
        traces_alone("sampled", digests=("1", "2"), foreign=True), "unknown", id="other weights, and a draw"
    ),
    pytest.param(
        traces_alone(
            "attn", digests=("1", "2"), foreign=True, weights=(Weight("embed.weight"), Weight("head.bias"))
        ),
        "input",
        id="tensors of a foreign engine's own names",
    ),
    pytest.param(
        traces_alone("act", digests=("1", "2"), foreign=True, weights=(FLIPPED_WEIGHT,)),
        "unknown",
        id="a tensor by a known name, which this op does not use",
    ),
    pytest.param(
        traces_alone("qkv", digests=("1", "2"), foreign=True, manifest=(told("config.engine.dtype"),)),
        "unknown",
        id="weights of another format have another digest",
    ),
    pytest.param(
        traces_alone("embedding", manifest=(told("requests.r2.prompt[20]"),)),
        "unknown",
        id="another request's prompt",
    ),
    pytest.param(
        traces_alone("qkv", manifest=(told("requests.r1.prompt[20]"),)),
        "unknown",
        id="a prompt that differs, after its embedding did not",
    ),
    pytest.param(
        traces_alone("logits_penalised", manifest=(told("requests.r1.sampling.top_p"),)),
        "unknown",
        id="a parameter that enters later",
    ),
    pytest.param(
        measured("act", manifest=(told("config.engine.dtype"),)),
        "numerics",
        id="a format that changed nothing",
    ),
    pytest.param(
        measured("attn", schedule=(cut("boundaries", "r2[0:16)", "r2[0:21)"),)),
        "numerics",
        id="a neighbour's cut",
    ),
    pytest.param(
        measured("act", schedule=(cut("boundaries", "r1[0:16)", "r1[0:21)"),)),
        "unknown",
        id="a cut that the op does not see is a coincidence, and in the way",
    ),
    pytest.param(
        measured(
            "attn",
            kernels=("a", "b"),
            schedule=(cut("boundaries", "r1[0:16)", "r1[0:21)"),),
            manifest=(told("config.engine.max_num_batched_tokens"),),
        ),
        "kernel-choice",
        id="a cut that was asked for",
    ),
    pytest.param(
        measured("attn", schedule=(cut("hit", "none", "r1 16 tokens"),), kernels=("a", "b")),
        "schedule",
        id="a hit that nobody asked for",
    ),
    pytest.param(
        measured("attn", cache=Cache(1, False, 3, False), graft=Graft(("cache",), "recorded", "replayed")),
        "unknown",
        id="KV that was written differently",
    ),
    pytest.param(
        measured("qkv", repeats=Repeats(8, 4), graft=Graft(("x",), "other", "recorded")),
        "unknown",
        id="unstable, and yet its inputs differed first",
    ),
]


@pytest.mark.parametrize(("findings", "cause"), OTHERWISE)
def test_rules_in_their_order(findings, cause):
    assert classify(findings).cause == cause


def test_the_order_of_rules_matters():
    """Negative control: from the last rule to the first, other causes come out."""
    backwards = {
        name: next((rule.name for rule in reversed(RULES) if rule(findings)), None)
        for name, findings in CASES.items()
    }
    assert {name for name, first in backwards.items() if first != name} >= {
        "equal partials, another sum",
        "an unasked cut",
    }
