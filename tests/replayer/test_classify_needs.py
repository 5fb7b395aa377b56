"""Whatever was measured, no class of cause is said without the evidence that it needs."""

import random
from collections import Counter
from dataclasses import replace

from detrec.replayer.classify import classify
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
from tests.replayer.findings import BITS, FIELDS, FLIPPED_WEIGHT, KEPT, ONE_BIT, at, cut, told

OUTCOMES = ("recorded", "replayed", "other")
KEYS = (
    "config.model",
    "engine.model_digest",
    "config.engine.dtype",
    "config.engine.max_num_seqs",
    "ranks",
    "requests.r1.prompt[20]",
    "requests.r1.sampling.seed",
    "requests.r1.sampling.top_k",
    "requests.r2.arrival",
)
CUTS = (
    cut("boundaries", "r1[0:16)", "r1[0:21)"),
    cut("boundaries", "r2[0:16)", "r2[0:21)"),
    cut("hit", "none", "r1 16 tokens"),
    cut("order", "r1[4:5) r2[3:4)", "r2[3:4) r1[4:5)"),
)
EMBEDDING = Weight("model.embed_tokens.weight", 1, 5, 3)
NORM = Weight("model.norm.weight")


def any_findings(draw: random.Random) -> Findings:
    """Anything that could be measured, whether it goes together or not."""
    op = draw.choice(list(FIELDS))

    def maybe(*choices):
        return draw.choice([None, *choices])

    def yes():
        return draw.choice((True, False))

    return Findings(
        at(op, position=draw.choice([0, 20])),
        FIELDS[op],
        kernels=maybe(("a", "b")),
        manifest=tuple(told(key) for key in KEYS if draw.random() < 0.15),
        schedule=tuple(c for c in CUTS if draw.random() < 0.2),
        reference=maybe(Reference(True), Reference(True), Reference(False)),
        graft=maybe(
            *(Graft((), "replayed", "recorded") for _ in range(4)),
            *(Graft((), draw.choice(OUTCOMES), draw.choice(OUTCOMES)) for _ in range(3)),
            Graft((draw.choice(["x", "cache", "weight"]),), draw.choice(OUTCOMES), draw.choice(OUTCOMES)),
        ),
        repeats=maybe(Repeats(8, 1), Repeats(8, 1), Repeats(8, 1), Repeats(8, 3), Repeats(1, 1)),
        batches=maybe(KEPT, KEPT, Batches(*(yes() for _ in range(3)))),
        difference=maybe(BITS, ONE_BIT, replace(ONE_BIT, max_ulp=2)),
        cache=maybe(Cache(draw.choice([0, 3]), yes(), 4, yes())),
        draw=maybe(Draw(7, draw.choice([7, 8]), 20, draw.choice([20, 21]), yes())),
        weights=maybe((), (FLIPPED_WEIGHT,), (EMBEDDING,), (NORM,), (EMBEDDING, NORM)),
        ranks=maybe(Ranks(yes()), Ranks(None, (4, 2), invariant=yes())),
        again=maybe("", *OUTCOMES),
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
