"""FastDeploy's own scheduler, tasks and model runner, from a source tree, on the CPU.

Real: EngineArgs, FDConfig, ResourceManagerV1 with its cache manager, Request and tasks, InputBatch, and
GPUModelRunner: its constructor, insert_tasks_v1, execute_model and all that this calls. Replaced: the
compiled ops (`numpy_ops`), the sampler and the model (`tiny`), the attention backend, CUDA events and pinned
memory, the platform's answer whether it is CUDA, the model's configuration, and the message queue that tokens
leave by: what it would carry goes to the scheduler directly.
"""

from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import paddle

from tests.engines.fastdeploy import tiny
from tests.engines.fastdeploy.numpy_ops import flat

LENGTH = 96


class Meta:
    """Where rows lie, as the stand-in's attention asks, out of FastDeploy's ForwardMeta."""

    def __init__(self, meta):
        starts, decoder = flat(meta.cu_seqlens_q), flat(meta.seq_lens_decoder)
        owners = flat(meta.batch_id_per_token)
        self.places = [
            (int(slot), int(decoder[slot]) + row - int(starts[slot])) for row, slot in enumerate(owners)
        ]
        self.block_tables = np.from_dlpack(meta.block_tables)


def configuration(**arguments):
    """A real FDConfig of these arguments, for a model of no weights."""
    from fastdeploy.config import CacheConfig, FDConfig, ParallelConfig, SchedulerConfig
    from fastdeploy.engine.args_utils import EngineArgs

    given = {"enable_prefix_caching": False, "enable_overlap_schedule": False, "max_model_len": LENGTH}
    args = EngineArgs(**{**given, **arguments})
    plain = asdict(args)
    cache = CacheConfig(plain)
    cache.enc_dec_block_num, cache.bytes_per_token_per_layer = 1, 1
    graphs = args.create_graph_optimization_config()
    graphs.use_cudagraph = False
    return FDConfig(
        model_config=_model(),
        cache_config=cache,
        parallel_config=ParallelConfig(plain),
        scheduler_config=SchedulerConfig(plain),
        graph_opt_config=graphs,
        speculative_config=SimpleNamespace(method=None, num_speculative_tokens=0, model_type=None),
        early_stop_config=SimpleNamespace(enable_early_stop=False),
        structured_outputs_config=SimpleNamespace(guided_decoding_backend="off", logits_processors=None),
        routing_replay_config=SimpleNamespace(enable_routing_replay=False),
        load_config=SimpleNamespace(dynamic_load_weight=False),
        test_mode=True,
    )


def _model():
    sizes = {"vocab_size": 64, "ori_vocab_size": 64, "hidden_size": 16, "head_dim": 16}
    heads = {
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "rope_theta": 1e4,
        "partial_rotary_factor": 1.0,
    }
    sampling = {"top_p": 1.0, "temperature": 1.0, "penalty_score": 1.0, "frequency_score": 0.0}
    limits = {"min_length": 1, "max_stop_seqs_num": 1, "stop_seqs_max_len": 1, "eos_tokens_lens": 1}
    flags = dict.fromkeys(("enable_mm", "enable_logprob", "enable_entropy"), False)
    return SimpleNamespace(
        **sizes, **heads, **sampling, **limits, **flags,
        presence_score=0.0, pad_token_id=0, think_truncate_prompt_ids=[-1], think_end_id=-1,
        max_model_len=LENGTH, architectures=["Tiny"], dtype="float32", runner_type="generate",
        model_type="tiny", logprobs_mode="raw_logprobs",
        mm_max_tokens_per_item=None, version=None, print=lambda: None,
    )  # fmt: skip


def prepare(patch):
    """Replace what needs a GPU; to be called inside `source_tree`."""
    from fastdeploy.inter_communicator import IPCSignal
    from fastdeploy.platforms import current_platform
    from fastdeploy.worker import gpu_model_runner

    event = SimpleNamespace(record=lambda: None, synchronize=lambda: None)
    patch.setattr(current_platform, "is_cuda", lambda: True)
    patch.setattr(paddle.Tensor, "pin_memory", lambda self: self, raising=False)
    patch.setattr(paddle.device.cuda, "create_event", lambda: event, raising=False)
    patch.setattr(gpu_model_runner, "allocate_launch_related_buffer", lambda **kwargs: {})
    backend = SimpleNamespace(init_attention_metadata=lambda meta: None)
    patch.setattr(gpu_model_runner, "get_attention_backend", lambda: lambda *args, **kwargs: backend)
    return IPCSignal


def driver(runner_class, **arguments):
    """A Driver of a runner made by `runner_class` from FastDeploy's GPUModelRunner; inside `source_tree`."""
    import pytest

    patch = pytest.MonkeyPatch()
    signal = prepare(patch)
    return Driver(runner_class, configuration(**arguments), signal, patch)


