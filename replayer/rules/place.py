"""What rules ask again and again of a divergence, each answered from one finding that was measured."""

from detrec.replayer.findings import Findings
from detrec.replayer.weights import tensors_of

# another order of additions moves an element by a few units of its last place, and may do so in one bit
_FEW_ULP = 8


def op_of(findings: Findings) -> str:
    """The op as a trace names it: "14.attn", "logits"."""
    first = findings.first
    return first.op if first.layer is None else f"{first.layer}.{first.op}"


def told(findings: Findings, *starts: str) -> list[str]:
    """The manifest keys told differently that are one of `starts` or lie below one."""
    return [
        difference.key
        for difference in findings.manifest
        if any(
            difference.key.startswith((start + ".", start + "[")) or difference.key == start
            for start in starts
        )
    ]


def reproduces(findings: Findings) -> bool:
    """The recorded settings give the recorded bits here: the recorded side's tensors can be had again."""
    return findings.reference is not None and findings.reference.reproduces


def born(findings: Findings) -> bool:
    """Equal inputs, and outputs that are not: whatever happened, happened in this op."""
    return reproduces(findings) and findings.graft is not None and not findings.graft.unequal_inputs


def steady(findings: Findings) -> bool:
    """Run again and again on one input, the op gave one output."""
    repeats = findings.repeats
    return repeats is not None and repeats.times > 1 and repeats.distinct == 1


def dependable(findings: Findings) -> bool:
    """Born here, and either op gives its own output again: the two compute differently, and always do."""
    graft = findings.graft
    return (
        born(findings)
        and steady(findings)
        and graft is not None
        and graft.replayed_op_on_recorded_inputs == "replayed"
        and graft.recorded_op_on_replayed_inputs == "recorded"
    )


def one_bit(findings: Findings) -> bool:
    """One bit of one element is all that differs in the whole step."""
    found = findings.difference
    return found is not None and found.elements == 1 and found.flipped_bits == 1


def turned(findings: Findings) -> bool:
    """One bit differs, and lies further up than another order of additions would reach."""
    return one_bit(findings) and findings.difference is not None and findings.difference.max_ulp >= _FEW_ULP


def batch_variant(findings: Findings) -> bool:
    """In other company the row has other bits."""
    seen = findings.batches
    return seen is not None and not (seen.alone and seen.permuted and seen.padded)


def uses_weight(findings: Findings) -> bool:
    """One of the tensors that are not the recorded ones is an input of this op."""
    names = {weight.name: () for weight in findings.weights or ()}
    return any(tensors_of(op_of(findings), argument, names) for argument in ("weight", "bias", "table"))
