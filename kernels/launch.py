"""Triton, and the one place where a kernel is launched.

Every option that can move a bit is stated at each launch: `num_warps`, `num_stages`, and fp fusion, which is
always off, so that a product and a sum are fused only where a kernel says `tl.fma` or `tl.dot`. Nothing is
tuned at run time.

A launch costs a few microseconds of Python: compiled kernels are kept by dtypes, alignments and constants,
and called directly.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detrec.errors import EngineError
from detrec.kernels.device_array import DeviceArray

try:
    import triton
    import triton.language as tl
    from triton import knobs
except ImportError as error:
    raise EngineError(f"Triton cannot be imported: {error}", hint="pip install 'detrec[gpu]'") from error

__all__ = [
    "INTERPRETED", "cdiv", "launch", "noting", "on_stream", "processors", "shared_memory", "tl", "triton",
]  # fmt: skip

INTERPRETED = bool(knobs.runtime.interpret)
"""Whether kernels run in Triton's interpreter, on the CPU: TRITON_INTERPRET=1 when this was imported."""


def cdiv(x: int, y: int) -> int:
    """x / y, rounded up. Triton's own, which kernels call, takes many times as long here."""
    return -(-x // y)


_compiled: dict[Any, Any] = {}
_stream = 0
_noted: "list[Launch] | None" = None


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch that was made: `give(stream, args)` makes it again, with other arguments of the same kinds."""

    give: Callable[[int, Sequence[Any]], None]
    args: tuple[Any, ...]


@contextlib.contextmanager
def noting() -> Iterator[list[Launch]]:
    """The launches that are made inside, in their order."""
    global _noted
    before, _noted = _noted, []
    try:
        yield _noted
    finally:
        _noted = before


@contextlib.contextmanager
def on_stream(stream: int) -> Iterator[None]:
    """Launch on the CUDA stream of this handle inside the block; 0 is the default stream."""
    global _stream
    before, _stream = _stream, stream
    try:
        yield
    finally:
        _stream = before


def compiled_before() -> bool:
    """Whether Triton's cache holds anything: kernels that it has compiled for whatever GPU."""
    return next(Path(knobs.cache.dir).glob("*/*.cubin"), None) is not None


@functools.cache
def _property(name: str) -> int:
    driver = triton.runtime.driver.active
    return int(driver.utils.get_device_properties(driver.get_current_device())[name])


def processors() -> int:
    """How many programs the GPU runs at once, where each fills a processor."""
    return _property("multiprocessor_count")


def shared_memory() -> int:
    """Bytes of it that a program may have."""
    return 1 << 20 if INTERPRETED else _property("max_shared_mem")


def _kind(arg: Any) -> Any:
    """What of an argument a compiled kernel depends on."""
    if isinstance(arg, DeviceArray):
        return arg.dtype, arg.address % 16 == 0
    if isinstance(arg, int):
        # the cases that Triton compiles apart
        return arg == 1, arg % 16 == 0, -(1 << 31) <= arg < 1 << 31
    if hasattr(arg, "block_shape"):
        return arg.base.dtype, tuple(arg.block_shape)
    return type(arg)


def launch(
    kernel: Any, grid: tuple[int, ...], *args: Any, num_warps: int, num_stages: int = 1,
    overlaps: bool = False, **constants: Any,
) -> None:  # fmt: skip
    """Run `kernel` on `grid`; nothing happens where the grid is empty.

    `args` are its run-time arguments in order, `constants` all of its constexpr parameters, which come after
    them in its signature. One that `overlaps` starts before the kernel ahead of it has ended, and waits for
    it by itself (`gpu/overlap.py`).
    """
    if not all(grid):
        return
    options = {"num_warps": num_warps, "num_stages": num_stages, "enable_fp_fusion": False}
    if overlaps:
        options["launch_pdl"] = True
    if INTERPRETED:
        kernel[grid](*args, **constants, **options)
        if _noted is not None:
            _noted.append(Launch(lambda _, args: kernel[grid](*args, **constants, **options), args))
        return
    # not the kernel itself: to hash one is to ask whether its source has changed
    key = (id(kernel), num_warps, num_stages, overlaps, *map(_kind, args), *constants.values())
    found = _compiled.get(key)
    if found is None:
        built = kernel.run(*args, grid=grid, warmup=True, **constants, **options)
        built._init_handles()
        tail = tuple(constants[name] for name in kernel.arg_names[len(args) :])
        found = _compiled[key] = (built, built.run, built.function, built.packed_metadata, tail)
    _, run, function, metadata, tail = found
    x, y, z = (*grid, 1, 1)[:3]
    run(x, y, z, _stream, function, metadata, None, None, None, *args, *tail)
    if _noted is not None:

        def give(stream: int, args: Sequence[Any]) -> None:
            run(x, y, z, stream, function, metadata, None, None, None, *args, *tail)

        _noted.append(Launch(give, args))
