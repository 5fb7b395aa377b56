"""The plugin where activations lie on a GPU, which is host memory here; and what goes into an all-reduce."""

from types import SimpleNamespace

import numpy as np
import pytest

from detrec.config import SamplingParams
from detrec.engines.base import Request
from detrec.kernels import cuda
from detrec.recorder.device_probe import DeviceProbe
from detrec.recorder.reader import TraceReader
from detrec.replayer.compare import compare
from tests.engines.builtin.host_device import HostDevice, host_gpu
from tests.engines.fastdeploy.served import Kept, Served
from tests.engines.fastdeploy.standin import installed


@pytest.fixture
def fake(tmp_path):
    with installed(tmp_path / "meta"):
        yield


@pytest.fixture
def simulated(monkeypatch):
    """A GPU that is host memory and Triton's interpreter."""
    monkeypatch.setattr("detrec.engines.fastdeploy.worker.Device", lambda *args: HostDevice(*args[:2]))
    monkeypatch.setattr("detrec.kernels.arrays.current_stream", lambda framework, device: 0)
    with host_gpu():
        yield


def test_on_a_gpu_the_same_is_recorded_and_nobody_waits(fake, tmp_path, simulated):
    """Fingerprints by the device's kernel, small tensors copied behind the work; the trace is the CPU's."""
    # the last step draws from the second slot of three: the fingerprints of the others are not its own
    short = (
        Request("a", (2, 3, 4), SamplingParams(max_tokens=1, seed=42)),
        Request("b", (5, 6, 7), SamplingParams(max_tokens=2, seed=7)),
    )
    host, device = Kept(tmp_path / "cpu.zarr", job=short), Kept(tmp_path / "gpu.zarr", job=short)
    Served(host).run(short)
    before = cuda.waits()
    Served(device, device="gpu:0").run(short)
    assert isinstance(device.probe, DeviceProbe)
    assert cuda.waits() == before
    assert device.told[1:] == [("closed", "")]
    found = compare(TraceReader(host.path), TraceReader(device.path))
    assert (found.verdict, found.tokens.equal) == ("identical", True)


def test_forced_tokens_reach_a_gpus_memory(simulated):
    paddle = pytest.importorskip("paddle")
    from detrec.engines.fastdeploy.rerun import Recorded, force
    from detrec.engines.fastdeploy.slots import Slots
    from detrec.engines.fastdeploy.tasks import Task
    from detrec.errors import ReplayError

    slots = Slots(4)
    slots.insert(Task("prefill", "a", 1, (0,), 0, 2, 2))
    running = slots.run(0, np.array([0, 2, 0]), 2, {})
    tokens = paddle.to_tensor(np.array([[4], [5], [6]]))
    force(tokens, running, Recorded((), {(0, "a"): 9}, {}), HostDevice("paddle", "gpu").stream)
    assert tokens.numpy().tolist() == [[4], [9], [6]]
    with pytest.raises(ReplayError, match="step 0: request a draws a token, and drew none when recorded"):
        force(tokens, running, Recorded((), {}, {}), None)


def test_the_inputs_of_an_all_reduce_are_told_inside_their_module_only(fake):
    import fastdeploy.distributed.communication as communication
    import paddle
    from paddle import nn

    from detrec.engines.fastdeploy.allreduce import watch_all_reduce
    from tests.engines.fastdeploy import tiny

    nccl = {"qwen2.layers.0.self_attn.o_proj": "0.o_partial"}
    assert not watch_all_reduce(tiny.CausalLM(4, 4), nccl, print)
    reducer = SimpleNamespace(custom_all_reduce=lambda x: x + 1)
    communication._TP_AR = reducer

    class Row(nn.Linear):
        def forward(self, x):
            return communication._TP_AR.custom_all_reduce(super().forward(x))

    model = nn.Sequential(Row(3, 3), nn.Identity())
    told = []
    assert watch_all_reduce(model, {"0": "0.o_partial"}, lambda *args: told.append(args))
    x = paddle.ones([2, 3])
    out = model(x)
    communication._TP_AR.custom_all_reduce(x)
    ((op, given, kernel),) = told
    assert (op, kernel) == ("0.o_partial", "SimpleNamespace")
    assert (out.numpy() == given.numpy() + 1).all()
