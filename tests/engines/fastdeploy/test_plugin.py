"""The plugin in a runner of FastDeploy's surface: what it tells, what it leaves alone, how it gives up."""

from types import SimpleNamespace

import numpy as np
import pytest

from detrec.config import SamplingParams
from detrec.engines.base import Request
from detrec.engines.fastdeploy.journal import Job
from detrec.engines.fastdeploy.plugin import recording
from detrec.errors import EngineError
from detrec.kernels import cuda
from detrec.recorder.device_probe import DeviceProbe
from detrec.recorder.fastdeploy import HostProbe
from detrec.recorder.reader import TraceReader
from detrec.recorder.writer import TraceWriter
from detrec.replayer.compare import compare
from tests.engines.builtin.host_device import HostDevice, host_gpu
from tests.engines.fastdeploy.standin import installed

REQUESTS = (
    Request("a", tuple(range(2, 12)), SamplingParams(max_tokens=5, seed=42)),
    Request("b", (5, 6, 7), SamplingParams(max_tokens=4, seed=7)),
)
ARGUMENTS = {
    "max_num_batched_tokens": 8,
    "max_num_seqs": 3,
    "enable_overlap_schedule": False,
    "graph_optimization_config": {"use_cudagraph": False},
}


class Kept:
    """A Journal in this process: a trace at `path`, and all else that it was told."""

    def __init__(self, path, job=REQUESTS, broken_op=""):
        self.path, self.requests, self.broken_op = path, job, broken_op
        self.told = []

    def active(self, manifest):
        self.told.append(("active", manifest))

    def refuse(self, reason):
        self.told.append(("refused", reason))

    def job(self):
        return None if self.requests is None else Job(self.requests)

    def open(self, ops, device):
        self.ops = tuple(ops)
        self.writer = TraceWriter(self.path, manifest={}, requests=self.requests, ops=ops)
        if device is None:
            self.probe = HostProbe(self.writer, ops)
        else:
            self.probe = DeviceProbe(self.writer, ops, device, at_once=True)
        if self.broken_op:
            inner = self.probe.op

            def op(name, *args):
                if name == self.broken_op:
                    raise RuntimeError("the probe broke")
                inner(name, *args)

            self.probe.op = op
        return self.probe, self.ops

    def close(self, batches, prepared, error):
        self.told.append(("closed", error))
        if error:
            self.writer.fail(error)
        else:
            self.probe.finish()
            self.writer.close()


@pytest.fixture
def fake(tmp_path):
    with installed(tmp_path / "meta"):
        yield


class Served:
    """The stand-in's scheduler and a runner, one turn after another; `journal` None is FastDeploy alone."""

    def __init__(self, journal, device="cpu", **arguments):
        from fastdeploy.engine.args_utils import EngineArgs
        from fastdeploy.engine.sched.resource_manager_v1 import ResourceManagerV1
        from fastdeploy.worker.gpu_model_runner import GPUModelRunner

        config = EngineArgs(**{**ARGUMENTS, **arguments}).create_engine_config()
        self.manager = ResourceManagerV1(config)
        made = recording(GPUModelRunner, lambda rank: journal) if journal else GPUModelRunner
        self.runner = made(config, device, 0, 0, 0)
        self.runner.load_model()
        self.runner.profile_run()
        self.requests = {}

    def run(self, requests=REQUESTS):
        from fastdeploy.engine.request import Request as Foreign

        for request in requests:
            values = {"max_tokens": request.sampling.max_tokens, "seed": request.sampling.seed}
            foreign = Foreign.from_dict(
                {"request_id": request.id, "prompt_token_ids": request.prompt, "eos_token_ids": [1], **values}
            )
            self.requests[request.id] = foreign
            self.manager.waiting.append(foreign)
        slots = len(self.manager.slots)
        for _ in range(60):
            tasks = self.manager.schedule()
            if tasks:
                self.runner.insert_tasks_v1(tasks, slots)
            self.runner.execute_model(tasks or None, slots)
            for slot, (token, stopped) in (self.runner.output or {}).items():
                request = self.manager.slots[slot]
                request.output_token_ids.append(token)
                request.num_computed_tokens = len(request.tokens) - 1
                if stopped:
                    self.manager.finish(request)
            self.runner.output = None
        return {name: request.output_token_ids for name, request in self.requests.items()}


def test_what_is_served_is_what_is_served_without_it(fake, tmp_path):
    alone = Served(None).run()
    journal = Kept(tmp_path / "run.zarr")
    assert Served(journal).run() == alone
    trace = TraceReader(tmp_path / "run.zarr")
    assert (trace.status, trace.taken_tokens()) == ("complete", alone)


