"""Every measurement becomes a sentence with its numbers, and what was not measured becomes nothing."""

import json
from dataclasses import asdict, replace

import pytest

from detrec.replayer.evidence import evidence_of
from detrec.replayer.findings import Batches, Cache, Draw, Graft, Ranks, Reference, Repeats, Stale, Weight
from tests.replayer.findings import BITS, at, cut, measured, told, traces_alone

NOTHING = traces_alone("attn")
SENTENCES = [
    pytest.param(
        {"difference": replace(BITS, elements=1, size=512, rows=1, flipped_bits=1, pattern="one element")},
        "tensors",
        "1 of 512 elements differs in 1 row, one element: 1 bit, at most 9 ULP",
        id="one element",
    ),
    pytest.param(
        {"cache": Cache(1, True, 16, False)},
        "cache",
        "KV differs at 1 position that it reads, 16; it was written alike",
        id="one position of KV",
    ),
    pytest.param({"kernels": ("a", "")}, "kernel", "recorded a, replayed none", id="kernels"),
    pytest.param(
        {"manifest": tuple(told(f"k{i}") for i in range(5))},
        "manifest",
        "the runs were told differently: k0, k1, k2 and 2 more",
        id="manifest",
    ),
    pytest.param(
        {"schedule": (cut("hit", "none", "r1 16 tokens"),)},
        "schedule",
        "up to step 4: step 3 hit: recorded none, replayed r1 16 tokens",
        id="schedule",
    ),
    pytest.param(
        {"reference": Reference(True)},
        "reference",
        "run again with the recorded settings, it gives the recorded bits here",
        id="reference",
    ),
    pytest.param(
        {"again": "replayed"}, "again", "replayed once more, the op gave the replayed output", id="again"
    ),
    pytest.param({"digests": ("1a", "2b")}, "model", "digest recorded 1a, replayed 2b", id="another model"),
    pytest.param({"weights": ()}, "weights", "no tensor of the model was seen to differ", id="no weight"),
    pytest.param(
        {"weights": (Weight("w", 1, 77, 22),)}, "weights", "w: bit 22 of element 77 differs", id="a bit"
    ),
    pytest.param(
        {"weights": (Weight("w", 4000),)}, "weights", "w has other bits in 4,000 elements", id="one weight"
    ),
    pytest.param(
        {"weights": (Weight("a"), Weight("b"))}, "weights", "2 tensors have other bits: a, b", id="weights"
    ),
    pytest.param(
        {"graft": Graft((), "replayed", "other")},
        "graft",
        "all inputs are equal; the replayed op on recorded inputs gives the replayed output, "
        "the recorded op on replayed inputs neither run's output",
        id="grafts apart",
    ),
    pytest.param(
        {"graft": Graft((), "replayed", "recorded")},
        "graft",
        "all inputs are equal; either op gives its own output again, on the inputs of the other too",
        id="born",
    ),
    pytest.param(
        {"graft": Graft(("q", "cache"), "recorded", "replayed")},
        "graft",
        "inputs differ (q, cache); on the inputs of the other run either op gives the output of the other",
        id="inherited",
    ),
    pytest.param(
        {"repeats": Repeats(8, 1)},
        "repeat",
        "run 8 times on one input, the op gave one and the same output",
        id="stable",
    ),
    pytest.param(
        {"repeats": Repeats(8, 3)},
        "repeat",
        "run 8 times on one input, the op gave 3 different outputs",
        id="unstable",
    ),
    pytest.param(
        {"batches": Batches(False, True, False)},
        "batch",
        "alone and padded the row has other bits, permuted the same",
        id="batch-variant",
    ),
    pytest.param(
        {"batches": Batches(True, True, True)},
        "batch",
        "alone and permuted and padded the same",
        id="invariant",
    ),
    pytest.param(
        {"difference": BITS},
        "tensors",
        "120 of 512 elements differ in 4 rows, every column: 300 bits, at most 9 ULP",
        id="difference",
    ),
    pytest.param(
        {"difference": replace(BITS, finite=False)},
        "tensors",
        "120 of 512 elements differ in 4 rows, every column: 300 bits, at most 9 ULP; not all are finite",
        id="not finite",
    ),
    pytest.param(
        {"cache": Cache(0, True, -1, False)}, "cache", "the KV it reads is equal in both runs", id="KV"
    ),
    pytest.param(
        {"cache": Cache(16, True, 32, True)},
        "cache",
        "KV differs at 16 positions that it reads, the first is 32, served by a prefix-cache hit; "
        "it was written alike",
        id="lost KV",
    ),
    pytest.param(
        {"draw": Draw(7, 8, 20, 20, True)},
        "draw",
        "logprobs are equal; seed recorded 7, replayed 8; counter 20",
        id="draw",
    ),
    pytest.param(
        {"stale": Stale(3, "r2", 9)},
        "stale",
        "the replayed output is, bit for bit, that of request r2, position 9 in step 3",
        id="stale",
    ),
    pytest.param(
        {"ranks": Ranks(True)}, "ranks", "every rank's partial is equal, only the sum differs", id="ranks"
    ),
    pytest.param(
        {"ranks": Ranks(False, (4, 4), (1, 3))},
        "ranks",
        "of 4 ranks only ranks 1, 3 differ; the ranks' partials differ",
        id="some ranks",
    ),
    pytest.param(
        {"ranks": Ranks(False, (4, 4), (1,))},
        "ranks",
        "of 4 ranks only rank 1 differs; the ranks' partials differ",
        id="one rank",
    ),
    pytest.param(
        {"ranks": Ranks(None, (4, 2), invariant=True)},
        "ranks",
        "recorded on 4 ranks, replayed on 2: partial sums are not comparable; "
        "both runs add so that the number of ranks changes nothing",
        id="other ranks",
    ),
]


@pytest.mark.parametrize(("finding", "kind", "text"), SENTENCES)
def test_a_finding_is_one_sentence_with_its_numbers(finding, kind, text):
    (evidence,) = evidence_of(replace(NOTHING, **finding))
    assert (evidence.kind, evidence.text) == (kind, text)
    assert evidence.facts
    assert json.loads(json.dumps(evidence.facts)) == evidence.facts
    assert len(kind) <= 9


def test_what_was_not_measured_gives_none():
    assert evidence_of(NOTHING) == ()
    assert evidence_of(replace(NOTHING, again="")) == ()


def test_all_of_it_is_told():
    full = measured(
        "attn",
        kernels=("a", "b"),
        manifest=(told("k"),),
        schedule=(cut("order", "a", "b"),),
        cache=Cache(0, True, -1, False),
        draw=Draw(1, 1, 2, 2, True),
        ranks=Ranks(True),
        stale=Stale(1, "r", 2),
        digests=("1", "2"),
    )
    found = evidence_of(full)
    unmeasured = {"first", "field", "replays", "dtype", "foreign"}
    assert len(found) == len(asdict(full)) - len(unmeasured)
    assert len({evidence.kind for evidence in found}) == len(found)
    assert at("attn").step == 4
