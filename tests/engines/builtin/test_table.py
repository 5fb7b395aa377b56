"""What an Ops table gives its kernels: outputs as wide as each op says, of the dtype that it says."""

from dataclasses import replace

import numpy as np
import pytest

from detrec.engines.builtin.table import Kernel, ops_of
from detrec.engines.ops import named, watched
from tests.engines.small import Told

KERNEL = Kernel("cpu.any", lambda *args: args[-1])
X, WEIGHT = np.zeros((2, 6)), np.zeros((5, 6))
OPS = ops_of(
    *(lambda shape, dtype: (shape, dtype), "bfloat16"),
    **dict.fromkeys(("embedding", "rms_norm", "matmul", "rope", "kv_write", "attention", "add"), KERNEL),
    **dict.fromkeys(("silu_mul", "penalise", "log_softmax"), KERNEL),
    sample=named("cpu.sample")(lambda name, *args: args),
)


@pytest.mark.parametrize(
    ("op", "args", "output"),
    [
        pytest.param("embedding", (np.arange(3), WEIGHT), ((3, 6), "bfloat16"), id="as many rows as tokens"),
        pytest.param("rms_norm", (X, WEIGHT[0], 1e-6), ((2, 6), "bfloat16"), id="as its input"),
        pytest.param("matmul", (X, WEIGHT, None), ((2, 5), "bfloat16"), id="as many columns as weights"),
        pytest.param("kv_write", (X, X, None, None), ((2, 12), "bfloat16"), id="keys beside values"),
        pytest.param("silu_mul", (X,), ((2, 3), "bfloat16"), id="half of its input"),
        pytest.param("log_softmax", (X,), ((2, 6), "float32"), id="logprobs are float32"),
    ],
)
def test_an_op_gives_its_kernel_an_output(op, args, output):
    assert getattr(OPS, op)("0.any", *args) == output


def test_logits_are_float32_whatever_the_engine_is():
    assert OPS.matmul("logits", X, WEIGHT, None) == ((2, 5), "float32")


def test_a_watched_op_has_the_name_of_what_ran_last():
    """An op may run one kernel and then another."""

    @named("none yet")
    def matmul(name, x):
        matmul.kernel = f"for {name}"
        return x

    told = Told()
    told.step(None, ())
    seen = watched(replace(OPS, matmul=matmul), told, {"0.x"}).matmul
    assert seen.kernel == "none yet"
    for name in ("0.x", "0.y"):
        seen(name, X)
        assert seen.kernel == f"for {name}"
    assert [(name, kernel) for name, _, kernel in told.ops[0]] == [("0.x", "for 0.x")]
