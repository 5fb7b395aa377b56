"""A rank's shares are recorded from a GPU as from a CPU, among ops that every rank has whole."""

import numpy as np
import pytest

from detrec.engines.base import Kind, Slice, Step
from detrec.kernels.share import Share, Span
from detrec.recorder.device_probe import DeviceProbe
from detrec.recorder.probe import TraceProbe
from tests.bits import assert_same_bits
from tests.engines.builtin.host_device import HostDevice, host_gpu
from tests.recorder.test_probe import Steps

pytest.importorskip("paddle")

OPS = ("embedding", "0.attn_norm", "0.qkv", "0.attn", "0.o_proj", "0.output", "logits")
SHARES = {
    "0.qkv": Share(24, (Span(0, 0, 8), Span(8, 16, 2, -1), Span(10, 20, 2, -1))),
    "0.attn": Share(16, (Span(0, 8, 8),)),
}
WIDTHS = {"0.qkv": 12, "0.attn": 8}
STEP = Step(0, (Slice("a", 0, 2, Kind.PREFILL, True), Slice("b", 4, 5, Kind.DECODE, False)))


def outputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    rows = {name: 1 if name == "logits" else STEP.rows for name in OPS}
    return {name: rng.standard_normal((rows[name], WIDTHS.get(name, 16)), np.float32) for name in OPS}


def test_shares_are_recorded_as_on_the_cpu() -> None:
    there, here = Steps(), Steps()
    cpu = TraceProbe(here, OPS, shares=SHARES)
    cpu.step(STEP, [1, 2, 3])
    for name, output in outputs().items():
        cpu.op(name, output, 1, "k")
    cpu.sampled((), ())
    with host_gpu():
        device = HostDevice("paddle", "gpu")
        probe = DeviceProbe(there, OPS, device, shares=SHARES)
        probe.step(STEP, [1, 2, 3])
        kept = {name: device.copy(output) for name, output in outputs().items()}
        for name, output in kept.items():
            probe.op(name, output, 1, "k")
        probe.sampled((), ())
        probe.finish()
    assert_same_bits(there.given[0].fingerprints, here.given[0].fingerprints)
    assert here.given[0].fingerprints[:, :-1].all()