def test_it_says_that_it_is_there_before_anything_runs(fake, tmp_path):
    journal = Kept(tmp_path / "run.zarr")
    Served(journal)
    ((what, manifest),) = journal.told
    assert (what, manifest["architectures"]) == ("active", ["Qwen2ForCausalLM"])


def test_runs_before_the_first_task_are_not_recorded(fake, tmp_path):
    """FastDeploy profiles and warms up with made-up rows."""
    journal = Kept(tmp_path / "run.zarr", job=None)
    served = Served(journal)
    served.runner.execute_model(None, 3)
    assert not (tmp_path / "run.zarr").exists()
    journal.requests = REQUESTS
    served.run()
    assert next(TraceReader(tmp_path / "run.zarr").steps()).slices[0].start == 0


def test_finished_requests_end_for_the_reason_that_they_had(fake, tmp_path):
    journal = Kept(tmp_path / "run.zarr")
    tokens = Served(journal).run()
    samples = TraceReader(tmp_path / "run.zarr").samples()
    ends = {REQUESTS[of].id: str(why) for of, why in zip(samples.request, samples.finish, strict=True) if why}
    assert ends == {name: "stop" if drawn[-1] == 1 else "length" for name, drawn in tokens.items()}
    assert not np.isfinite(samples.logprob).any()


def test_where_graphs_run_only_what_is_outside_them_is_recorded(fake, tmp_path, monkeypatch):
    """A replayed graph runs no hook: an op that some steps have and others have not is worse than none."""
    monkeypatch.setenv("FD_DETERMINISTIC_MODE", "1")
    journal = Kept(tmp_path / "run.zarr")
    # a split fits the budget, else deterministic mode would never begin
    Served(journal, graph_optimization_config={"use_cudagraph": True}, max_num_batched_tokens=16).run()
    assert journal.ops == ("logits", "sampled")
    assert journal.told[0][1]["holes"][0].startswith("cuda-graphs: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"enable_overlap_schedule": True}, "enable_overlap_schedule launches rows"),
        ({"speculative_config": {"method": "mtp"}}, "speculative decoding is not supported"),
    ],
)
def test_what_it_cannot_record_it_refuses_at_once_and_says_why(fake, tmp_path, arguments, said):
    journal = Kept(tmp_path / "run.zarr")
    with pytest.raises(EngineError, match=said):
        Served(journal, **arguments)
    ((what, reason),) = journal.told
    assert what == "refused"
    assert reason.startswith(said)


@pytest.mark.parametrize("op", ["0.attn", "logits", "sampled"])
def test_a_recording_that_breaks_ends_and_serving_goes_on(fake, tmp_path, op):
    alone = Served(None).run()
    journal = Kept(tmp_path / "run.zarr", broken_op=op)
    assert Served(journal).run() == alone
    assert journal.told[1:] == [("closed", "RuntimeError: the probe broke")]
    assert TraceReader(tmp_path / "run.zarr").status == "failed"


def test_a_slot_that_is_not_where_its_tasks_said_is_an_error(fake, tmp_path, monkeypatch):
    """The slots' own positions come with every step, and are held against the account of the tasks."""
    journal = Kept(tmp_path / "run.zarr")
    served = Served(journal)
    insert = served.runner.insert_tasks_v1

    def shifted(tasks, slots):
        insert(tasks, slots)
        served.runner.slots["seq_lens_decoder"][0] += 1

    monkeypatch.setattr(served.runner, "insert_tasks_v1", shifted)
    served.run(REQUESTS[:1])
    ((what, error),) = journal.told[1:]
    assert (what, error) == (
        "closed",
        "step 0: request a: FastDeploy runs from position 1, its tasks said 0",
    )


def test_a_request_that_nobody_announced_ends_the_recording(fake, tmp_path):
    journal = Kept(tmp_path / "run.zarr", job=REQUESTS[:1])
    served = Served(journal)
    assert set(served.run()) == {"a", "b"}
    assert journal.told[1:] == [("closed", "FastDeploy runs request b, which was not asked for")]


@pytest.fixture
def simulated(monkeypatch):
    """A GPU that is host memory and Triton's interpreter."""
    monkeypatch.setattr("detrec.engines.fastdeploy.worker.Device", lambda *args: HostDevice(*args[:2]))
    monkeypatch.setattr("detrec.kernels.arrays.current_stream", lambda framework, device: 0)
    with host_gpu():
        yield


def test_on_a_gpu_the_same_is_recorded_and_nobody_waits(fake, tmp_path, simulated):
    """Fingerprints by the device's kernel, small tensors copied behind the work; the trace is the CPU's."""
    short = (Request("b", (5, 6, 7), SamplingParams(max_tokens=2, seed=7)),)
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
