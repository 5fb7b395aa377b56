"""Compile a kernel file's every launch for GPUs that are not here: `python -m tests.kernels.gpu.ahead FILE`.

`tests/kernels/gpu/launches/FILE.py` makes the calls, on arrays that have an address and no memory; each
launch is compiled instead of run. Prints a line a variant. One process a file, because Triton decides at
import whether it interprets. With `--quick` what differs only in the size of a tile is compiled once for
other architectures than Hopper.
"""

import importlib
import itertools
import os
import sys
from typing import Any

os.environ["TRITON_INTERPRET"] = "0"

from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler import compile as build
from triton.experimental.gluon._runtime import GluonASTSource

from detrec.kernels import launch as launching
from detrec.kernels.device_array import DeviceArray

ARCHITECTURES = (80, 90, 100)
_SHORT = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "bool": "i1"}
_addresses = itertools.count(1 << 32, 1 << 32)
_seen: set[Any] = set()
architectures: tuple[int, ...] = ARCHITECTURES
quick = False


def absent(shape: tuple[int, ...], dtype: str) -> DeviceArray:
    """An array without memory, aligned as a GPU's allocator aligns."""
    return DeviceArray(next(_addresses), dtype, shape)


def _short(dtype: str) -> str:
    return _SHORT.get(dtype) or dtype.replace("uint", "u").replace("int", "i")


def _type(arg: Any) -> tuple[str, bool]:
    """Triton's name of an argument's type, and whether 16 divides it."""
    if isinstance(arg, DeviceArray):
        return "*" + _short(arg.dtype), arg.address % 16 == 0
    if hasattr(arg, "block_shape"):
        # Gluon's descriptors also say how shared memory is laid out
        layout = f",{arg.layout!r}" if hasattr(arg, "layout") else ""
        return f"tensordesc<{_short(arg.base.dtype)}{list(arg.block_shape)}{layout}>", False
    if isinstance(arg, bool):
        return "i1", False
    if isinstance(arg, int):
        return "i32" if -(1 << 31) <= arg < 1 << 31 else "i64", arg % 16 == 0
    return "fp32", False


def compile_only(
    kernel: Any, grid: tuple[int, ...], *args: Any, num_warps: int, num_stages: int = 1,
    overlaps: bool = False, **constants: Any,
) -> None:  # fmt: skip
    """What `launch` is replaced by."""
    names = kernel.arg_names
    signature, fixed, attrs = {}, dict(constants), {}
    for place, (name, arg) in enumerate(zip(names, args, strict=False)):
        if arg is None or (arg == 1 and isinstance(arg, int)):
            signature[name], fixed[name] = "constexpr", arg
            continue
        signature[name], divisible = _type(arg)
        if divisible:
            attrs[(place,)] = [["tt.divisibility", 16]]
    signature |= dict.fromkeys(constants, "constexpr")
    assert set(signature) == set(names), f"{kernel.__name__}: {set(signature) ^ set(names)}"
    signature = {name: signature[name] for name in names}
    options = {"num_warps": num_warps, "num_stages": num_stages, "enable_fp_fusion": False}
    for architecture in architectures:
        key: Any = (kernel.__name__, architecture, str(signature), str(fixed), str(attrs), str(options))
        if quick and architecture != 90:
            # what chooses a branch, but not how large a tile is
            ways = {name: way for name, way in fixed.items() if way is None or isinstance(way, bool | str)}
            key = kernel.__name__, architecture, str(signature), str(ways)
        if key in _seen:
            continue
        _seen.add(key)
        source = GluonASTSource if kernel.is_gluon() else ASTSource
        built = build(
            source(kernel, signature, fixed, attrs),
            target=GPUTarget("cuda", architecture, 32),
            options=options,
        )
        assert built.asm["cubin"]
        kinds = " ".join(kind for kind in signature.values() if kind != "constexpr")
        print(f"sm_{architecture} {kernel.__name__} {kinds} {fixed} warps={num_warps} stages={num_stages}")


def main(file: str) -> None:
    """Compile what `launches/FILE.py` launches."""
    launching.launch = compile_only
    importlib.import_module(f"tests.kernels.gpu.launches.{file}").launches()


if __name__ == "__main__":
    # the module that was run and the one that is imported must be one: it keeps `architectures`
    sys.modules["tests.kernels.gpu.ahead"] = sys.modules["__main__"]
    quick = "--quick" in sys.argv
    main(sys.argv[1])
