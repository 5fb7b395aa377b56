"""From a divergence to what can be measured of it: at most two more runs, each up to the step where it is.

The reference is the recorded run again: its tensors are the recorded ones where its bits are. The suspect is
the replay again: what goes wrong in it goes wrong in the experiments too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from detrec.config import ServeConfig
from detrec.engines.builtin.weights import open_checkpoint
from detrec.engines.start import Progress
from detrec.errors import DetrecError
from detrec.recorder.reader import TraceReader
from detrec.replayer.capture import Capture, Moment, Writes
from detrec.replayer.collective import Again, is_collective, rank_findings
from detrec.replayer.comparison import Comparison
from detrec.replayer.divergence import Divergence, split_name
from detrec.replayer.experiments import company, graft, named, print_of
from detrec.replayer.findings import Batches, Difference, Findings, Graft, Reference, Repeats, Weight
from detrec.replayer.keep import keep
from detrec.replayer.rerun import Side, rerun
from detrec.replayer.tensor_diff import difference
from detrec.replayer.weights import Shapes, changed_in_memory, changed_on_disk, located
from detrec.replayer.witnesses import Place, cache_findings, draw_findings, place_of

FIELDS = {
    "embedding": "embedding",
    "final_norm": "rms_norm", "attn_norm": "rms_norm", "q_norm": "rms_norm", "k_norm": "rms_norm",
    "mlp_norm": "rms_norm",
    "qkv": "matmul", "o_partial": "matmul", "gate_up": "matmul", "down_partial": "matmul", "logits": "matmul",
    "rope_q": "rope", "rope_k": "rope",
    "kv_write": "kv_write", "attn": "attention",
    "o_proj": "all_reduce", "down_proj": "all_reduce",
    "attn_residual": "add", "output": "add",
    "act": "silu_mul",
    "logits_penalised": "penalise", "logprobs": "log_softmax", "sampled": "sample",
}  # fmt: skip
"""Which entry of the Ops table runs an op, by its bare name; "" for an op of another engine."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """Both runs' moment of one op, and the row of the first divergence in either."""

    recorded: Moment
    replayed: Moment
    row: int
    other: int


def inspect(recorded: TraceReader, replayed: TraceReader, comparison: Comparison) -> Findings:
    """What two traces show by themselves. ValueError where no cell differs."""
    place = place_of(recorded, replayed, comparison)
    first = comparison.first
    assert first is not None, "place_of has refused it"
    field = FIELDS.get(first.op, "")
    return Findings(
        first=first,
        field=field,
        kernels=comparison.kernels,
        manifest=comparison.manifest_diff,
        schedule=tuple(d for d in comparison.schedule_diff.shown if d.step <= first.step),
        draw=draw_findings(recorded, replayed, place) if field == "sample" else None,
        ranks=rank_findings(recorded, replayed, place),
        weights=changed_on_disk(recorded.manifest, replayed.manifest),
        dtype=recorded.manifest.get("config", {}).get("engine", {}).get("dtype", "float32"),
    )


