"""A request, which is its own prefill task."""

from enum import Enum

from fastdeploy.engine.sampling_params import SamplingParams


class RequestType(Enum):
    PREFILL = 0
    DECODE = 1
    PREEMPTED = 2
    EXTEND = 3
    ABORT = 4


class Request:
    def __init__(self, request_id, prompt_token_ids, sampling_params, eos_token_ids):
        self.request_id = request_id
        self.prompt_token_ids = list(prompt_token_ids)
        self.sampling_params = sampling_params
        self.eos_token_ids = eos_token_ids
        self.output_token_ids = []
        self.block_tables = []
        self.idx = None
        self.task_type = RequestType.PREFILL
        self.prefill_start_index = self.prefill_end_index = self.num_computed_tokens = 0

    @classmethod
    def from_dict(cls, values):
        sampling = SamplingParams.from_dict(values)
        return cls(values["request_id"], values["prompt_token_ids"], sampling, values["eos_token_ids"])

    @property
    def tokens(self):
        return self.prompt_token_ids + self.output_token_ids

    def get(self, key, default=None):
        value = getattr(self, key, None)
        return value if value is not None else getattr(self.sampling_params, key, default)
