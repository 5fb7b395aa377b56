"""The run that benchmarks of the engine on a GPU time: one checkpoint, many engines, seeded prompts."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from detrec.config import EngineConfig, ServeConfig, serve_config
from detrec.engines.builtin import gpu_runner
from detrec.engines.builtin.cut import Cut
from detrec.engines.builtin.engine import BuiltinEngine
from detrec.engines.builtin.loading import Placement
from detrec.engines.builtin.model import Decoder
from detrec.engines.builtin.requests import resolve_requests
from detrec.engines.builtin.weights import Checkpoint, open_checkpoint
from detrec.kernels import cuda


class Kept:
    """A checkpoint whose tensors are made once and kept in host memory."""

    def __init__(self, model: str) -> None:
        self._checkpoint: Checkpoint = open_checkpoint(model)
        self.config = self._checkpoint.config
        self._tensors: dict[tuple[str, str], np.ndarray] = {}

    def tensor(self, name: str, dtype: str = "float32") -> np.ndarray:
        """The tensor, made by the first call."""
        key = name, dtype
        if key not in self._tensors:
            self._tensors[key] = self._checkpoint.tensor(name, dtype)
        return self._tensors[key]

    def stored(self, name: str) -> np.ndarray | None:
        """The checkpoint's."""
        return self._checkpoint.stored(name)

    def stores_plainly(self, name: str) -> bool:
        """The checkpoint's."""
        return self._checkpoint.stores_plainly(name)

    def digest(self) -> str:
        """The checkpoint's."""
        return self._checkpoint.digest()

    def tokenizer(self) -> Any:
        """The checkpoint's."""
        return self._checkpoint.tokenizer()


def config_of(
    model: str, requests: int, prompt: int, output: int, arrival: int = 0, **engine: Any
) -> ServeConfig:
    """`requests` greedy requests of `prompt` seeded tokens, `output` to generate, `arrival` steps apart."""
    draws = np.random.default_rng(1)
    vocabulary = open_checkpoint(model).config.vocab_size
    sampling = {"temperature": 0, "max_tokens": output, "ignore_eos": True}
    return serve_config(
        {
            "model": model,
            "engine": {
                "framework": "torch",
                "device": "gpu",
                "dtype": "bfloat16",
                "max_model_len": prompt + output,
                "max_num_seqs": requests,
                "max_num_batched_tokens": 8192,
                "enable_prefix_caching": False,
                **engine,
            },
            "requests": [
                {
                    "prompt_token_ids": draws.integers(0, vocabulary, prompt).tolist(),
                    "arrival": arrival * index,
                    "sampling": sampling,
                }
                for index in range(requests)
            ],
        }
    )


def keep_weights() -> None:
    """From now on, engines of one shape of KV cache share one decoder: loading it is not what is timed."""
    load = gpu_runner.load_decoder
    kept: dict[tuple[object, ...], Decoder] = {}

    def loaded(
        checkpoint: Checkpoint,
        engine: EngineConfig,
        num_blocks: int,
        place: Placement,
        progress: object = None,
        cut: Cut | None = None,
    ) -> Decoder:
        size = engine.tensor_parallel_size
        key = id(checkpoint), engine.dtype, engine.block_size, engine.max_model_len, num_blocks, size
        if key not in kept:
            kept[key] = load(checkpoint, engine, num_blocks, place, cut=cut)
        return kept[key]

    gpu_runner.load_decoder = loaded


def engine_of(config: ServeConfig, checkpoint: Kept) -> BuiltinEngine:
    """A fresh engine over `config`'s requests."""
    return BuiltinEngine(config, checkpoint, resolve_requests(config, checkpoint))


# a first decode step runs eagerly, the second is captured, and the host's caches settle in a few more
_UNSETTLED = 6


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of a run: of its steps that prefill anything, of each step of decodes, of what came after.

    `waits` is how often the engine's thread waited for the device, a step.
    """

    prefill: float
    decodes: tuple[float, ...]
    waits: float
    after: float = 0.0

    @property
    def whole(self) -> float:
        """Seconds of everything."""
        return self.prefill + sum(self.decodes) + self.after

    @property
    def settled(self) -> tuple[float, ...]:
        """Steps of decodes whose graph had been captured."""
        return self.decodes[_UNSETTLED:]


def timed(steps: Any, finish: Callable[[], None] | None = None) -> Times:
    """Run all of `steps` as `Engine.run` gives them, then `finish`."""
    prefill, decodes = 0.0, []
    count, before = 0, cuda.waits()
    begin = time.perf_counter()
    for step, _ in steps:
        count += 1
        now = time.perf_counter()
        if any(part.kind == "prefill" for part in step.slices):
            prefill += now - begin
        else:
            decodes.append(now - begin)
        begin = now
    waits = (cuda.waits() - before) / count
    if finish is not None:
        finish()
    return Times(prefill, tuple(decodes), waits, time.perf_counter() - begin)
