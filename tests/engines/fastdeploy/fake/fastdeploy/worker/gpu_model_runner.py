"""A model runner with the methods, in the order, of FastDeploy's; its kernels' work is done in numpy."""

import threading
from types import SimpleNamespace

import numpy as np
import paddle

from fastdeploy.engine.request import RequestType
from tests.engines.fastdeploy.tiny import CausalLM, Sampler

# by configuration: where its ranks wait for each other, and what rank 0 drew
_meeting = threading.Lock()


class GPUModelRunner:
    def __init__(self, fd_config, device, device_id, rank, local_rank):
        self.fd_config, self.device, self.rank, self.local_rank = fd_config, device, rank, local_rank
        slots, length = fd_config.scheduler_config.max_num_seqs, fd_config.model_config.max_model_len
        self.share_inputs = {
            name: paddle.zeros([slots, 1], dtype)
            for name, dtype in (
                ("seq_lens_this_time", "int32"),
                ("seq_lens_decoder", "int32"),
                ("step_seq_lens_decoder", "int32"),
                ("prompt_lens", "int64"),
                ("infer_seed", "int64"),
                ("is_block_step", "bool"),
            )
        }
        self.share_inputs["stop_flags"] = paddle.ones([slots, 1], "bool")
        self.share_inputs["temperature"] = paddle.ones([slots], "float32")
        self.share_inputs["seq_lens_this_time_cpu"] = paddle.zeros([slots, 1], "int32")
        # the same memory, to be written in place as FastDeploy's kernels do
        self.slots = {name: np.from_dlpack(tensor).reshape(-1) for name, tensor in self.share_inputs.items()}
        self.tokens = np.zeros((slots, length + 1), np.int64)
        self.block_tables = np.full((slots, length), -1, np.int64)
        self.limits = np.zeros(slots, np.int64)
        self.sampler, self.output = Sampler(), None

    def load_model(self):
        cache = self.fd_config.cache_config
        self.model = CausalLM(cache.block_size, cache.total_block_num)

    @paddle.no_grad()
    def profile_run(self):
        """Runs the model on what is no request's."""
        meta = SimpleNamespace(places=[(0, 0)], block_tables=np.zeros((1, 1), np.int64))
        hidden = self.model({"ids_remove_padding": paddle.zeros([1], "int64")}, meta)
        self.sampler(self.model.compute_logits(hidden), self._metadata(), [])

    def _metadata(self):
        return SimpleNamespace(
            seed=self.share_inputs["infer_seed"], temperature=self.share_inputs["temperature"]
        )

    def insert_tasks_v1(self, req_dicts, num_running_requests=None):
        inputs = self.slots
        for request in req_dicts:
            slot = request.idx
            if request.task_type is RequestType.PREFILL:
                start, stop, tokens = request.prefill_start_index, request.prefill_end_index, request.tokens
                self.tokens[slot, : len(tokens)] = tokens
                self.limits[slot] = len(request.prompt_token_ids) + request.get("max_tokens")
                inputs["prompt_lens"][slot] = len(tokens)
                inputs["seq_lens_decoder"][slot] = start
                inputs["seq_lens_this_time"][slot] = stop - start
                inputs["stop_flags"][slot] = False
                inputs["is_block_step"][slot] = False
                inputs["infer_seed"][slot] = request.get("seed")
                inputs["temperature"][slot] = request.get("temperature", 1.0)
            if request.task_type in (RequestType.PREFILL, RequestType.DECODE):
                self.block_tables[slot] = -1
                self.block_tables[slot, : len(request.block_tables)] = request.block_tables
            else:
                self.block_tables[slot] = -1
                inputs["stop_flags"][slot] = True
                inputs["is_block_step"][slot] = False
                inputs["seq_lens_this_time"][slot] = inputs["seq_lens_decoder"][slot] = 0

    @paddle.no_grad()
    def execute_model(self, model_forward_batch=None, num_running_requests=None):
        model_inputs, done = self._preprocess(model_forward_batch, num_running_requests)
        model_output = self._execute(model_inputs)
        if model_output is not None:
            self._postprocess(model_output, done, model_forward_batch, num_running_requests, 1)

    def _preprocess(self, model_forward_batch=None, num_running_requests=None):
        self._prepare_inputs()
        if not len(self.places):
            return None, None
        self.forward_meta = SimpleNamespace(places=self.places, block_tables=self.block_tables)
        tokens = [self.tokens[slot, position] for slot, position in self.places]
        return {"ids_remove_padding": paddle.to_tensor(np.array(tokens, np.int64))}, []

    def _prepare_inputs(self, is_dummy_or_profile_run=False):
        inputs = self.slots
        for slot in np.flatnonzero(inputs["is_block_step"]):
            waits = inputs["step_seq_lens_decoder"][slot]
            if self.block_tables[slot, self._block(waits)] >= 0:
                inputs["is_block_step"][slot] = inputs["stop_flags"][slot] = False
                inputs["seq_lens_this_time"][slot], inputs["seq_lens_decoder"][slot] = 1, waits
        inputs["seq_lens_this_time_cpu"][:] = inputs["seq_lens_this_time"]
        self.places = [
            (slot, inputs["seq_lens_decoder"][slot] + offset)
            for slot, length in enumerate(inputs["seq_lens_this_time"])
            for offset in range(length)
        ]

    def _block(self, position):
        return position // self.fd_config.cache_config.block_size

    def _execute(self, model_inputs):
        return self.model(model_inputs, self.forward_meta) if model_inputs else None

    def _postprocess(self, model_output, p_done_idxs, batch=None, num_running_requests=None, real_bsz=0):
        lengths = self.slots["seq_lens_this_time"].copy()
        last = np.maximum(np.cumsum(lengths) - 1, 0)
        hidden = paddle.to_tensor(model_output.numpy()[last] * (lengths > 0)[:, None].astype(np.float32))
        logits = self.model.compute_logits(hidden, self.forward_meta)
        sampled = self.sampler(logits, self._metadata(), p_done_idxs)
        tokens = np.from_dlpack(sampled.sampled_token_ids)[:, 0]
        self._broadcast(tokens)
        self.output = {}
        for slot in np.flatnonzero(lengths):
            self._settle(int(slot), int(lengths[slot]), int(tokens[slot]))
        self.slots["infer_seed"] += 4
        return None, sampled, None

    def _broadcast(self, tokens):
        ranks = self.fd_config.parallel_config.tensor_parallel_size
        if ranks == 1:
            return
        with _meeting:
            new = threading.Barrier(ranks, timeout=120), {}
            barrier, shared = vars(self.fd_config).setdefault("_meeting", new)
        if self.rank == 0:
            shared["tokens"] = tokens.copy()
        barrier.wait()
        tokens[:] = shared["tokens"]
        barrier.wait()

    def _settle(self, slot, length, token):
        inputs = self.slots
        stop = int(inputs["seq_lens_decoder"][slot]) + length
        inputs["seq_lens_this_time"][slot] = inputs["seq_lens_decoder"][slot] = 0
        if stop < inputs["prompt_lens"][slot]:
            inputs["stop_flags"][slot] = True
            return
        self.tokens[slot, stop] = token
        ended = token == 1 or stop + 1 >= self.limits[slot]
        self.output[slot] = (token, ended)
        if ended:
            inputs["stop_flags"][slot] = True
        elif self.block_tables[slot, self._block(stop)] < 0:
            inputs["is_block_step"][slot] = inputs["stop_flags"][slot] = True
            inputs["step_seq_lens_decoder"][slot] = stop
        else:
            inputs["seq_lens_this_time"][slot], inputs["seq_lens_decoder"][slot] = 1, stop
