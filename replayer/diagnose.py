"""From a divergence to what can be measured of it: at most two more runs, each up to the step where it is.

The reference is the recorded run again: its tensors are the recorded ones where its bits are. The suspect is
the replay again: what goes wrong in it goes wrong in the experiments too.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from detrec.config import ServeConfig
from detrec.engines.builtin.weights import open_checkpoint
from detrec.engines.start import Progress
from detrec.errors import DetrecError
from detrec.recorder.reader import TraceReader
from detrec.replayer.capture import Capture, Writes
from detrec.replayer.collective import is_collective, rank_findings
from detrec.replayer.comparison import Comparison
from detrec.replayer.divergence import split_name
from detrec.replayer.findings import Findings, Weight
from detrec.replayer.keep import keep
from detrec.replayer.rerun import Side, Until, rerun
from detrec.replayer.side_by_side import Sides, given_again, held, kernels, measured, narrowed
from detrec.replayer.weights import changed_on_disk, located, model_digests
from detrec.replayer.witnesses import draw_findings, place_of

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


def inspect(recorded: TraceReader, replayed: TraceReader, comparison: Comparison) -> Findings:
    """What two traces show by themselves. ValueError where no cell differs."""
    place = place_of(recorded, replayed, comparison)
    first = comparison.first
    assert first is not None, "place_of has refused it"
    field = _field(first.op)
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
        digests=model_digests(recorded.manifest, replayed.manifest),
        foreign=any(_engine_of(run) != "builtin" for run in (recorded, replayed)),
    )


def _engine_of(run: TraceReader) -> str:
    name: str = run.manifest.get("config", {}).get("engine", {}).get("name", "builtin")
    return name


@dataclass(frozen=True, slots=True)
class Made:
    """How a replay was made, to make it again; `notify` is told of what cannot be done.

    `keep_tensors` is a folder for both sides' tensors of the op.
    """

    overrides: Sequence[str] = ()
    mode: str = "schedule"
    fault: str = ""
    keep_tensors: str | Path | None = None
    notify: Callable[[str], None] = lambda text: None
    progress: Progress | None = None


def find(recorded: TraceReader, replayed: TraceReader, comparison: Comparison, made: Made) -> Findings:
    """Measure the first divergence of a replay, on the rank where it is.

    Where the trace lacks ops before the divergent one, `first` of the findings is narrowed down to them. A
    run that cannot be made again leaves its findings None. ValueError where no cell differs.
    """
    found = inspect(recorded, replayed, comparison)
    place = place_of(recorded, replayed, comparison)
    configs = _configs(found, recorded, made.overrides)
    if obstacle := _obstacle(found, configs):
        made.notify(f"diagnosis: {obstacle}: this is what the traces show")
        return found
    found = replace(found, weights=_located(found, configs[1].model, recorded))
    at = comparison.ops.index(place.name)
    after = comparison.ops[at - 1] if at else None
    runs = (
        ("reference", configs[0], Until(recorded, place.recorded_step)),
        ("second replay", configs[1], Until(recorded, place.replayed_step, made.mode, made.fault)),
    )
    with ExitStack() as stack:
        sides = Sides(*[_started(stack, *run, place.name, after, made) for run in runs])
        found, sides = given_again(found, place, sides)
        found, narrow = narrowed(found, place, sides)
        together = is_collective(narrow.name, _field(narrow.name), _most_ranks(configs))
        pair = held(found, narrow, sides, together=together)
        if pair.reference and pair.suspect and (narrow != place or found.first.rank):
            found = replace(found, kernels=kernels(pair.reference, pair.suspect))
        if made.keep_tensors is not None:
            kept = {"recorded": pair.reference, "replayed": pair.suspect}
            keep(made.keep_tensors, **{side: one.moment for side, one in kept.items() if one})
        return measured(found, narrow, sides, pair, (recorded, replayed))


def _started(
    stack: ExitStack, what: str, config: ServeConfig, until: Until, name: str, after: str | None, made: Made
) -> Side | None:
    """One of the two runs, until `stack` is left; None, and it is told why, where it cannot be made."""
    capture, writes = Capture(name, until.step, after), Writes(split_name(name)[0])
    try:
        return stack.enter_context(rerun(config, until, capture, writes, made.progress))
    except DetrecError as error:
        made.notify(f"diagnosis: the {what} could not be run: {error}")
        return None


def _configs(
    found: Findings, recorded: TraceReader, overrides: Sequence[str]
) -> tuple[ServeConfig, ServeConfig]:
    """The recorded settings and the replay's.

    Where the number of ranks changes nothing, the replay's runs both: then ranks stand beside ranks.
    """
    from detrec.replayer.replay import replayed_config

    same = found.ranks is not None and found.ranks.invariant
    ours = (f"engine.tensor_parallel_size={found.ranks.sizes[1]}",) if same and found.ranks else ()
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
    first = found.first
    if len({config.engine.tensor_parallel_size for config in configs}) > 1 and (
        first.rank is None or is_collective(first.op, found.field, _most_ranks(configs))
    ):
        return "experiments need two runs on as many ranks"
    return ""


def _most_ranks(configs: Sequence[ServeConfig]) -> int:
    return max(config.engine.tensor_parallel_size for config in configs)


def _field(name: str) -> str:
    """Which entry of the Ops table runs an op."""
    return FIELDS.get(split_name(name)[1], "")
