"""Causes that lie in what a run keeps: weights, the KV cache, the generator, memory itself."""

from detrec.replayer.findings import Findings
from detrec.replayer.rules.place import born, one_bit, op_of, steady, turned, uses_weight
from detrec.replayer.rules.rule import Rule


def _weight_bit(findings: Findings) -> bool:
    """One bit of one weight, and the divergence is in the op that computes with it."""
    weights = findings.weights
    return weights is not None and len(weights) == 1 and weights[0].bit is not None and uses_weight(findings)


def _say_weight(findings: Findings) -> str:
    assert findings.weights
    (weight,) = findings.weights
    return f"bit {weight.bit} of element {weight.element} of {weight.name} is flipped"


def _went_well_again(findings: Findings) -> bool:
    """The op is right now, always; what it gave in the run differs in one bit."""
    graft = findings.graft
    return (
        born(findings)
        and steady(findings)
        and one_bit(findings)
        and graft is not None
        and graft.replayed_op_on_recorded_inputs == "recorded"
        and graft.recorded_op_on_replayed_inputs == "recorded"
    )


def _came_back(findings: Findings) -> bool:
    """When the replay was run again the bit was flipped again, and at no other time: no race does that."""
    return _went_well_again(findings) and findings.again == "replayed"


def _lost(findings: Findings) -> bool:
    """What attention reads is not what was written, though both runs wrote the same."""
    cache = findings.cache
    return findings.field == "attention" and cache is not None and cache.unequal > 0 and cache.written_alike


def _say_lost(findings: Findings) -> str:
    assert findings.cache is not None
    return (
        f"the KV that {op_of(findings)} reads at position {findings.cache.first} is not what was written "
        "there, and both runs wrote the same"
    )


def _say_stale(findings: Findings) -> str:
    stale = findings.stale
    assert stale is not None
    return (
        f"{op_of(findings)} left what it had given request {stale.request} in step {stale.step}: nothing was "
        "written there since"
    )


def _other_key(findings: Findings) -> bool:
    """Drawn from equal probabilities, with another seed or counter."""
    draw = findings.draw
    return (
        findings.first.op == "sampled"
        and draw is not None
        and draw.equal_logprobs
        and (draw.recorded_seed, draw.recorded_counter) != (draw.replayed_seed, draw.replayed_counter)
    )


def _say_key(findings: Findings) -> str:
    draw = findings.draw
    assert draw is not None
    what = "seed" if draw.recorded_seed != draw.replayed_seed else "counter"
    return f"the token was drawn with another {what} from equal probabilities"


WEIGHT_BIT = Rule("one bit of a weight", "corruption", ("weights",), _weight_bit, _say_weight)
_TENSORS = ("reference", "graft", "repeats", "difference")
FLIPPED = Rule(
    "one bit, once",
    "corruption",
    _TENSORS,
    lambda f: _went_well_again(f) and turned(f),
    lambda f: f"one bit of the output of {op_of(f)} was flipped: run by itself, the op gives the right bits",
)
FLIPPED_AGAIN = Rule(
    "one bit, again there",
    "corruption",
    ("again", *_TENSORS),
    _came_back,
    lambda f: f"one bit of the output of {op_of(f)} was flipped, and again at that place in a second replay",
)
CACHE = Rule("lost KV", "cache", ("cache",), _lost, _say_lost)
STALE = Rule("stale output", "cache", ("stale", "reference", "graft"), born, _say_stale)
SEED = Rule("another seed or counter", "rng", ("draw",), _other_key, _say_key)
