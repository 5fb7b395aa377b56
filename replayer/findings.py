"""What was measured of one divergence: everything a diagnosis may rest on, and nothing that is one.

Pure data. A field is None where that was not measured, and never means that nothing was found.
"""

from dataclasses import dataclass

from detrec.replayer.divergence import Divergence
from detrec.replayer.manifest_diff import ManifestDifference
from detrec.replayer.schedule_diff import ScheduleDifference


@dataclass(frozen=True, slots=True)
class Reference:
    """A run of the recorded schedule and tokens with the recorded settings, here and without any fault.

    `reproduces`: its fingerprint of the first divergent cell is the recorded one, so that its tensors are the
    recorded tensors.
    """

    reproduces: bool


@dataclass(frozen=True, slots=True)
class Graft:
    """The op of either run on the inputs of the other; outputs are of the first divergent row.

    `unequal_inputs` names the inputs that differ (none: the divergence was born in this op). Each outcome is
    "recorded", "replayed" or "other": which output it equals bit for bit.
    """

    unequal_inputs: tuple[str, ...]
    replayed_op_on_recorded_inputs: str
    recorded_op_on_replayed_inputs: str


@dataclass(frozen=True, slots=True)
class Repeats:
    """The replayed op run `times` times on one and the same input; `distinct` outputs of the row came out.

    The input is its own batch, or, where that gave fewer outputs, one in which the row had other company.
    """

    times: int
    distinct: int


@dataclass(frozen=True, slots=True)
class Batches:
    """The replayed op on the row in other company: whether its bits are those it has in its own batch.

    `alone`: the row by itself; `permuted`: the same rows in another order; `padded`: more rows behind them.
    """

    alone: bool
    permuted: bool
    padded: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """How the two outputs differ, over all rows of the step.

    `elements` of `size` differ, in `rows` rows; `max_ulp` is the largest distance in units of the last place
    of the dtype, NaN apart; `flipped_bits` is how many bits differ in all; `pattern` says where in the row
    they lie ("one element", "head 3", "columns 64 to 127", "every column", "90 of 128 columns"; of a draw
    its fields: "seed, token"); `finite` is False where an element that differs is NaN or infinite in either.
    """

    elements: int
    size: int
    rows: int
    max_ulp: int
    flipped_bits: int
    pattern: str
    finite: bool


@dataclass(frozen=True, slots=True)
class Cache:
    """The KV that the first divergent row reads. `unequal` positions hold other bits than in the reference.

    `written_alike`: what was written there when it was written had equal bits in both runs, so that the cache
    lost or mixed it up later. `first` is the first such position, `hit` whether a prefix-cache hit covers it.
    """

    unequal: int
    written_alike: bool
    first: int
    hit: bool


@dataclass(frozen=True, slots=True)
class Draw:
    """How the first divergent row was drawn: seeds and counters of both runs, whether logprobs are equal."""

    recorded_seed: int
    replayed_seed: int
    recorded_counter: int
    replayed_counter: int
    equal_logprobs: bool


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of the model whose bits are not the recorded ones; `element`, `bit` where only one differs."""

    name: str
    elements: int | None = None
    element: int | None = None
    bit: int | None = None


@dataclass(frozen=True, slots=True)
class Ranks:
    """What the ranks hold at the divergence.

    `equal_partials`: what each rank gives to this sum is equal in both runs; None where the op is no sum or
    that cannot be compared. `sizes`: the ranks of the recorded and the replayed run. `differ`: those whose
    output is not the recorded one. `invariant`: both runs add so that the number of ranks changes nothing.
    """

    equal_partials: bool | None
    sizes: tuple[int, int] = (1, 1)
    differ: tuple[int, ...] = ()
    invariant: bool = False


@dataclass(frozen=True, slots=True)
class Stale:
    """A row of an earlier step, to which the op gave, bit for bit, what the replay has at the divergence."""

    step: int
    request: str
    position: int


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything measured of the first divergence. `field` is the entry of the Ops table that ran the op.

    `kernels` are (recorded, replayed) where they differ; `schedule` the differences up to the divergence's
    step; `manifest` all differences of the manifests. `again` is what the replay, run once more, gave at
    that cell: "recorded", "replayed", "other", or "" where it never came there. `replays` is how many runs
    it took, the replay that found the divergence not counted. `dtype` is what the recorded run computed in.
    `digests` are the model's (recorded, replayed) where one engine ran both and they differ; `foreign`: it is
    not the built-in one, whose ops may hold more than their names say.
    """

    first: Divergence
    field: str
    kernels: tuple[str, str] | None = None
    manifest: tuple[ManifestDifference, ...] = ()
    schedule: tuple[ScheduleDifference, ...] = ()
    reference: Reference | None = None
    graft: Graft | None = None
    repeats: Repeats | None = None
    batches: Batches | None = None
    difference: Difference | None = None
    cache: Cache | None = None
    draw: Draw | None = None
    weights: tuple[Weight, ...] | None = None
    ranks: Ranks | None = None
    again: str | None = None
    stale: Stale | None = None
    replays: int = 0
    dtype: str = "float32"
    digests: tuple[str, str] | None = None
    foreign: bool = False
