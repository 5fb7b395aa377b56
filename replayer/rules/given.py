"""Causes that lie in what a run was given: prompts, sampling, the model, number formats, the schedule."""

import re

from detrec.printable import counted
from detrec.replayer.findings import Findings
from detrec.replayer.rules.place import dependable, op_of, reproduces, told, uses_weight
from detrec.replayer.rules.rule import Rule
from detrec.replayer.schedule_diff import ScheduleDifference

# which op is the first that a sampling parameter enters
_ENTERS = {
    "sampled": ("temperature", "top_k", "top_p", "min_p", "seed"),
    "logits_penalised": (
        *("repetition_penalty", "presence_penalty", "frequency_penalty"),
        *("min_tokens", "stop_token_ids", "ignore_eos"),
    ),
}
# settings that may cut prompts and steps otherwise; a difference in one explains a schedule difference
_SCHEDULING = (
    *("config.engine.max_model_len", "config.engine.max_num_seqs", "config.engine.max_num_batched_tokens"),
    *("config.engine.block_size", "config.engine.num_gpu_blocks_override", "engine.num_blocks"),
    *("config.engine.enable_prefix_caching", "config.engine.enable_chunked_prefill"),
    *("config.engine.split_kv_size", "config.engine.deterministic", "requests.ids", "ranks"),
)
# CPU or GPU, else which architecture
_DEVICE = ("engine.device.kind", "engine.device.capability")


def _prompt_keys(findings: Findings) -> list[str]:
    """This request's prompt was another at this very position."""
    request, position = findings.first.request, findings.first.position
    return told(findings, f"requests.{request}.prompt[{position}]")


def _sampling_keys(findings: Findings) -> list[str]:
    """Sampling parameters of this request that were others, and that enter this op."""
    prefix = f"requests.{findings.first.request}.sampling."
    draw = findings.draw
    unused = () if draw is None or draw.recorded_seed != draw.replayed_seed else ("seed",)
    names = (name for name in _ENTERS.get(findings.first.op, ()) if name not in unused)
    return told(findings, *(prefix + name for name in names))


def _other_model(findings: Findings) -> bool:
    """More than one tensor is another, one of them this op's: no single accident."""
    return findings.weights is not None and len(findings.weights) > 1 and uses_weight(findings)


def _other_name(findings: Findings) -> bool:
    """Another model was asked for, and loaded; its weights enter this op."""
    return (
        bool(told(findings, "config.model"))
        and bool(told(findings, "engine.model_digest"))
        and findings.field in ("embedding", "rms_norm", "matmul")
    )


def _other_digest(findings: Findings) -> bool:
    """The model is another and no digest of a tensor tells where; what follows from its weights differs.

    An op of a foreign engine may hold a weight whatever it is called, and its trace may lack the op that
    does; a draw holds none.
    """
    named = findings.weights or ()
    ops = ("embedding", "rms_norm", "matmul")
    enters = (
        findings.field not in ("penalise", "log_softmax", "sample")
        if findings.foreign
        else (findings.field in ops)
    )
    # tensors that ops are known to use are left to what looks at those
    telling = findings.weights is not None and any(w.name.startswith(("model.", "lm_head.")) for w in named)
    # an engine may digest what it computes with
    return enters and not telling and not told(findings, "config.engine.dtype")


def _other_dtype(findings: Findings) -> bool:
    """Every number has another format from the first op on; that the recorded one still works was seen."""
    return (
        bool(told(findings, "config.engine.dtype"))
        and findings.first.op == "embedding"
        and reproduces(findings)
    )


def _other_device(findings: Findings) -> bool:
    """Low precision is what the units of one GPU architecture make of it, in ops that multiply matrices."""
    return (
        findings.dtype != "float32"
        and findings.field in ("matmul", "attention")
        and bool(told(findings, *_DEVICE))
    )


def _say_device(findings: Findings) -> str:
    key = next(key for key in _DEVICE if told(findings, key))
    sides = next((d.recorded, d.replayed) for d in findings.manifest if d.key == key)
    return (
        "{} ran in {} on another device ({}: recorded {}, replayed {}): only float32 has the same bits on "
        "both".format(op_of(findings), findings.dtype, key.rpartition(".")[2], *sides)
    )


