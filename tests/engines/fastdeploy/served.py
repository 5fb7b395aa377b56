"""The stand-in's scheduler and runner with the plugin in it, turn by turn in this process."""

from detrec.config import SamplingParams
from detrec.engines.base import Request
from detrec.engines.fastdeploy.journal import Job
from detrec.engines.fastdeploy.plugin import recording
from detrec.recorder.device_probe import DeviceProbe
from detrec.recorder.fastdeploy import HostProbe
from detrec.recorder.writer import TraceWriter

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