class Driver:
    """FastDeploy's engine and worker loops in one: schedule, insert, execute, and hear what was drawn."""

    def __init__(self, runner_class, config, signal, patch):
        from fastdeploy.engine.sched.resource_manager_v1 import ResourceManagerV1
        from fastdeploy.worker import gpu_model_runner

        self.patch = patch
        slots = config.scheduler_config.max_num_seqs
        self.manager = ResourceManagerV1(slots, config, 1, "mixed")
        self.scheduled, self.added = [], {}
        suffix = config.parallel_config.local_engine_worker_queue_port
        self.ready = signal(
            name="cache_ready_signal", array=np.zeros(1, np.int32), dtype=np.int32, suffix=suffix, create=True
        )
        patch.setattr(gpu_model_runner, "Sampler", lambda config: _Sampler())
        patch.setattr(gpu_model_runner, "save_output_normal", self._save)
        model = tiny.CausalLM(config.cache_config.block_size, config.cache_config.total_block_num)
        forward = model.forward
        model.forward = lambda inputs, meta: forward(inputs, Meta(meta))
        loader = SimpleNamespace(load_model=lambda fd_config: model)
        patch.setattr(gpu_model_runner, "get_model_loader", lambda load_config: loader)
        self.runner = runner_class(gpu_model_runner.GPUModelRunner)(config, "cpu", 0, 0, 0)
        self.runner.load_model()
        # the stand-in's attention keeps its own
        self.runner.share_inputs["caches"] = []

    def add(self, request_id, prompt, **sampling):
        """A real Request, waiting."""
        from fastdeploy.engine.request import Request

        request = Request.from_dict(
            {
                "request_id": request_id,
                "prompt_token_ids": list(prompt),
                "prompt_token_ids_len": len(prompt),
                "eos_token_ids": [1],
                # what FastDeploy's input processor fills in
                "top_p": 1.0,
                "temperature": 1.0,
                "repetition_penalty": 1.0,
                "frequency_penalty": 0.0,
                "presence_penalty": 0.0,
                **sampling,
            }
        )
        self.added[request_id] = request
        self.manager.requests[request_id] = request
        self.manager.waiting.append(request)

    @paddle.no_grad()
    def step(self):
        """One turn of both loops; what the scheduler decided is appended to `scheduled`."""
        tasks, errors = self.manager.schedule()
        assert not errors
        self.scheduled.append([_decided(task) for task in tasks])
        slots = len(self.manager.tasks_list)
        if tasks:
            self.runner.insert_tasks_v1(tasks, slots)
        self.runner.execute_model(tasks or None, slots)
        for request_id in list(self.manager.to_be_rescheduled_request_id_set):
            self.manager.reschedule_preempt_task(request_id)

    @paddle.no_grad()
    def idle(self):
        """A turn of the worker's loop without anything from the engine."""
        self.runner.execute_model(None, len(self.manager.tasks_list))

    def _save(self, model_output, sampler_output, share_inputs, **others):
        """What FastDeploy's token processor does with a step's tokens."""
        drawn, stopped, blocked = (
            flat(tensor)
            for tensor in (
                sampler_output.sampled_token_ids,
                share_inputs["stop_flags"],
                share_inputs["is_block_step"],
            )
        )
        for slot, request in enumerate(self.manager.tasks_list):
            if request is None or drawn[slot] < 0 or request not in self.manager.running:
                continue
            request.output_token_ids.append(int(drawn[slot]))
            if stopped[slot] and not blocked[slot]:
                self.manager.finish_requests([request.request_id])

    def run(self, turns=200):
        """Until nothing is left to run."""
        for _ in range(turns):
            if not self.manager.waiting and not self.manager.running:
                return
            self.step()
        raise AssertionError(f"not finished after {turns} turns")

    def close(self):
        """Give back shared memory and undo what was replaced."""
        self.ready.clear()
        self.manager.need_block_num_signal.clear()
        self.manager.finish_execution_pool.shutdown()
        self.manager.async_preprocess_pool.shutdown()
        self.patch.undo()


class _Sampler(tiny.Sampler):
    """The stand-in's sampler with the methods that FastDeploy's runner calls beside."""

    def forward(self, logits, metadata, p_done_idxs):
        output = super().forward(logits, metadata, p_done_idxs)
        output.logprobs_tensors = None
        return output

    def pre_process(self, idxs):
        pass

    def post_process(self, tokens):
        pass

    def apply_logits_processor(self, *args):
        pass


def _decided(task):
    kind = task.task_type.name.lower()
    if kind == "prefill":
        return kind, task.request_id, task.idx, task.prefill_start_index, task.prefill_end_index
    return kind, task.request_id, task.idx