def _other_kernels(findings: Findings) -> bool:
    """Even the recorded settings give other bits here, and what computes them is another detrec's."""
    return bool(told(findings, "environment.kernels_version")) and not reproduces(findings)


def _say_kernels(findings: Findings) -> str:
    (key,) = told(findings, "environment.kernels_version")
    versions = next((d.recorded, d.replayed) for d in findings.manifest if d.key == key)
    return (
        "kernels of version {} recorded it, and those of version {} give other bits with the recorded "
        "settings too".format(*versions)
    )


def _other_ranks(findings: Findings) -> bool:
    """The first op that differs is a sum over ranks, of another number of them, which may change it."""
    ranks = findings.ranks
    return (
        bool(told(findings, "ranks"))
        and findings.field == "all_reduce"
        and ranks is not None
        and ranks.sizes[0] != ranks.sizes[1]
        and not ranks.invariant
    )


def _say_ranks(findings: Findings) -> str:
    assert findings.ranks is not None
    recorded, replayed = findings.ranks.sizes
    sizes = f"{counted(recorded, 'rank')} recorded it and {replayed} replayed it"
    return f"{sizes}: {op_of(findings)} adds other partial sums"


def own_difference(findings: Findings) -> ScheduleDifference | None:
    """The first schedule difference in which the divergent row's own request was run otherwise."""
    own = re.compile(rf"(?:^|[ ,]){re.escape(findings.first.request)}(\[\d+:\d+\)| [\d,]+ tokens?)")
    for difference in findings.schedule:
        recorded, replayed = own.findall(difference.recorded), own.findall(difference.replayed)
        if difference.step <= findings.first.step and recorded != replayed:
            return difference
    return None


def _unasked_schedule(findings: Findings) -> bool:
    """Told the same, the runs cut this request differently; and attention, which sees cuts, shows it."""
    return (
        not told(findings, *_SCHEDULING)
        and not any(key.endswith(".arrival") for key in told(findings, "requests"))
        and findings.field == "attention"
        and dependable(findings)
        and own_difference(findings) is not None
    )


def _say_schedule(findings: Findings) -> str:
    found = own_difference(findings)
    assert found is not None
    return (
        f"request {findings.first.request} was cut differently at step {found.step}, before any bit "
        f"differed: {op_of(findings)} depends on the cut"
    )


def _say_sampling(findings: Findings) -> str:
    names = ", ".join(key.rpartition(".")[2] for key in _sampling_keys(findings))
    return f"request {findings.first.request} was given another {names}"


OTHER_MODEL = Rule(
    "another model",
    "input",
    ("weights",),
    _other_model,
    lambda f: f"the replay ran another model: {len(f.weights or ())} tensors have other bits",
)
OTHER_NAME = Rule(
    "another model by name",
    "input",
    ("manifest",),
    _other_name,
    lambda f: "the runs were told to run different models",
)
OTHER_DIGEST = Rule(
    "another model by digest",
    "input",
    ("digests",),
    _other_digest,
    lambda f: "the replay ran another model: the digest of its weights is not the recorded one",
)
PROMPT = Rule(
    "another prompt",
    "input",
    ("manifest",),
    lambda f: f.first.op == "embedding" and bool(_prompt_keys(f)),
    lambda f: f"the prompt of request {f.first.request} has another token at position {f.first.position}",
)
SAMPLING = Rule(
    "other sampling parameters",
    "input",
    ("manifest",),
    lambda f: bool(_sampling_keys(f)),
    _say_sampling,
)
DTYPE = Rule(
    "another number format",
    "environment",
    ("manifest", "reference"),
    _other_dtype,
    lambda f: "the runs computed in different number formats, from the first op on",
)
DEVICE = Rule(
    "another device in low precision",
    "environment",
    ("manifest",),
    _other_device,
    _say_device,
)
KERNELS = Rule(
    "kernels of another version",
    "environment",
    ("manifest", "reference"),
    _other_kernels,
    _say_kernels,
)
RANKS = Rule("another number of ranks", "collective", ("manifest", "ranks"), _other_ranks, _say_ranks)
SCHEDULE = Rule(
    "an unasked cut",
    "schedule",
    ("schedule", "reference", "graft", "repeats"),
    _unasked_schedule,
    _say_schedule,
)
