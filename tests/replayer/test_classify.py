"""A cause is said when all that it needs was measured, and only then."""

import json
import random
from collections import Counter
from dataclasses import asdict, fields, replace

import pytest

from detrec.replayer.classify import RULES, classify
from detrec.replayer.diagnosis import CLASSES
from detrec.replayer.findings import (
    Batches,
    Cache,
    Draw,
    Findings,
    Graft,
    Ranks,
    Reference,
    Repeats,
    Stale,
    Weight,
)
from tests.replayer.findings import (
    BITS,
    CASES,
    FIELDS,
    FLIPPED_WEIGHT,
    KEPT,
    ONE_BIT,
    WENT_WELL_AGAIN,
    at,
    cut,
    measured,
    told,
    traces_alone,
)

CAUSES = {
    "one bit of a weight": "corruption",
    "another model": "input",
    "another model by name": "input",
    "another model by digest": "input",
    "another prompt": "input",
    "other sampling parameters": "input",
    "another number format": "environment",
    "another device in low precision": "environment",
    "kernels of another version": "environment",
    "another number of ranks": "collective",
    "another seed or counter": "rng",
    "stale output": "cache",
    "equal partials, several sums": "collective",
    "unstable op": "race",
    "one bit, once": "corruption",
    "one bit, again there": "corruption",
    "lost KV": "cache",
    "an unasked cut": "schedule",
    "equal partials, another sum": "collective",
    "batch-variant op": "reduction-order",
    "another kernel": "kernel-choice",
    "another kernel each launch": "kernel-choice",
    "other arithmetic": "numerics",
}


def test_there_is_a_case_for_every_rule():
    assert [rule.name for rule in RULES] == list(CAUSES) == list(CASES)
    assert {rule.cause for rule in RULES} <= set(CLASSES) - {"unknown"}
    known = {field.name for field in fields(Findings)}
    assert all(rule.rests_on and set(rule.rests_on) <= known for rule in RULES)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_holds_for_what_it_is_for(name):
    diagnosis = classify(CASES[name])
    assert (diagnosis.rule, diagnosis.cause) == (name, CAUSES[name])
    assert diagnosis.summary
    assert len(diagnosis.summary) < 160
    assert json.loads(json.dumps(asdict(diagnosis)))["evidence"]


@pytest.mark.parametrize("name", CASES)
def test_a_rule_does_not_hold_without_what_it_rests_on(name):
    (rule,) = (rule for rule in RULES if rule.name == name)
    for field in rule.rests_on:
        nothing = () if field in ("manifest", "schedule") else None
        assert classify(replace(CASES[name], **{field: nothing})).rule != name, field


OPEN = [
    pytest.param(traces_alone("qkv"), "must be run again to say why", id="traces alone"),
    pytest.param(traces_alone("qkv", kernels=("a", "b")), "whether that is why", id="traces and kernels"),
    pytest.param(
        traces_alone("qkv", ranks=Ranks(None, (4, 4), (2,))),
        "of 4 ranks only rank 2 had other bits",
        id="one rank",
    ),
    pytest.param(measured("qkv", reference=Reference(False), graft=None), "lost", id="not to be had again"),
    pytest.param(measured("qkv", graft=None, repeats=None), "not compared", id="no graft"),
    pytest.param(
        measured("qkv", graft=Graft(("x",), "recorded", "replayed")), "other inputs (x)", id="inherited"
    ),
    pytest.param(
        measured("qkv", graft=WENT_WELL_AGAIN, difference=replace(ONE_BIT, max_ulp=1), again="recorded"),
        "too little to tell",
        id="one bit, which a race may be",
    ),
    pytest.param(measured("qkv", graft=WENT_WELL_AGAIN), "rare race, or memory", id="not caught in the act"),
    pytest.param(measured("qkv", graft=Graft((), "other", "recorded")), "nothing that was", id="a third one"),
    pytest.param(
        measured("act", difference=ONE_BIT), "nothing that was", id="one bit off, always, is no arithmetic"
    ),
    pytest.param(
        measured("qkv", weights=(replace(FLIPPED_WEIGHT, bit=None, elements=9),), graft=None),
        "is not the recorded tensor",
        id="a weight, more than a bit",
    ),
]