def find(
    recorded: TraceReader,
    replayed: TraceReader,
    comparison: Comparison,
    *,
    overrides: Sequence[str] = (),
    mode: str = "schedule",
    fault: str = "",
    keep_tensors: str | Path | None = None,
    notify: Callable[[str], None] = lambda text: None,
    progress: Progress | None = None,
) -> Findings:
    """Measure the first divergence of a replay that was made with `overrides`, `mode` and `fault`.

    Where the trace lacks ops before the divergent one, `first` of the findings is narrowed down to them.
    `keep_tensors` is a folder for both sides' tensors of the op. A run that cannot be made again leaves its
    findings None, and `notify` is told why. ValueError where no cell differs.
    """
    found = inspect(recorded, replayed, comparison)
    place = place_of(recorded, replayed, comparison)
    configs = _configs(found, recorded, overrides)
    if obstacle := _obstacle(found, configs):
        notify(f"diagnosis: {obstacle}: this is what the traces show")
        return found
    ranks = max(config.engine.tensor_parallel_size for config in configs)
    collective = is_collective(place.name, found.field, ranks)
    found = replace(found, weights=_located(found, configs[1].model, recorded))
    at = comparison.ops.index(place.name)
    after = comparison.ops[at - 1] if at else None

    def attempt(
        what: str, config: ServeConfig, step: int, mode: str, fault: str, together: Again | None = None
    ) -> Side | None:
        capture, writes = Capture(place.name, step, after), Writes(split_name(place.name)[0])
        try:
            return rerun(config, recorded, capture, writes, step, mode, fault, progress, together)
        except DetrecError as error:
            notify(f"diagnosis: the {what} could not be run: {error}")
            return None

    ours = attempt("reference", configs[0], place.recorded_step, "schedule", "")
    job = Again(place.name, place.request, place.position) if collective else None
    theirs = attempt("second replay", configs[1], place.replayed_step, mode, fault, job)
    cell = found.first.recorded, found.first.replayed
    found = replace(found, replays=sum(side is not None for side in (ours, theirs)))
    if ours is not None:
        found = replace(found, reference=Reference(_print(ours, place) == cell[0]))
    if theirs is not None:
        again = _print(theirs, place)
        found = replace(found, again="" if again is None else named(again, cell))
    here, there = _moments(ours, place), _moments(theirs, place)
    if here and there:
        found, place, here, there = _narrowed(found, place, here, there)
    if keep_tensors is not None:
        keep(keep_tensors, recorded=here.get(place.name), replayed=there.get(place.name))
    if place.name in there and theirs:
        # an op that ranks do together cannot be run by one of them
        alone = not is_collective(place.name, there[place.name].field, ranks)
        seen = company(there[place.name], _row(there[place.name], place)) if alone else theirs.company
        found = _with_suspect(found, there[place.name], seen)
    if ours and theirs and place.name in here and place.name in there:
        pair = _pair(here[place.name], there[place.name], place)
        together = is_collective(place.name, pair.replayed.field, ranks)
        found = _with_both(found, pair, ours.shapes, together=together)
        if found.graft is not None:
            cache = cache_findings(pair.recorded, pair.replayed, place, (recorded, replayed), theirs.writes)
            found = replace(found, cache=cache)
    return found


def _configs(
    found: Findings, recorded: TraceReader, overrides: Sequence[str]
) -> tuple[ServeConfig, ServeConfig]:
    """The recorded settings and the replay's.

    Where one rank replayed what several recorded, and their number changes nothing, one rank runs both: then
    its whole rows are what the ranks' shares add up to.
    """
    from detrec.replayer.replay import replayed_config

    one = found.ranks is not None and found.ranks.invariant and found.ranks.sizes[1] == 1
    ours = ("engine.tensor_parallel_size=1",) if one else ()
    return replayed_config(recorded, ours), replayed_config(recorded, overrides)


def _located(found: Findings, model: str, recorded: TraceReader) -> tuple[Weight, ...] | None:
    """The one tensor that is not the recorded one, to its bit where that can be had."""
    if found.weights is None or len(found.weights) != 1:
        return found.weights
    return (located(found.weights[0], open_checkpoint(model), recorded.manifest),)


def _obstacle(found: Findings, configs: Sequence[ServeConfig]) -> str:
    """Why nothing can be run again; empty where it can."""
    if any(config.engine.device != "cpu" for config in configs):
        return "experiments run on a CPU only"
    first, most = found.first, max(config.engine.tensor_parallel_size for config in configs)
    if len({config.engine.tensor_parallel_size for config in configs}) > 1 and (
        first.rank is None or is_collective(first.op, found.field, most)
    ):
        return "experiments need two runs on as many ranks"
    if first.rank:
        return f"experiments look at rank 0, and this is on rank {first.rank}"
    return ""


