"""Causes that lie in how an op computes: its kernel, its order of additions, its races, its arithmetic."""

from detrec.replayer.findings import Findings
from detrec.replayer.rules.given import own_difference
from detrec.replayer.rules.place import batch_variant, born, dependable, op_of, steady, turned
from detrec.replayer.rules.rule import Rule


def _unstable(findings: Findings) -> bool:
    """One input, several outputs; and its inputs do not differ, which could have been the cause."""
    repeats, graft = findings.repeats, findings.graft
    return repeats is not None and repeats.distinct > 1 and (graft is None or not graft.unequal_inputs)


def _say_unstable(findings: Findings) -> str:
    repeats = findings.repeats
    assert repeats is not None
    return f"{op_of(findings)} gave {repeats.distinct} different outputs in {repeats.times} runs on one input"


def _sum_differs(findings: Findings) -> bool:
    """Every rank brought the same, and the sum over them is another."""
    return (
        findings.field == "all_reduce"
        and findings.ranks is not None
        and findings.ranks.equal_partials is True
        and dependable(findings)
    )


def _several_sums(findings: Findings) -> bool:
    """Every rank brought the same, again and again, and it was added to several sums."""
    repeats = findings.repeats
    return (
        findings.field == "all_reduce"
        and findings.ranks is not None
        and findings.ranks.equal_partials is True
        and repeats is not None
        and repeats.distinct > 1
    )


def _say_several(findings: Findings) -> str:
    repeats = findings.repeats
    assert repeats is not None
    return (
        f"every rank's partial is equal, and {op_of(findings)} adds them as they come: "
        f"{repeats.distinct} sums in {repeats.times} runs"
    )


def _follows_batch(findings: Findings) -> bool:
    return dependable(findings) and batch_variant(findings)


def _say_batch(findings: Findings) -> str:
    seen = findings.batches
    assert seen is not None
    company = [
        text
        for text, same in (("alone", seen.alone), ("among the same rows in another order", seen.permuted))
        if not same
    ] + ([] if seen.padded else ["with more rows behind it"])
    return f"{op_of(findings)} is not batch-invariant: a row has other bits {' and '.join(company)}"


def _other_kernel(findings: Findings) -> bool:
    return dependable(findings) and not batch_variant(findings)


def _other_launch(findings: Findings) -> bool:
    """Another kernel ran, and a third one in the second replay; each gives its bits whenever it is asked."""
    return (
        born(findings)
        and steady(findings)
        and not batch_variant(findings)
        and findings.graft is not None
        and findings.graft.recorded_op_on_replayed_inputs == "recorded"
        and findings.graft.replayed_op_on_recorded_inputs == findings.again == "other"
    )


def _other_arithmetic(findings: Findings) -> bool:
    """Nothing but the arithmetic is left: dependable, whatever the batch, by the kernel of the same name."""
    return (
        dependable(findings)
        and not batch_variant(findings)
        and findings.kernels is None
        and not turned(findings)
        and own_difference(findings) is None
    )


_COMPUTED = ("reference", "graft", "repeats")

RACE = Rule("unstable op", "race", ("repeats",), _unstable, _say_unstable)
ARRIVAL = Rule(
    "equal partials, several sums", "collective", ("ranks", "repeats"), _several_sums, _say_several
)
COLLECTIVE = Rule(
    "equal partials, another sum",
    "collective",
    ("ranks", *_COMPUTED),
    _sum_differs,
    lambda f: f"every rank's partial is equal, and {op_of(f)} adds them to another sum",
)
REDUCTION = Rule("batch-variant op", "reduction-order", ("batches", *_COMPUTED), _follows_batch, _say_batch)
KERNEL = Rule(
    "another kernel",
    "kernel-choice",
    ("kernels", "batches", *_COMPUTED),
    _other_kernel,
    lambda f: f"another kernel ran {op_of(f)}, and gives other bits on the same input",
)
LAUNCH = Rule(
    "another kernel each launch",
    "kernel-choice",
    ("kernels", "again", "batches", *_COMPUTED),
    _other_launch,
    lambda f: (
        f"another kernel ran {op_of(f)}, and another one each time the engine starts: each gives other bits"
    ),
)
NUMERICS = Rule(
    "other arithmetic",
    "numerics",
    ("batches", "difference", *_COMPUTED),
    _other_arithmetic,
    lambda f: f"{op_of(f)} computes something else, dependably and whatever the batch, under the same name",
)