@pytest.mark.parametrize(("findings", "why"), OPEN)
def test_what_fits_nothing_is_unknown_and_says_why(findings, why):
    diagnosis = classify(findings)
    assert (diagnosis.cause, diagnosis.rule) == ("unknown", "nothing fits")
    assert why in diagnosis.summary


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


def test_an_op_that_follows_its_batch_is_called_by_the_fields_word():
    said = classify(CASES["batch-variant op"]).summary
    assert said == "2.qkv is not batch-invariant: a row has other bits with more rows behind it"


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


def any_findings(draw: random.Random) -> Findings:
    """Anything that could be measured, whether it goes together or not."""
    op = draw.choice(list(FIELDS))

    def maybe(*choices):
        return draw.choice([None, *choices])

    outcomes = ("recorded", "replayed", "other")
    yes = (True, False)
    keys = (
        *(
            "config.model",
            "engine.model_digest",
            "config.engine.dtype",
            "config.engine.max_num_seqs",
            "ranks",
        ),
        *(
            "requests.r1.prompt[20]",
            "requests.r1.sampling.seed",
            "requests.r1.sampling.top_k",
            "requests.r2.arrival",
        ),
    )
    cuts = (
        cut("boundaries", "r1[0:16)", "r1[0:21)"),
        cut("boundaries", "r2[0:16)", "r2[0:21)"),
        cut("hit", "none", "r1 16 tokens"),
        cut("order", "r1[4:5) r2[3:4)", "r2[3:4) r1[4:5)"),
    )
    embedding, norm = Weight("model.embed_tokens.weight", 1, 5, 3), Weight("model.norm.weight")
    return Findings(
        at(op, position=draw.choice([0, 20])),
        FIELDS[op],
        kernels=maybe(("a", "b")),
        manifest=tuple(told(key) for key in keys if draw.random() < 0.15),
        schedule=tuple(c for c in cuts if draw.random() < 0.2),
        reference=maybe(Reference(True), Reference(True), Reference(False)),
        graft=maybe(
            *(Graft((), "replayed", "recorded") for _ in range(4)),
            *(Graft((), draw.choice(outcomes), draw.choice(outcomes)) for _ in range(3)),
            Graft((draw.choice(["x", "cache", "weight"]),), draw.choice(outcomes), draw.choice(outcomes)),
        ),
        repeats=maybe(Repeats(8, 1), Repeats(8, 1), Repeats(8, 1), Repeats(8, 3), Repeats(1, 1)),
        batches=maybe(KEPT, KEPT, Batches(*(draw.choice(yes) for _ in range(3)))),
        difference=maybe(BITS, ONE_BIT, replace(ONE_BIT, max_ulp=2)),
        cache=maybe(Cache(draw.choice([0, 3]), draw.choice(yes), 4, draw.choice(yes))),
        draw=maybe(Draw(7, draw.choice([7, 8]), 20, draw.choice([20, 21]), draw.choice(yes))),
        weights=maybe((), (FLIPPED_WEIGHT,), (embedding,), (norm,), (embedding, norm)),
        ranks=maybe(Ranks(draw.choice(yes)), Ranks(None, (4, 2), invariant=draw.choice(yes))),
        again=maybe("", *outcomes),
        digests=("1", "2") if draw.random() < 0.05 else None,
        foreign=draw.random() < 0.3,
        stale=Stale(2, "r3", 8) if draw.random() < 0.1 else None,
    )


def is_born(f: Findings) -> bool:
    return f.reference == Reference(True) and f.graft is not None and f.graft.unequal_inputs == ()


