"""What was measured, in sentences: one function a finding, none of which says why.

Pure. A finding that was not measured gives no evidence.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from detrec.replayer.diagnosis import Evidence
from detrec.replayer.findings import Findings
from detrec.replayer.schedule_diff import ScheduleDifference

_SHOWN = 3
_OUTCOMES = {
    "recorded": "the recorded output",
    "replayed": "the replayed output",
    "other": "neither run's output",
}

# by what the replayed op gives on recorded inputs, and the recorded op on replayed ones
_GRAFTS = {
    ("replayed", "recorded"): "either op gives its own output again, on the inputs of the other too",
    ("recorded", "replayed"): "on the inputs of the other run either op gives the output of the other",
    ("recorded", "recorded"): "both ops give the recorded output",
}


def evidence_of(findings: Findings) -> tuple[Evidence, ...]:
    """Everything that was measured, in the order in which it was looked at."""
    found = (make(findings) for make in _ALL)
    return tuple(evidence for evidence in found if evidence is not None)


def kernels(findings: Findings) -> Evidence | None:
    """Which kernels ran the op, where that is not the same."""
    if findings.kernels is None:
        return None
    recorded, replayed = findings.kernels
    return Evidence(
        "kernel",
        f"recorded {recorded or 'none'}, replayed {replayed or 'none'}",
        {"recorded": recorded, "replayed": replayed},
    )


def manifest(findings: Findings) -> Evidence | None:
    """What the runs were told differently."""
    if not findings.manifest:
        return None
    keys = [difference.key for difference in findings.manifest]
    return Evidence(
        "manifest",
        f"the runs were told differently: {_some(keys)}",
        {"differences": [asdict(difference) for difference in findings.manifest]},
    )


def schedule(findings: Findings) -> Evidence | None:
    """Schedule differences up to the step of the divergence."""
    if not findings.schedule:
        return None
    texts = [_difference(difference) for difference in findings.schedule]
    return Evidence(
        "schedule",
        f"up to step {findings.first.step}: {_some(texts, '; ')}",
        {"differences": [asdict(difference) for difference in findings.schedule]},
    )


def reference(findings: Findings) -> Evidence | None:
    """Whether the recorded run can be had again."""
    if findings.reference is None:
        return None
    gives = "gives the recorded bits here" if findings.reference.reproduces else "gives other bits here too"
    return Evidence(
        "reference", f"run again with the recorded settings, it {gives}", asdict(findings.reference)
    )


def weights(findings: Findings) -> Evidence | None:
    """Whether the model's tensors are the recorded ones."""
    if findings.weights is None:
        return None
    facts = {"tensors": [asdict(weight) for weight in findings.weights]}
    if not findings.weights:
        return Evidence("weights", "no tensor of the model was seen to differ", facts)
    if len(findings.weights) > 1:
        names = _some([weight.name for weight in findings.weights])
        return Evidence("weights", f"{len(findings.weights)} tensors have other bits: {names}", facts)
    (weight,) = findings.weights
    if weight.element is not None and weight.bit is not None:
        return Evidence(
            "weights", f"{weight.name}: bit {weight.bit} of element {weight.element} differs", facts
        )
    count = "" if weight.elements is None else f" in {weight.elements:,} elements"
    return Evidence("weights", f"{weight.name} has other bits{count}", facts)


def graft(findings: Findings) -> Evidence | None:
    """Either run's op on the other's inputs."""
    if findings.graft is None:
        return None
    if findings.graft.unequal_inputs:
        inputs = f"inputs differ ({_some(findings.graft.unequal_inputs)})"
    else:
        inputs = "all inputs are equal"
    forth = findings.graft.replayed_op_on_recorded_inputs
    back = findings.graft.recorded_op_on_replayed_inputs
    gives = _GRAFTS.get((forth, back)) or (
        f"the replayed op on recorded inputs gives {_OUTCOMES[forth]}, "
        f"the recorded op on replayed inputs {_OUTCOMES[back]}"
    )
    facts = asdict(findings.graft) | {"unequal_inputs": list(findings.graft.unequal_inputs)}
    return Evidence("graft", f"{inputs}; {gives}", facts)


def repeats(findings: Findings) -> Evidence | None:
    """The op again and again on one input."""
    if findings.repeats is None:
        return None
    times, distinct = findings.repeats.times, findings.repeats.distinct
    gave = "one and the same output" if distinct == 1 else f"{distinct} different outputs"
    return Evidence("repeat", f"run {times} times on one input, the op gave {gave}", asdict(findings.repeats))


