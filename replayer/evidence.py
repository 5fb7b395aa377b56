"""What was measured, in sentences: one function a finding, none of which says why.

Pure. A finding that was not measured gives no evidence.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from detrec.printable import counted
from detrec.replayer.diagnosis import Evidence
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

T = TypeVar("T")

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
    step = findings.first.step
    made = (
        _of(findings.kernels, kernels),
        _of(findings.manifest or None, manifest),
        _of(findings.schedule or None, lambda found: schedule(found, step)),
        _of(findings.reference, reference),
        _of(findings.again or None, again),
        _of(findings.digests, digests),
        _of(findings.weights, weights),
        _of(findings.graft, graft),
        _of(findings.repeats, repeats),
        _of(findings.batches, batches),
        _of(findings.difference, difference),
        _of(findings.cache, cache),
        _of(findings.stale, stale),
        _of(findings.draw, draw),
        _of(findings.ranks, ranks),
    )
    return tuple(evidence for evidence in made if evidence is not None)


def _of(found: T | None, say: Callable[[T], Evidence | None]) -> Evidence | None:
    """What was not measured gives no evidence."""
    return None if found is None else say(found)


def kernels(found: tuple[str, str]) -> Evidence:
    """Which kernels ran the op, where that is not the same."""
    recorded, replayed = found
    return Evidence(
        "kernel",
        f"recorded {recorded or 'none'}, replayed {replayed or 'none'}",
        {"recorded": recorded, "replayed": replayed},
    )


def manifest(found: tuple[ManifestDifference, ...]) -> Evidence:
    """What the runs were told differently."""
    keys = [difference.key for difference in found]
    return Evidence(
        "manifest",
        f"the runs were told differently: {_some(keys)}",
        {"differences": [asdict(difference) for difference in found]},
    )


def schedule(found: tuple[ScheduleDifference, ...], step: int) -> Evidence:
    """Schedule differences up to the step of the divergence."""
    texts = [_difference(difference) for difference in found]
    return Evidence(
        "schedule",
        f"up to step {step}: {_some(texts, '; ')}",
        {"differences": [asdict(difference) for difference in found]},
    )


def reference(found: Reference) -> Evidence:
    """Whether the recorded run can be had again."""
    gives = "gives the recorded bits here" if found.reproduces else "gives other bits here too"
    return Evidence("reference", f"run again with the recorded settings, it {gives}", asdict(found))


def digests(found: tuple[str, str]) -> Evidence:
    """What either run loaded, as one number."""
    recorded, replayed = found
    return Evidence(
        "model",
        f"digest recorded {recorded}, replayed {replayed}",
        {"recorded": recorded, "replayed": replayed},
    )


def weights(found: tuple[Weight, ...]) -> Evidence:
    """Whether the model's tensors are the recorded ones."""
    facts = {"tensors": [asdict(weight) for weight in found]}
    if not found:
        return Evidence("weights", "no tensor of the model was seen to differ", facts)
    if len(found) > 1:
        names = _some([weight.name for weight in found])
        return Evidence("weights", f"{len(found)} tensors have other bits: {names}", facts)
    (weight,) = found
    if weight.element is not None and weight.bit is not None:
        return Evidence(
            "weights", f"{weight.name}: bit {weight.bit} of element {weight.element} differs", facts
        )
    count = "" if weight.elements is None else f" in {counted(weight.elements, 'element')}"
    return Evidence("weights", f"{weight.name} has other bits{count}", facts)


def graft(found: Graft) -> Evidence:
    """Either run's op on the other's inputs."""
    if found.unequal_inputs:
        inputs = f"inputs differ ({_some(found.unequal_inputs)})"
    else:
        inputs = "all inputs are equal"
    forth = found.replayed_op_on_recorded_inputs
    back = found.recorded_op_on_replayed_inputs
    gives = _GRAFTS.get((forth, back)) or (
        f"the replayed op on recorded inputs gives {_OUTCOMES[forth]}, "
        f"the recorded op on replayed inputs {_OUTCOMES[back]}"
    )
    facts = asdict(found) | {"unequal_inputs": list(found.unequal_inputs)}
    return Evidence("graft", f"{inputs}; {gives}", facts)


