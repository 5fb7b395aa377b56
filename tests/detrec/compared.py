"""A comparison to be told: a row of the second step has other bits, and another token is drawn from it."""

from detrec.replayer.compare import compare
from detrec.replayer.comparison import Comparison
from tests.replayer.fakes import fake_trace, part

STEPS = [[part("r0", 0, 4), part("r1", 0, 3)], [part("r0", 4, 5), part("r1", 3, 4)]]
KERNELS = {1: ("kernel",) * 5 + ("split_k",) + ("kernel",) * 3}


def diverged() -> Comparison:
    recorded = fake_trace(STEPS, manifest={"config": {"split_kv_size": 16}})
    replayed = fake_trace(
        [STEPS[0], STEPS[1][::-1]],
        manifest={"config": {"split_kv_size": 32}},
        kernels=KERNELS,
        token=lambda name, at: at + 1 + 100 * (name == "r1" and at == 4),
    )
    for op in ("1.attn", "1.output", "logits", "sampled"):
        replayed.change("r1", 3, op)
    return compare(recorded, replayed)
