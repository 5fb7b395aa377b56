"""What computes a step: the part of the engine that knows where memory is."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from detrec.config import EngineConfig
from detrec.engines.base import Probe, Request
from detrec.engines.builtin.batch import Batch, Draws, Penalties
from detrec.engines.builtin.model import Decoder
from detrec.engines.builtin.model_config import ModelConfig
from detrec.engines.ops import Ops
from detrec.kernels.device import Device


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the rows that sample are drawn."""

    penalties: Penalties
    draws: Draws


class Runner(Protocol):
    """Holds weights, KV cache and activations, and runs one batch at a time."""

    decoder: Decoder
    ops: Ops

    @property
    def device(self) -> Device | None:
        """The GPU that computes; None on a CPU."""
        ...

    def watch(self, probe: Probe | None, names: Collection[str]) -> None:
        """From the next batch on, tell `probe` of the ops in `names`."""
        ...

    def reserve(self, rows: int, samples: int) -> None:
        """Room for ops on that many rows, outside of any batch; what the latest batch gave is lost."""
        ...

    def run(self, batch: Batch, sampling: Sampling | None) -> np.ndarray:
        """Compute `batch`; SAMPLE_DTYPE [S], a record a row that samples. `sampling` is None where S is 0."""
        ...

    def manifest(self) -> dict[str, str]:
        """What of the device can change bits."""
        ...

    def close(self) -> None:
        """Nothing runs any more."""
        ...


def largest_step(engine: EngineConfig, requests: Sequence[Request]) -> tuple[int, int]:
    """How many rows, and rows that sample, a step will have at most; a rare step may have more."""
    prompts = [len(request.prompt) for request in requests]
    rows = min(max(engine.max_num_batched_tokens, *prompts), sum(prompts) + len(prompts))
    return rows, min(engine.max_num_seqs, len(prompts))


def step_bytes(config: ModelConfig, itemsize: int, rows: int, samples: int, *, reduced: bool = False) -> int:
    """An upper bound of what a layer, or the drawing of tokens, takes from the workspace.

    `reduced`: sums over ranks have memory of their own, and what is summed may be float32.
    """
    heads = config.head_dim * (config.num_heads + 2 * config.num_kv_heads)
    layer = itemsize * (6 * config.hidden_size + 4 * heads + 3 * config.intermediate_size) + 64 * 20
    head = 4 * (3 * config.vocab_size + config.hidden_size) + 64 * 8
    if reduced:
        layer += 4 * 4 * config.hidden_size
        head += 4 * config.vocab_size
    return max(rows * layer, samples * head) + (1 << 12)
