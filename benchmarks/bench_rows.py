"""Row-wise GPU kernels against the bandwidth of a device copy, and log_softmax against torch's.

    python benchmarks/bench_rows.py [--rounds 15]

Each figure is the median over rounds of calls timed one by one with events, on arrays larger than the L2
cache; bytes read and written are counted once each. `of copy` is the share of the bandwidth of a device copy
timed in the same run.
"""

import argparse
import itertools
import statistics
from collections.abc import Callable, Iterator

import torch

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu import softmax
from detrec.kernels.gpu.fingerprint import fingerprint
from detrec.kernels.gpu.rms_norm import rms_norm, rms_norm_residual
from detrec.kernels.gpu.rope import rope
from detrec.kernels.gpu.silu_mul import silu_mul

ELEMENTS = 1 << 28
BAR = 0.90
FINGERPRINT_WIDTHS = (512, 896, 1024, 3584, 8192, 18944, 32768)
LOGITS = 4096, 152064
HEADS, SIZE, QKV = 28, 128, 4608

Work = tuple[str, int, Callable[[], object]]
"""What it is, bytes read and written, the call."""


def of(tensor: torch.Tensor) -> DeviceArray:
    """A tensor as kernels take it."""
    kind = str(tensor.dtype).removeprefix("torch.")
    return DeviceArray(tensor.data_ptr(), kind, tuple(tensor.shape), tuple(tensor.stride()), tensor)


def noise(rows: int, cols: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """Normal numbers, made in place: float32 beside them would not fit."""
    return torch.empty((rows, cols), dtype=dtype, device="cuda").normal_()


def seconds(call: Callable[[], object], rounds: int) -> float:
    """The median time of a call, after three that are not counted."""
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(rounds + 1)]
    for _ in range(3):
        call()
    marks[0].record()
    for mark in marks[1:]:
        call()
        mark.record()
    torch.cuda.synchronize()
    spans = [before.elapsed_time(after) for before, after in itertools.pairwise(marks)]
    return statistics.median(spans) / 1e3


def copies() -> Iterator[Work]:
    source = noise(1, 2 * ELEMENTS)
    target = torch.empty_like(source)
    yield "device copy, 1 GiB", 2 * source.nbytes, lambda: target.copy_(source)


def fingerprints() -> Iterator[Work]:
    for cols in FINGERPRINT_WIDTHS:
        x = noise(ELEMENTS // cols, cols)
        rows, out = of(x), of(torch.empty(len(x), dtype=torch.uint64, device="cuda"))
        yield f"fingerprint, bf16, {cols} wide", x.nbytes, lambda x=rows, out=out: fingerprint(x, out)


def logits() -> Iterator[Work]:
    scratch = of(torch.zeros(softmax.SCRATCH, dtype=torch.int64, device="cuda"))
    for kind, to in (("bfloat16", "float32"), ("bfloat16", "bfloat16"), ("float32", "float32")):
        x = noise(*LOGITS, getattr(torch, kind))
        out = torch.empty(LOGITS, dtype=getattr(torch, to), device="cuda")
        given, taken = of(x), of(out)
        name, size = f"log_softmax {list(LOGITS)}, {kind} to {to}", x.nbytes + out.nbytes
        yield name, size, lambda x=given, out=taken: softmax.log_softmax(x, out, scratch)
        yield f"{name}, no scratch", size, lambda x=given, out=taken: softmax.log_softmax(x, out)
        if kind == to:
            yield f"{name}, torch", size, lambda x=x: torch.log_softmax(x, -1)
        del x, out, given, taken


def norms() -> Iterator[Work]:
    for cols in (SIZE, 3584, 8192):
        x = noise(ELEMENTS // cols, cols)
        x, out, weight = of(x), of(torch.empty_like(x)), of(torch.rand(cols, device="cuda"))
        yield (
            f"rms_norm, bf16, {cols} wide",
            2 * x.nbytes,
            lambda x=x, w=weight, out=out: rms_norm(x, w, 1e-6, out),
        )
    total = of(noise(ELEMENTS // cols, cols))
    yield (
        f"rms_norm_residual, bf16, {cols} wide",
        4 * x.nbytes,
        lambda: rms_norm_residual(x, total, weight, 1e-6, out, total),
    )


def elements() -> Iterator[Work]:
    x, out = of(noise(8192, 37888)), of(noise(8192, 18944))
    yield "silu_mul, bf16, 18944 wide", x.nbytes + out.nbytes, lambda: silu_mul(x, out)
    rows = ELEMENTS // QKV
    q, rotated = of(noise(rows, QKV))[:, : HEADS * SIZE], of(noise(rows, HEADS * SIZE))
    positions = of(torch.randint(0, 8192, (rows,), device="cuda"))
    tables = [of(torch.rand((8192, SIZE // 2), device="cuda")) for _ in range(2)]
    yield (
        f"rope, bf16, {HEADS} heads of {SIZE}",
        2 * rotated.nbytes,
        lambda: rope(q, positions, *tables, rotated),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    print("| work | GB/s | of copy | bar | met |\n|---|---|---|---|---|")
    copy = 0.0
    for group in (copies, fingerprints, logits, norms, elements):
        for name, size, call in group():
            speed = size / seconds(call, rounds) / 1e9
            copy = copy or speed
            share = speed / copy
            held = name.startswith(("fingerprint", "log_softmax")) and not name.endswith(("torch", "scratch"))
            bar = (f"{BAR}", "yes" if share >= BAR else "**no**") if held else ("-", "-")
            print(f"| {name} | {speed:.0f} | {share:.2f} | {bar[0]} | {bar[1]} |", flush=True)
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
