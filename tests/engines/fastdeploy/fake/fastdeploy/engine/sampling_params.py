"""Sampling parameters, with a seed in every case."""

import os
import random
from dataclasses import dataclass, fields


@dataclass
class SamplingParams:
    temperature: float | None = None
    top_p: float | None = None
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: list | None = None
    stop_token_ids: list | None = None
    max_tokens: int | None = None
    min_tokens: int = 1

    def __post_init__(self):
        if self.seed is None:
            fixed = os.environ.get("FD_DETERMINISTIC_MODE") == "1"
            self.seed = 42 if fixed else random.randint(0, 922337203685477580)

    @classmethod
    def from_dict(cls, values):
        return cls(**{f.name: values.get(f.name, f.default) for f in fields(cls)})
