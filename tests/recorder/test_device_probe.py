"""A rank's shares are recorded from a GPU as from a CPU, among ops that every rank has whole."""

import numpy as np
import pytest

from detrec.engines.base import Kind, Slice, Step
from detrec.engines.hooks import Output, Outputs
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.projections import PARTS
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


def gathered(probe: DeviceProbe, kept: dict[str, DeviceArray]) -> None:
    """Two kinds of outputs at once, in no order, as an engine gives them that holds them for a while."""
    for names in (("0.qkv", "embedding", "0.attn"), ("0.output", "0.attn_norm", "0.o_proj")):
        ops = tuple(
            Output(name, "float32", kept[name].shape[1], kept[name].strides[0], f"k {name}") for name in names
        )
        probe.outputs(Outputs(STEP.rows, ops), [kept[name].address for name in names])
    probe.op("logits", kept["logits"], 0, "k logits")


@pytest.mark.parametrize("parts", [0, PARTS], ids=["fingerprints", "sketches too"])
def test_outputs_that_come_at_once_are_recorded_as_one_by_one(parts: int) -> None:
    """Rows with gaps between them among them; step after step, while the memory of tables grows."""
    records = []
    with host_gpu():
        device = HostDevice("paddle", "gpu")
        for told in (gathered, one_by_one):
            steps = Steps()
            steps.sketch_parts = parts
            probe = DeviceProbe(steps, OPS, device)
            kept = {name: device.copy(output) for name, output in outputs().items()}
            kept["0.o_proj"] = kept["0.o_proj"][:, 3:9]
            for _ in range(3):
                probe.step(STEP, [1, 2, 3])
                told(probe, kept)
                probe.meanwhile()
                probe.sampled((), ())
            probe.finish()
            records.append(steps.given)
    for at_once, alone in zip(*records, strict=True):
        assert_same_bits(at_once.fingerprints, alone.fingerprints)
        assert at_once.kernels == alone.kernels == tuple(f"k {name}" for name in OPS)
        assert at_once.fingerprints[:, :-1].all()
        if parts:
            assert_same_bits(at_once.sketches, alone.sketches)


def one_by_one(probe: DeviceProbe, kept: dict[str, DeviceArray]) -> None:
    for name in OPS:
        probe.op(name, kept[name], 0, f"k {name}")
