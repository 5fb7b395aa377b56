"""Attention on the GPU: causal prefill against torch's SDPA, decode against the copy bandwidth of the device.

    python benchmarks/bench_attention.py [--rounds 20]

28 heads on 4 of KV, 128 wide, bfloat16, pages of 16. Everything is one CUDA graph replayed; figures are
medians. A prefill's T tokens count as 4 * T^2 / 2 * 128 * 28 operations, gathering KV included in the time.
Decode counts the bytes of KV; as many steps with other pages take turns as it takes to leave the L2 cache.
"""

import argparse
import statistics
from collections.abc import Callable

import numpy as np
import torch

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.attention import AttentionPlan, attention, plan_decode, plan_step, scratch_bytes
from detrec.kernels.launch import on_stream

HEADS, KV_HEADS, DIM, PAGE = 28, 4, 128, 16
PAGES = 36000
PREFILL_BAR, DECODE_BAR = 0.75, 0.80
# bytes that the L2 cache cannot keep
TURN = 300 << 20


def view(tensor: torch.Tensor) -> DeviceArray:
    """The tensor's memory."""
    kind = str(tensor.dtype).removeprefix("torch.")
    return DeviceArray(tensor.data_ptr(), kind, tuple(tensor.shape), tensor.stride(), tensor)


def seconds(call: Callable[[int], object], turns: int, rounds: int) -> float:
    """The median time of one of call(0) .. call(turns - 1), captured together."""
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream), on_stream(stream.cuda_stream):
        for turn in range(turns):
            call(turn)
        stream.synchronize()
        with torch.cuda.graph(graph, stream=stream):
            for turn in range(turns):
                call(turn)
        times = []
        for _ in range(rounds + 3):
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record(stream)
            graph.replay()
            stop.record(stream)
            stream.synchronize()
            times.append(start.elapsed_time(stop) / turns / 1000)
    return statistics.median(times[3:])


def caller(
    plan: AttentionPlan, cache: torch.Tensor, tables: torch.Tensor, row_seq: np.ndarray, positions: np.ndarray
) -> tuple[Callable[[int], object], torch.Tensor, torch.Tensor]:
    """A call of attention with tables[turn], its q and its out."""
    q = torch.randn(len(row_seq), HEADS * DIM, device="cuda").bfloat16()
    out = torch.empty_like(q)
    scratch = torch.empty(scratch_bytes(plan, HEADS, KV_HEADS, DIM), dtype=torch.uint8, device="cuda")
    inputs = [view(torch.from_numpy(x).cuda()) for x in (row_seq, positions)]
    table = view(torch.from_numpy(plan.table).cuda())

    def call(turn: int) -> object:
        return attention(
            view(q),
            view(cache),
            view(tables[turn]),
            *inputs,
            plan,
            table,
            DIM**-0.5,
            view(out),
            view(scratch),
            DIM,
        )

    return call, q, out


def prefill(tokens: int, cache: torch.Tensor, rounds: int) -> tuple[str, float, float, float]:
    """Name, TFLOP/s, those of SDPA, and the bar."""
    row_seq, positions = np.zeros(tokens, np.int32), np.arange(tokens)
    plan = plan_step(row_seq, positions, HEADS // KV_HEADS)
    tables = torch.randperm(PAGES, device="cuda").int()[: tokens // PAGE].reshape(1, 1, -1)
    call, q, out = caller(plan, cache, tables, row_seq, positions)
    kv = cache[tables[0, 0].long()].reshape(tokens, 2, KV_HEADS, DIM)
    k, v = (
        kv[:, i].transpose(0, 1).repeat_interleave(HEADS // KV_HEADS, 0)[None].contiguous() for i in (0, 1)
    )
    heads = q.view(tokens, HEADS, DIM).transpose(0, 1)[None].contiguous()

    def sdpa(turn: int) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(heads, k, v, is_causal=True)

    call(0)
    expected = sdpa(0)[0].transpose(0, 1).reshape(tokens, HEADS * DIM)
    torch.testing.assert_close(out, expected, atol=2e-2, rtol=2e-2)
    work = 4 * tokens**2 / 2 * DIM * HEADS / 1e12
    ours, theirs = work / seconds(call, 1, rounds), work / seconds(sdpa, 1, rounds)
    return f"prefill {tokens}, TFLOP/s against SDPA", ours, theirs, PREFILL_BAR


def decode(
    batch: int, context: int, cache: torch.Tensor, copy: float, rounds: int
) -> tuple[str, float, float, float]:
    """Name, GB/s of KV, those of a copy, and the bar."""
    each = batch * context // PAGE
    nbytes = batch * context * 2 * KV_HEADS * DIM * 2
    turns = max(1, min(PAGES // each, -(-TURN // nbytes)))
    tables = torch.randperm(PAGES, device="cuda").int()[: turns * each].reshape(turns, batch, -1)
    row_seq, positions = np.arange(batch, dtype=np.int32), np.full(batch, context - 1)
    call, _, _ = caller(plan_decode(batch, context), cache, tables, row_seq, positions)
    return (
        f"decode {batch} x {context}, GB/s of KV",
        nbytes / seconds(call, turns, rounds) / 1e9,
        copy,
        DECODE_BAR,
    )


def copy_bandwidth(rounds: int) -> float:
    """GB/s read and written by a copy on the device."""
    source = torch.randn(1 << 28, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(lambda turn: target.copy_(source), 1, rounds) / 1e9


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    copy = copy_bandwidth(rounds)
    cache = torch.empty(PAGES, PAGE, 2, KV_HEADS * DIM, dtype=torch.bfloat16, device="cuda").normal_()
    rows = [prefill(tokens, cache, rounds) for tokens in (1024, 2048, 4096, 8192)]
    shapes = ((1, 8192), (8, 8192), (64, 4096), (64, 8192), (1, 32768), (8, 32768))
    rows += [decode(batch, context, cache, copy, rounds) for batch, context in shapes]
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; medians of {rounds}, one run\n")
    print("| work | detrec | SDPA or copy | ratio | bar | |")
    print("|---|---|---|---|---|---|")
    for name, ours, theirs, bar in rows:
        ratio = ours / theirs
        verdict = "met" if ratio >= bar else "missed"
        print(f"| {name} | {ours:.0f} | {theirs:.0f} | {ratio:.3f} | {bar} | {verdict} |")


if __name__ == "__main__":
    main()
