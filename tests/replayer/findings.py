"""Findings to be classified: what an expert would have measured of each kind of divergence."""

from dataclasses import replace
from typing import Any

from detrec.replayer.divergence import Divergence
from detrec.replayer.findings import (
    Batches,
    Cache,
    Difference,
    Draw,
    Findings,
    Graft,
    Ranks,
    Reference,
    Repeats,
    Stale,
    Weight,
)
from detrec.replayer.manifest_diff import ManifestDifference
from detrec.replayer.schedule_diff import ScheduleDifference

FIELDS = {
    "embedding": "embedding",
    "attn_norm": "rms_norm",
    "qkv": "matmul",
    "attn": "attention",
    "o_proj": "all_reduce",
    "act": "silu_mul",
    "logits": "matmul",
    "logits_penalised": "penalise",
    "sampled": "sample",
}
SAMPLED = ("embedding", "logits", "logits_penalised", "sampled")


def at(op: str, step: int = 4, request: str = "r1", position: int = 20) -> Divergence:
    """A divergence in an op, of layer 2 if it is inside layers."""
    return Divergence(step, request, position, None if op in SAMPLED else 2, op, 0, 1, 2)


def told(key: str, recorded: Any = 1, replayed: Any = 2) -> ManifestDifference:
    """One manifest difference."""
    return ManifestDifference(key, recorded, replayed)


def cut(what: str, recorded: str, replayed: str, step: int = 3) -> ScheduleDifference:
    """One schedule difference."""
    return ScheduleDifference(step, what, recorded, replayed)


BITS = Difference(120, 512, 4, 9, 300, "every column", True)
ONE_BIT = Difference(1, 512, 1, 512, 1, "one element", True)
KEPT = Batches(True, True, True)


def measured(op: str, **others: Any) -> Findings:
    """Everything measured of an op that computes something else on equal inputs, always, in any batch."""
    usual = Findings(
        at(op),
        FIELDS[op],
        reference=Reference(True),
        graft=Graft((), "replayed", "recorded"),
        repeats=Repeats(8, 1),
        batches=KEPT,
        difference=BITS,
        weights=(),
        again="replayed",
        replays=2,
    )
    return replace(usual, **others)


def traces_alone(op: str, **others: Any) -> Findings:
    """What two traces show, nothing run again."""
    return Findings(at(op), FIELDS[op], **others)


WENT_WELL_AGAIN = Graft((), "recorded", "recorded")
FLIPPED_WEIGHT = Weight("model.layers.2.self_attn.k_proj.weight", 1, 77, 22)

# by rule: findings that it is for
CASES: dict[str, Findings] = {
    "one bit of a weight": measured(
        "qkv", weights=(FLIPPED_WEIGHT,), graft=Graft(("weight",), "recorded", "replayed")
    ),
    "another model": measured(
        "embedding",
        reference=Reference(False),
        graft=None,
        weights=(Weight("model.embed_tokens.weight"), Weight("model.norm.weight")),
    ),
    "another model by name": traces_alone(
        "embedding", manifest=(told("config.model", "a", "b"), told("engine.model_digest", "1", "2"))
    ),
    "another model by digest": traces_alone("attn", digests=("1", "2"), foreign=True),
    "another prompt": traces_alone("embedding", manifest=(told("requests.r1.prompt[20]"),)),
    "other sampling parameters": traces_alone("sampled", manifest=(told("requests.r1.sampling.top_p"),)),
    "another number format": measured(
        "embedding", manifest=(told("config.engine.dtype", "float32", "bfloat16"),), graft=None
    ),
    "another device in low precision": traces_alone(
        "qkv", dtype="bfloat16", manifest=(told("engine.device.kind", "gpu", "cpu"),), kernels=("a", "b")
    ),
    "kernels of another version": measured(
        "logits", manifest=(told("environment.kernels_version"),), reference=Reference(False), graft=None
    ),
    "another number of ranks": traces_alone(
        "o_proj", manifest=(told("ranks", 4, 2),), ranks=Ranks(None, (4, 2))
    ),
    "another seed or counter": traces_alone("sampled", draw=Draw(7, 8, 20, 20, True)),
    "stale output": measured("logits", stale=Stale(3, "r2", 9)),
    "equal partials, several sums": measured(
        "o_proj", ranks=Ranks(True, (4, 4), (0, 1, 2, 3)), repeats=Repeats(32, 5), graft=None
    ),
    "unstable op": measured("qkv", repeats=Repeats(8, 5), graft=Graft((), "other", "recorded")),
    "one bit, once": measured("attn", difference=ONE_BIT, graft=WENT_WELL_AGAIN),
    "one bit, again there": measured("attn", difference=replace(ONE_BIT, max_ulp=1), graft=WENT_WELL_AGAIN),
    "lost KV": measured(
        "attn", cache=Cache(16, True, 16, True), graft=Graft(("cache",), "recorded", "replayed")
    ),
    "an unasked cut": measured(
        "attn",
        kernels=("chain", "cut at the chunk"),
        schedule=(cut("boundaries", "r1[0:16) r2[4:5)", "r1[0:21) r2[4:5)"),),
    ),
    "equal partials, another sum": measured("o_proj", ranks=Ranks(True)),
    "batch-variant op": measured("qkv", batches=Batches(True, True, False)),
    "another kernel": measured("qkv", kernels=("chain", "leaves=4")),
    "another kernel each launch": measured(
        "qkv", kernels=("chain", "leaves=4"), graft=Graft((), "other", "recorded"), again="other"
    ),
    "other arithmetic": measured("act"),
}