def _with_suspect(found: Findings, moment: Moment, seen: tuple[Repeats, Batches] | None) -> Findings:
    """What the replay's own op shows by itself."""
    repeats, batches = seen or (None, None)
    return replace(found, field=moment.field, repeats=repeats, batches=batches)


def _with_both(found: Findings, pair: _Pair, shapes: Shapes, *, together: bool) -> Findings:
    """What the two runs show side by side; tensors only where the reference has the recorded ones."""
    in_memory = changed_in_memory(pair.recorded, pair.replayed, shapes)
    if in_memory:
        names = {weight.name for weight in in_memory}
        rest = tuple(weight for weight in found.weights or () if weight.name not in names)
        found = replace(found, weights=in_memory + rest)
    if found.reference is None or not found.reference.reproduces:
        return found
    return replace(
        found,
        graft=_graft_together(found) if together else _graft(found, pair),
        difference=_difference(pair.recorded, pair.replayed),
    )


def _graft(found: Findings, pair: _Pair) -> Graft | None:
    prints = found.first.recorded, found.first.replayed
    return graft((pair.recorded, pair.row), (pair.replayed, pair.other), prints)


def _graft_together(found: Findings) -> Graft | None:
    """Of a sum over ranks: where they gave the same in both runs, each run again had the other's inputs."""
    if found.ranks is None or not found.ranks.equal_partials or not found.again:
        return None
    return Graft((), found.again, "recorded")


def _narrowed(
    found: Findings, place: Place, here: dict[str, Moment], there: dict[str, Moment]
) -> tuple[Findings, Place, dict[str, Moment], dict[str, Moment]]:
    """To the first op, and its first row, that differs among those that the trace does not have."""
    if found.reference is None or not found.reference.reproduces:
        return found, place, here, there
    for name in [name for name in here if name in there and name != place.name]:
        ours, theirs = here[name], there[name]
        for row, (request, position) in enumerate(ours.places):
            other = theirs.row(request, position)
            if other is None:
                continue
            prints = print_of(ours.output, row, ours.share), print_of(theirs.output, other, theirs.share)
            if prints[0] != prints[1]:
                layer, op = split_name(name)
                first = Divergence(found.first.step, request, position, layer, op, found.first.rank, *prints)
                kernels = (ours.kernel, theirs.kernel) if ours.kernel != theirs.kernel else None
                moved = replace(place, name=name, request=request, position=position)
                return replace(found, first=first, kernels=kernels), moved, here, there
    return found, place, here, there


def _moments(side: Side | None, place: Place) -> dict[str, Moment]:
    """Those of a run that came to the divergent cell."""
    return {} if side is None or _print(side, place) is None else side.moments


def _pair(recorded: Moment, replayed: Moment, place: Place) -> _Pair:
    return _Pair(recorded, replayed, _row(recorded, place), _row(replayed, place))


def _row(moment: Moment, place: Place) -> int:
    row = moment.row(place.request, place.position)
    assert row is not None, "the row was looked for before"
    return row


def _difference(recorded: Moment, replayed: Moment) -> Difference | None:
    """Of the rows that both have."""
    pairs = [
        (row, other)
        for row, place in enumerate(recorded.places)
        if (other := replayed.row(*place)) is not None
    ]
    ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    return difference(recorded.output[ours], replayed.output[theirs], head=_head(recorded))


def _head(moment: Moment) -> int:
    """The width of a head of the output, 0 where it has none."""
    if moment.field == "attention":
        return round(moment.args[3] ** -2)
    if moment.field == "rope":
        return 2 * int(moment.args[2].shape[1])
    return len(moment.args[1]) if moment.field == "rms_norm" else 0


def _print(side: Side, place: Place) -> int | None:
    """The fingerprint of the divergent cell, None where the run did not come there."""
    moment = side.moments.get(place.name)
    row = None if moment is None else moment.row(place.request, place.position)
    return None if moment is None or row is None else print_of(moment.output, row, moment.share)