def repeats(found: Repeats) -> Evidence:
    """The op again and again on one input."""
    times, distinct = found.times, found.distinct
    gave = "one and the same output" if distinct == 1 else f"{distinct} different outputs"
    return Evidence("repeat", f"run {counted(times, 'time')} on one input, the op gave {gave}", asdict(found))


def batches(found: Batches) -> Evidence:
    """The row in other company."""
    facts = asdict(found)
    kept, moved = ([name for name, same in facts.items() if same is wanted] for wanted in (True, False))
    texts = [
        f"{' and '.join(names)} {what}"
        for names, what in ((moved, "the row has other bits"), (kept, "the same"))
        if names
    ]
    return Evidence("batch", ", ".join(texts), facts)


def difference(found: Difference) -> Evidence:
    """How the two outputs differ."""
    differ = "differs" if found.elements == 1 else "differ"
    text = (
        f"{found.elements:,} of {counted(found.size, 'element')} {differ} in {counted(found.rows, 'row')}, "
        f"{found.pattern}: {counted(found.flipped_bits, 'bit')}, at most {found.max_ulp:,} ULP"
    )
    finite = "" if found.finite else "; not all are finite"
    return Evidence("tensors", text + finite, asdict(found))


def cache(found: Cache) -> Evidence:
    """The KV that the row reads."""
    facts = asdict(found)
    if not found.unequal:
        return Evidence("cache", "the KV it reads is equal in both runs", facts)
    wrote = "it was written alike" if found.written_alike else "it was written differently"
    hit = ", served by a prefix-cache hit" if found.hit else ""
    first = "" if found.unequal == 1 else "the first is "
    places = counted(found.unequal, "position")
    text = f"KV differs at {places} that it reads, {first}{found.first}{hit}; {wrote}"
    return Evidence("cache", text, facts)


def draw(found: Draw) -> Evidence:
    """What keyed the draw."""
    sides = [
        f"{name} {ours}" if ours == theirs else f"{name} recorded {ours}, replayed {theirs}"
        for name, ours, theirs in (
            ("seed", found.recorded_seed, found.replayed_seed),
            ("counter", found.recorded_counter, found.replayed_counter),
        )
    ]
    logprobs = "logprobs are equal" if found.equal_logprobs else "logprobs differ"
    return Evidence("draw", f"{logprobs}; {'; '.join(sides)}", asdict(found))


def stale(found: Stale) -> Evidence:
    """The earlier row whose output this is."""
    text = (
        f"the replayed output is, bit for bit, that of request {found.request}, position {found.position} "
        f"in step {found.step}"
    )
    return Evidence("stale", text, asdict(found))


def again(found: str) -> Evidence:
    """What the replay gave at that place when it was run once more."""
    outcome = {**_OUTCOMES, "other": "neither output"}[found]
    return Evidence("again", f"replayed once more, the op gave {outcome}", {"outcome": found})


def ranks(found: Ranks) -> Evidence | None:
    """What the ranks brought to a collective."""
    recorded, replayed = found.sizes
    texts = []
    if recorded != replayed:
        unseen = ": partial sums are not comparable" if found.equal_partials is None else ""
        texts.append(f"recorded on {counted(recorded, 'rank')}, replayed on {replayed}{unseen}")
    if 0 < len(found.differ) < replayed:
        differ = "differs" if len(found.differ) == 1 else "differ"
        texts.append(f"of {replayed} ranks only {ranks_by_number(found.differ)} {differ}")
    if found.equal_partials is not None:
        equal = "every rank's partial is equal, only the sum differs"
        texts.append(equal if found.equal_partials else "the ranks' partials differ")
    if found.invariant:
        texts.append("both runs add so that the number of ranks changes nothing")
    # lists, as JSON has them
    facts = {**asdict(found), "sizes": [recorded, replayed], "differ": list(found.differ)}
    return Evidence("ranks", "; ".join(texts), facts) if texts else None


def ranks_by_number(ranks: Sequence[int]) -> str:
    """ "rank 1", "ranks 1, 3"."""
    return f"rank{'' if len(ranks) == 1 else 's'} {_some(ranks)}"


def _difference(found: ScheduleDifference) -> str:
    return f"step {found.step} {found.what}: recorded {found.recorded}, replayed {found.replayed}"


def _some(texts: Iterable[Any], between: str = ", ") -> str:
    shown = [str(text) for text in texts]
    more = len(shown) - _SHOWN
    return between.join(shown[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
