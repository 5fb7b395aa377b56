"""From what was measured to a cause: the first rule that holds gives it, and `unknown` where none does.

Pure. The order is part of the rules: from what leaves no doubt to what is left when all else is ruled out.
"""

from detrec.replayer.diagnosis import Diagnosis, Evidence
from detrec.replayer.evidence import evidence_of, ranks_by_number
from detrec.replayer.findings import Findings
from detrec.replayer.rules import computed, given, state
from detrec.replayer.rules.place import one_bit, op_of
from detrec.replayer.rules.rule import Rule

RULES: tuple[Rule, ...] = (
    # what was put in explains what came out, whatever the ops would do with it
    state.WEIGHT_BIT,
    given.OTHER_MODEL,
    given.OTHER_NAME,
    given.OTHER_DIGEST,
    given.PROMPT,
    given.SAMPLING,
    given.DTYPE,
    given.DEVICE,
    given.KERNELS,
    given.RANKS,
    # a generator that is advanced by every call looks like a race when the op is repeated
    state.SEED,
    state.STALE,
    # before all that takes an op's output for dependable; a race among ranks is their collective's
    computed.ARRIVAL,
    computed.RACE,
    state.FLIPPED,
    state.FLIPPED_AGAIN,
    state.CACHE,
    # an op that sees a cut was first given that cut: the kernel that ran then is no choice of its own
    given.SCHEDULE,
    computed.COLLECTIVE,
    computed.REDUCTION,
    computed.KERNEL,
    computed.LAUNCH,
    computed.NUMERICS,
)


_NEEDED = Evidence(
    "needed",
    "a replay (detrec replay RUN) runs both sides again: same inputs, repeats, other batches, tensors",
    {"command": "detrec replay RUN"},
)


def classify(findings: Findings, *, can_run_again: bool = True) -> Diagnosis:
    """The cause of the divergence that was measured, with every measurement as evidence.

    `can_run_again`: a replay would run both sides again, as it does of the built-in engine alone.
    """
    evidence = evidence_of(findings)
    for rule in RULES:
        if rule(findings):
            return Diagnosis(rule.cause, rule.name, rule.says(findings), evidence)
    if can_run_again and findings.reference is None:
        evidence += (_NEEDED,)
    return Diagnosis("unknown", "nothing fits", _open(findings), evidence)


def _on_some_ranks(findings: Findings) -> bool:
    """Ranks do the same on parts of the same: what befell some of them is theirs."""
    ranks = findings.ranks
    return ranks is not None and ranks.sizes[0] == ranks.sizes[1] and 0 < len(ranks.differ) < ranks.sizes[0]


def _open(findings: Findings) -> str:
    """Why no rule holds, as far as that can be said."""
    graft, op = findings.graft, op_of(findings)
    if findings.reference is None and _on_some_ranks(findings):
        assert findings.ranks is not None
        which, of = ranks_by_number(findings.ranks.differ), findings.ranks.sizes[0]
        return f"of {of} ranks only {which} had other bits in {op}: memory, weights or processor there"
    if findings.reference is None and findings.kernels is not None:
        return f"another kernel ran {op}, which must be run again to say whether that is why"
    if findings.reference is None:
        return f"traces alone say where, and {op} must be run again to say why"
    if not findings.reference.reproduces:
        return "the recorded settings do not give the recorded bits here, so the recorded tensors are lost"
    if findings.weights and len(findings.weights) == 1:
        return f"{findings.weights[0].name} is not the recorded tensor, and how it changed was not seen"
    if graft is None:
        return f"the inputs of {op} were not compared"
    if graft.unequal_inputs:
        return (
            f"{op} had other inputs ({', '.join(graft.unequal_inputs)}), and what made them was not recorded"
        )
    if graft.replayed_op_on_recorded_inputs == "recorded":
        if one_bit(findings):
            return f"one bit of {op} changed once, too little to tell a flipped bit from a rare race"
        return f"{op} gives the recorded bits when it is run again: a rare race, or memory (--repeat counts)"
    return f"{op} gives other bits on equal inputs, and nothing that was measured says why"