def batches(findings: Findings) -> Evidence | None:
    """The row in other company."""
    if findings.batches is None:
        return None
    facts = asdict(findings.batches)
    kept, moved = ([name for name, same in facts.items() if same is wanted] for wanted in (True, False))
    texts = [
        f"{' and '.join(names)} {what}"
        for names, what in ((moved, "the row has other bits"), (kept, "the same"))
        if names
    ]
    return Evidence("batch", ", ".join(texts), facts)


def difference(findings: Findings) -> Evidence | None:
    """How the two outputs differ."""
    if findings.difference is None:
        return None
    found = findings.difference
    text = (
        f"{found.elements:,} of {found.size:,} elements differ in {found.rows:,} rows, {found.pattern}: "
        f"{found.flipped_bits:,} bits, at most {found.max_ulp:,} ULP"
    )
    finite = "" if found.finite else "; not all are finite"
    return Evidence("tensors", text + finite, asdict(found))


def cache(findings: Findings) -> Evidence | None:
    """The KV that the row reads."""
    if findings.cache is None:
        return None
    found, facts = findings.cache, asdict(findings.cache)
    if not found.unequal:
        return Evidence("cache", "the KV it reads is equal in both runs", facts)
    wrote = "it was written alike" if found.written_alike else "it was written differently"
    hit = ", served by a prefix-cache hit" if found.hit else ""
    text = (
        f"KV differs at {found.unequal:,} positions that it reads, the first is {found.first}{hit}; {wrote}"
    )
    return Evidence("cache", text, facts)


def draw(findings: Findings) -> Evidence | None:
    """What keyed the draw."""
    if findings.draw is None:
        return None
    found = findings.draw
    sides = [
        f"{name} {ours}" if ours == theirs else f"{name} recorded {ours}, replayed {theirs}"
        for name, ours, theirs in (
            ("seed", found.recorded_seed, found.replayed_seed),
            ("counter", found.recorded_counter, found.replayed_counter),
        )
    ]
    logprobs = "logprobs are equal" if found.equal_logprobs else "logprobs differ"
    return Evidence("draw", f"{logprobs}; {'; '.join(sides)}", asdict(found))


def stale(findings: Findings) -> Evidence | None:
    """The earlier row whose output this is."""
    if findings.stale is None:
        return None
    found = findings.stale
    text = (
        f"the replayed output is, bit for bit, that of request {found.request}, position {found.position} "
        f"in step {found.step}"
    )
    return Evidence("stale", text, asdict(found))


def again(findings: Findings) -> Evidence | None:
    """What the replay gave at that place when it was run once more."""
    if not findings.again:
        return None
    outcome = {**_OUTCOMES, "other": "neither output"}[findings.again]
    return Evidence("again", f"replayed once more, the op gave {outcome}", {"outcome": findings.again})


def ranks(findings: Findings) -> Evidence | None:
    """What the ranks brought to a collective."""
    if findings.ranks is None:
        return None
    found = findings.ranks
    recorded, replayed = found.sizes
    texts = []
    if recorded != replayed:
        texts.append(f"recorded on {recorded} ranks, replayed on {replayed}: partial sums are not comparable")
    elif 0 < len(found.differ) < recorded:
        texts.append(f"of {recorded} ranks only {_some(found.differ)} differ")
    if found.equal_partials is not None:
        equal = "every rank's partial is equal, only the sum differs"
        texts.append(equal if found.equal_partials else "the ranks' partials differ")
    if found.invariant:
        texts.append("both runs add so that the number of ranks changes nothing")
    # lists, as JSON has them
    facts = {**asdict(found), "sizes": [recorded, replayed], "differ": list(found.differ)}
    return Evidence("ranks", "; ".join(texts), facts) if texts else None


_ALL: tuple[Callable[[Findings], Evidence | None], ...] = (
    *(kernels, manifest, schedule, reference, again, weights, graft),
    *(repeats, batches, difference, cache, stale, draw, ranks),
)


def _difference(found: ScheduleDifference) -> str:
    return f"step {found.step} {found.what}: recorded {found.recorded}, replayed {found.replayed}"


def _some(texts: Iterable[Any], between: str = ", ") -> str:
    shown = [str(text) for text in texts]
    more = len(shown) - _SHOWN
    return between.join(shown[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
