"""Words that several processes read and write: loads and stores that no compiler moves, and ways to wait."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from detrec.kernels.cpu.compiling import compiled

_I64 = ir.IntType(64)
_WORDS = types.Array(types.int64, 1, "C")


def _place(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    words = make_array(signature.args[0])(context, builder, args[0])
    return builder.gep(words.data, [args[1]])


@intrinsic
def load(typingctx: Any, words: Any, index: Any) -> Any:
    """words[index] of int64; what the writer stored before it is seen by whatever comes after."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_place(context, builder, signature, args), "acquire", 8)

    return types.int64(_WORDS, types.intp), codegen


@intrinsic
def store(typingctx: Any, words: Any, index: Any, value: Any) -> Any:
    """words[index] = value of int64; whoever reads it sees what was stored before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _place(context, builder, signature, args), "release", 8)
        return context.get_dummy_value()

    return types.none(_WORDS, types.intp, types.int64), codegen


@intrinsic
def fetch_add(typingctx: Any, words: Any, index: Any, value: Any) -> Any:
    """words[index] += value of int64, by one process at a time; gives what it was before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _place(context, builder, signature, args), args[2], "acq_rel")

    return types.int64(_WORDS, types.intp, types.int64), codegen


def _system_call(name: str, *given: int) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(32)] * len(given))
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.sext(builder.call(function, [ir.IntType(32)(value) for value in given]), _I64)

    return types.int64(), codegen


@intrinsic
def _give_way(typingctx: Any) -> Any:
    """Let another process have the core."""
    return _system_call("sched_yield")


@intrinsic
def _nap(typingctx: Any) -> Any:
    """Sleep for 50 us and however long the system takes to notice."""
    return _system_call("usleep", 50)


@compiled
def reached(words: np.ndarray, first: int, step: int, count: int, value: int, spins: int, naps: int) -> bool:
    """Whether words[first + i * step], i < count, are all `value` or more, now or within a short wait.

    It spins, which is quick where every rank has a core; then gives way, then naps, `naps` times at most.
    """
    tries = 0
    for i in range(count):
        while load(words, first + i * step) < value:
            tries += 1
            if tries < spins:
                continue
            if tries < spins + 20:
                _give_way()
            elif tries < spins + 20 + naps:
                _nap()
            else:
                return False
    return True
