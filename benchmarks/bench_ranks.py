"""The engine on several GPUs: tokens a second with the custom all-reduce, with NCCL's, and on one GPU.

    python -m benchmarks.bench_ranks [--ranks 2] [--model NAME] [--layers N] [--requests 64]

A process a GPU. The custom all-reduce and NCCL take turns in the same processes, over the same weights, a new
engine each; the first round compiles and is thrown away. Figures are medians over rounds.
"""

import argparse
import statistics
import sys
from dataclasses import replace

import torch

from benchmarks.bench_all_reduce import ranks_do
from benchmarks.nccl import NcclGroup
from benchmarks.workload import Kept, Times, config_of, keep_weights, timed
from detrec.engines.builtin import gpu_runner, seeded
from detrec.engines.builtin.engine import BuiltinEngine
from detrec.engines.builtin.ranks import Ranks
from detrec.engines.builtin.requests import resolve_requests
from detrec.kernels.device_group import DeviceGroup
from detrec.kernels.rendezvous import Rendezvous

GROUPS = {"detrec": DeviceGroup, "NCCL": NcclGroup}


def run(args: argparse.Namespace, checkpoint: Kept, group: str, meeting: Rendezvous | None) -> Times:
    """One run of a fresh engine, of one rank where there is no `meeting`."""
    gpu_runner.DeviceGroup = GROUPS[group]
    size = meeting.world_size if meeting else 1
    config = config_of(
        *(args.model, args.requests, args.prompt, args.output),
        tensor_parallel_size=size,
        reduction=args.reduction if group == "detrec" else "ranks",
    )
    ranks = Ranks(meeting) if meeting else None
    engine = BuiltinEngine(config, checkpoint, resolve_requests(config, checkpoint), ranks=ranks)
    if ranks and ranks.rank:
        ranks.told()
    times = timed(engine.run(engine.own_scheduler()))
    if ranks:
        # the meeting is needed again
        engine._runner._group.close()  # type: ignore[attr-defined]
        ranks._end.detach()
    return times


def rounds_of(meeting: Rendezvous, args: argparse.Namespace) -> dict[str, list[Times]]:
    """By all-reduce, the times of this rank's rounds; "one GPU" is rank 0's."""
    if args.layers:
        name = args.model.partition(":")[2]
        seeded._MODELS[name] = replace(seeded._MODELS[name], num_layers=args.layers)
    torch.cuda.set_device(meeting.rank)
    keep_weights()
    checkpoint = Kept(args.model)
    times: dict[str, list[Times]] = {name: [] for name in (*GROUPS, "one GPU")}
    for _ in range(args.rounds + 1):
        for name in GROUPS:
            times[name].append(run(args, checkpoint, name, meeting))
            meeting.barrier()
    if meeting.rank == 0:
        times["one GPU"] += [run(args, checkpoint, "detrec", None) for _ in range(args.rounds + 1)]
    meeting.barrier()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--model", default="builtin:qwen2-7b")
    parser.add_argument("--layers", type=int, default=0)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--output", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--reduction", default="ranks")
    args = parser.parse_args()
    answers: list[dict[str, list[Times]] | None] = ranks_do(args.ranks, rounds_of, args, seconds=540)
    times = answers[0]
    if None in answers or times is None:
        sys.exit("a rank failed")
    layers = f", {args.layers} layers" if args.layers else ""
    print(
        f"{args.ranks} x {torch.cuda.get_device_name()}, {args.model}{layers}, bfloat16, {args.requests} "
        f"requests, prompts of {args.prompt}, {args.output} generated, reduction {args.reduction}\n"
    )
    print("| all-reduce | GPUs | prefill tok/s | decode tok/s | whole s |\n|---|---|---|---|---|")
    for name in (*GROUPS, "one GPU"):
        kept = times[name][1:]
        prefill = args.requests * args.prompt / statistics.median(t.prefill for t in kept)
        decode = args.requests * (args.output - 1) / statistics.median(sum(t.decodes) for t in kept)
        whole = statistics.median(t.whole for t in kept)
        gpus = 1 if name == "one GPU" else args.ranks
        print(f"| {'-' if gpus == 1 else name} | {gpus} | {prefill:.0f} | {decode:.0f} | {whole:.3f} |")


if __name__ == "__main__":
    main()
