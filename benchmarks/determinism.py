"""Is an all-reduce deterministic, from run to run and whatever the batch? detrec's and NCCL's, on these GPUs.

    python -m benchmarks.determinism

Each rank has rows of COLS elements over many magnitudes. `run to run`: the same sum RUNS times, with ranks
that arrive at random times. `batch`: each of the first rows in sums of 1 to 4096 rows. `rank order`: the sum
that the host makes, ranks added 0..n-1 in float32 and rounded once. detrec's has at least RANKS ranks,
several to a GPU where they must; NCCL has one rank a GPU, and of 2 ranks any order of additions gives the
same bits.
"""

import random
import sys
import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from benchmarks.bench_all_reduce import ranks_do
from benchmarks.bench_rows import of
from detrec.kernels.device import Device
from detrec.kernels.device_group import DeviceGroup
from detrec.kernels.rendezvous import Rendezvous

DTYPES = ("float32", "float16", "bfloat16")
RANKS, RUNS, COLS, KEPT = 4, 50, 1024, 4
BATCHES = (1, 2, 3, 8, 63, 256, 1000, 4096)

Sum = Callable[[torch.Tensor], torch.Tensor]
Verdict = tuple[bool, bool, bool]


def rows_of(rank: int, kind: str) -> torch.Tensor:
    """What a rank has: drawn on the host, over magnitudes that show the order of additions."""
    draws = torch.Generator().manual_seed(1000 + rank)
    values = torch.randn(max(BATCHES), COLS, generator=draws)
    spread = torch.randint(-2, 3, values.shape, generator=draws)
    return (values * 10.0**spread).to(getattr(torch, kind))


def same(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether two tensors have the same bits."""
    wide = torch.int32 if left.element_size() == 4 else torch.int16
    return torch.equal(left.view(wide), right.view(wide))


def verdict(add_up: Sum, rank: int, world: int, kind: str) -> Verdict:
    """Deterministic from run to run, whatever the batch, and equal to the sum in rank order."""
    parts = [rows_of(each, kind) for each in range(world)]
    mine = parts[rank].cuda()
    first = add_up(mine)
    runs = batches = True
    for run in range(RUNS):
        time.sleep(random.Random(run * world + rank).random() * 2e-3)
        runs &= same(add_up(mine[:256]), first[:256]) if run % 2 else same(add_up(mine), first)
    for size in BATCHES:
        kept = min(size, KEPT)
        batches &= same(add_up(mine[:size].contiguous())[:kept], first[:kept])
    total = parts[0].float()
    for part in parts[1:]:
        total = total + part.float()
    return runs, batches, same(first.cpu(), total.to(first.dtype))


def of_detrec(rendezvous: Rendezvous) -> dict[str, Verdict]:
    """By dtype."""
    index = rendezvous.rank % torch.cuda.device_count()
    torch.cuda.set_device(index)
    group = DeviceGroup(rendezvous, Device("torch", f"gpu:{index}"), 4 * COLS * max(BATCHES), 60)

    def add_up(x: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(x)
        torch.cuda.synchronize()
        group.all_reduce(of(x), of(out))
        torch.cuda.synchronize()
        group.check()
        return out

    return {kind: verdict(add_up, rendezvous.rank, rendezvous.world_size, kind) for kind in DTYPES}


def of_nccl(rendezvous: Rendezvous) -> dict[str, Verdict]:
    """By dtype."""
    rank, world = rendezvous.rank, rendezvous.world_size
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", rank=rank, world_size=world, device_id=torch.device("cuda", rank))

    def add_up(x: torch.Tensor) -> torch.Tensor:
        out = x.clone()
        dist.all_reduce(out)
        torch.cuda.synchronize()
        return out

    return {kind: verdict(add_up, rank, world, kind) for kind in DTYPES}


def print_table(name: str, ranks: int, answers: list[dict[str, Verdict] | None], tells: bool) -> bool:
    """Its rows of the table; gives whether all is well: every rank answered, and yes."""
    well = True
    for kind in DTYPES:
        found = [answer[kind] for answer in answers if answer is not None]
        if len(found) < ranks:
            print(f"| {kind} | {name} | {ranks} | a rank failed | - | - |")
            well = False
            continue
        verdicts = [all(column) for column in zip(*found, strict=True)]
        well &= all(verdicts)
        said = [("yes" if each else "**no**") + ("" if tells else "*") for each in verdicts]
        print(f"| {kind} | {name} | {ranks} | {' | '.join(said)} |")
    return well


def main() -> None:
    gpus = torch.cuda.device_count()
    if not gpus:
        sys.exit("determinism: this machine has no GPU that can be used")
    ranks = min(max(RANKS, gpus), 8)
    print(f"{gpus} x {torch.cuda.get_device_name()}, torch {torch.__version__}, ", end="")
    print(f"NCCL {'.'.join(map(str, torch.cuda.nccl.version()))}\n")
    print("| dtype | all-reduce | ranks | run to run | batch | rank order |\n|---|---|---|---|---|---|")
    well = print_table("detrec", ranks, ranks_do(ranks, of_detrec), True)
    if gpus > 1:
        world = min(gpus, 8)
        print_table("NCCL", world, ranks_do(world, of_nccl), world > 2)
        if world == 2:
            print("\n\\* of two ranks any order gives the same bits: this says nothing of more than 2 GPUs")
    else:
        print("\nNCCL needs a GPU for each rank: it cannot be tried here")
    if ranks > gpus:
        print(f"{ranks} ranks of detrec shared {gpus} GPU{'s' if gpus > 1 else ''}")
    sys.exit(not well)


if __name__ == "__main__":
    main()