def is_dependable(f: Findings) -> bool:
    return (
        is_born(f)
        and (f.graft.replayed_op_on_recorded_inputs, f.graft.recorded_op_on_replayed_inputs)
        == ("replayed", "recorded")
        and f.repeats == Repeats(8, 1)
    )


def is_flipped(f: Findings) -> bool:
    weight = len(f.weights or ()) == 1 and f.weights[0].bit is not None
    one_bit = f.difference is not None and f.difference.flipped_bits == 1
    return weight or (is_born(f) and one_bit and f.graft.replayed_op_on_recorded_inputs == "recorded")


def is_told_otherwise(f: Findings) -> bool:
    starts = ("config.model", "requests.r1.prompt[", "requests.r1.sampling.")
    return bool(f.digests) or len(f.weights or ()) > 1 or any(d.key.startswith(starts) for d in f.manifest)


def is_another_dtype(f: Findings) -> bool:
    other = "config.engine.dtype" in {d.key for d in f.manifest}
    return other and f.first.op == "embedding" and f.reference == Reference(True)


def is_keyed_otherwise(f: Findings) -> bool:
    keys = (f.draw.recorded_seed, f.draw.recorded_counter), (f.draw.replayed_seed, f.draw.replayed_counter)
    return f.first.op == "sampled" and f.draw.equal_logprobs and keys[0] != keys[1]


def is_lost(f: Findings) -> bool:
    if f.stale is not None and is_born(f):
        return True
    return f.field == "attention" and f.cache.unequal > 0 and f.cache.written_alike


def is_a_sum_of_others(f: Findings) -> bool:
    if f.field != "all_reduce":
        return False
    other = "ranks" in {d.key for d in f.manifest} and f.ranks == Ranks(None, (4, 2))
    return other or (f.ranks == Ranks(True) and (is_dependable(f) or f.repeats.distinct > 1))


NEEDS = {
    "input": is_told_otherwise,
    "environment": is_another_dtype,
    "rng": is_keyed_otherwise,
    "race": lambda f: f.repeats.distinct > 1,
    "corruption": is_flipped,
    "cache": is_lost,
    "schedule": lambda f: bool(f.schedule) and f.field == "attention" and is_dependable(f),
    "collective": is_a_sum_of_others,
    "reduction-order": lambda f: f.batches not in (None, KEPT) and is_dependable(f),
    "kernel-choice": lambda f: (
        bool(f.kernels) and f.batches == KEPT and is_born(f) and f.repeats.distinct == 1
    ),
    "numerics": lambda f: f.kernels is None and f.batches == KEPT and is_dependable(f),
    "unknown": lambda f: True,
}


def test_no_class_appears_without_the_evidence_that_it_needs():
    draw = random.Random(1)
    seen: Counter[str] = Counter()
    for _ in range(10_000):
        findings = any_findings(draw)
        diagnosis = classify(findings)
        seen[diagnosis.cause] += 1
        assert NEEDS[diagnosis.cause](findings), (diagnosis, findings)
        assert len(diagnosis.summary) < 160
    assert set(seen) == set(CLASSES)
    assert min(seen.values()) >= 5, seen


@pytest.mark.parametrize(
    ("op", "changes"),
    [
        pytest.param("qkv", {"dtype": "float32"}, id="float32 is portable"),
        pytest.param("embedding", {}, id="a copy is the same in any precision"),
        pytest.param(
            "qkv", {"manifest": (told("engine.device.name", "A", "B"),)}, id="the same architecture"
        ),
    ],
)
def test_another_device_is_no_excuse(op, changes):
    low = replace(CASES["another device in low precision"], first=at(op), field=FIELDS[op])
    assert classify(replace(low, **changes)).cause == "unknown"


@pytest.mark.parametrize("again", [True, False])
def test_what_a_replay_could_add_is_told_only_where_one_could(again):
    found = classify(traces_alone("attn"), can_run_again=again)
    assert found.rule == "nothing fits"
    assert ("needed" in {each.kind for each in found.evidence}) is again
