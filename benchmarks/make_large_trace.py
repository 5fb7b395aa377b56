"""Two large traces of one workload, written as a recorder writes them, without a model.

    python -m benchmarks.make_large_trace FOLDER [--rows 1000000] [--layers 13]

The schedule is the built-in engine's own over a few thousand requests: prompts in chunks, decodes beside
them, prefix-cache hits, preemptions. A fingerprint is a hash of (request, position, op), as if the kernels
were deterministic. FOLDER gets

    run.zarr      the recording
    few.zarr      a replay in which three requests diverge, each from one op of one row on
    other.zarr    the same divergences under another schedule: no chunk of it equals one of the recording
    all.zarr      a replay in which another kernel moved every row's bits from layer 1 on
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detrec.config import SamplingParams, serve_config
from detrec.engines.base import SAMPLE_OPS, Event, EventKind, Request, Sample, Step
from detrec.engines.builtin.blocks import BlockManager
from detrec.engines.builtin.scheduler import FcfsScheduler, chunk_rule
from detrec.engines.builtin.state import RequestState
from detrec.recorder.manifest import environment_manifest
from detrec.recorder.steps import Record
from detrec.recorder.writer import TraceWriter

OF_LAYER = (
    "attn_norm", "qkv", "rope_q", "rope_k", "kv_write", "attn", "o_partial", "o_proj", "attn_residual",
    "mlp_norm", "gate_up", "act", "down_partial", "down_proj", "output",
)  # fmt: skip
ENGINE = {
    "max_model_len": 4096, "max_num_seqs": 64, "max_num_batched_tokens": 512, "num_gpu_blocks_override": 3400,
}  # fmt: skip
VOCABULARY = 512


@dataclass(frozen=True, slots=True)
class Fault:
    """From op `op` of `position` of `request` on, bits differ; later positions differ from the next
    attention.
    """

    request: str
    position: int
    op: int


def op_names(layers: int) -> tuple[str, ...]:
    """15 ops a layer and 5 outside: 13 layers make 200."""
    inside = [f"{layer}.{op}" for layer in range(layers) for op in OF_LAYER]
    return ("embedding", *inside, "final_norm", "logits", "logprobs", "sampled")


def requests_of(rows: int) -> tuple[Request, ...]:
    """Requests that take `rows` rows and a few; every 16th repeats the prompt of the one before it."""
    draws = np.random.default_rng(11)
    found: list[Request] = []
    total = 0
    while total < rows:
        prompt = tuple(draws.integers(0, 256, int(draws.integers(20, 800))).tolist())
        total += len(prompt)
        if len(found) % 16 == 15:
            prompt, total = found[-1].prompt, total - len(prompt)
        params = SamplingParams(max_tokens=int(draws.integers(16, 200)), seed=len(found), ignore_eos=True)
        found.append(Request(f"r{len(found)}", prompt, params, arrival=2 * len(found)))
        total += params.max_tokens - 1
    return tuple(found)


def mixed(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser: uint64 to uint64, never 0 in practice."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Run:
    """One run of `requests`, step by step, into a trace."""

    def __init__(self, requests: Sequence[Request], names: tuple[str, ...], engine: dict[str, Any]) -> None:
        self.config = serve_config({"model": "builtin:qwen2-tiny", "engine": engine, "requests": PLACEHOLDER})
        settings = self.config.engine
        self.requests, self.names = requests, names
        self.states = {request.id: RequestState(request) for request in requests}
        self.number = {request.id: number for number, request in enumerate(requests)}
        blocks = settings.num_gpu_blocks_override or 1
        self.blocks = BlockManager(blocks, settings.block_size, prefix_caching=True)
        self.scheduler = FcfsScheduler(settings, self.states, self.blocks, chunk_rule(settings))
        self.salts = mixed(np.arange(1, len(names) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        self.drawn_only = np.array([name in SAMPLE_OPS for name in names])
        self.attention = np.array([name.endswith(".attn") for name in names])

    def manifest(self) -> dict[str, Any]:
        """As `record` writes it."""
        settings = self.config.to_json()
        del settings["requests"], settings["record"]["output"]
        engine = {"model_digest": "0" * 32, "num_blocks": self.blocks.num_blocks, "device": {"kind": "cpu"}}
        return {"config": settings, "engine": engine, "environment": environment_manifest()}

    def write(
        self, path: Path, faults: Sequence[Fault] = (), moved_from: int | None = None
    ) -> tuple[int, int]:
        """Steps and rows that were written. `moved_from`: all bits from that op on are others."""
        broken = {fault.request: fault for fault in faults}
        kernels = tuple(f"made.{name.rpartition('.')[2]}" for name in self.names)
        if moved_from is not None:
            kernels = (*kernels[:moved_from], *(f"{name} split" for name in kernels[moved_from:]))
        steps = rows = 0
        with TraceWriter(
            path, manifest=self.manifest(), requests=self.requests, ops=self.names, overwrite=True
        ) as writer:
            while (step := self.scheduler.next_step()) is not None:
                request, position, tokens = self._rows(step)
                prints = self._prints(step, request, position)
                if moved_from is not None:
                    prints[:, moved_from:] ^= (prints[:, moved_from:] != 0) * np.uint64(1 << 40)
                for part in step.slices:
                    if part.request in broken:
                        self._break(prints, step, part.request, broken[part.request])
                samples, finished = self._settle(step, broken)
                seconds = 0.01 + len(tokens) * 1e-5
                writer.step(Record(step, tokens, prints, kernels, samples, finished, seconds))
                steps, rows = steps + 1, rows + len(tokens)
        return steps, rows

    def _rows(self, step: Step) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        request = np.repeat(
            [self.number[part.request] for part in step.slices],
            [part.stop - part.start for part in step.slices],
        )
        position = np.concatenate([np.arange(part.start, part.stop) for part in step.slices])
        parts = [self.states[part.request].tokens[part.start : part.stop] for part in step.slices]
        return request, position, np.concatenate(parts).astype(np.int32)

    def _prints(self, step: Step, request: np.ndarray, position: np.ndarray) -> np.ndarray:
        keys = mixed(request.astype(np.uint64) << np.uint64(32) | position.astype(np.uint64))
        prints = mixed(keys[:, None] ^ self.salts)
        idle = np.ones(len(keys), bool)
        idle[list(step.sample_rows)] = False
        prints[np.ix_(idle, self.drawn_only)] = 0
        return prints

    def _break(self, prints: np.ndarray, step: Step, name: str, fault: Fault) -> None:
        begin = 0
        for part in step.slices:
            if part.request == name:
                break
            begin += part.stop - part.start
        later = np.flatnonzero(self.attention[fault.op + 1 :])
        for row, position in enumerate(range(part.start, part.stop), begin):
            if position < fault.position or (position > fault.position and not len(later)):
                continue
            first = fault.op if position == fault.position else fault.op + 1 + int(later[0])
            prints[row, first:] ^= (prints[row, first:] != 0) * np.uint64(1 << 17)

    def _settle(self, step: Step, broken: dict[str, Fault]) -> tuple[list[Sample], list[Event]]:
        samples, finished = [], []
        for part in step.slices:
            state = self.states[part.request]
            state.computed = part.stop
            if part.samples:
                samples.append(self._draw(state, broken.get(part.request)))
            self.blocks.publish(part.request, state.tokens, state.computed)
            if state.finish:
                self.blocks.release(part.request)
                finished.append(Event(EventKind.FINISHED, part.request, state.generated))
        return samples, finished

    def _draw(self, state: RequestState, fault: Fault | None) -> Sample:
        """The next token; a request that diverged draws another one now and then, and goes on as recorded."""
        number, position = self.number[state.request.id], len(state.tokens) - 1
        token = hash((number, position)) % VOCABULARY
        margin = 0.001 + hash((position, number)) % 1000 / 500
        differs = fault is not None and position > fault.position and margin < 0.05
        state.tokens.append(token)
        if state.generated >= state.request.sampling.max_tokens:
            state.finish = "length"
        drawn = (token + 1) % VOCABULARY if differs else token
        logprob = -0.1 - margin
        seed = state.request.sampling.seed or 0
        return Sample(state.request.id, position, drawn, token, logprob, margin, seed, position, state.finish)


PLACEHOLDER = [{"id": "r0", "prompt_token_ids": [1]}]


def faults_of(requests: Sequence[Request], names: Sequence[str]) -> tuple[Fault, ...]:
    """Three places: at a third, two thirds and nine tenths of the requests, in early, middle and late
    layers.
    """
    places = [(1 / 3, "4.attn"), (2 / 3, "8.down_proj"), (9 / 10, "11.qkv")]
    chosen = [requests[int(share * len(requests))] for share, _ in places]
    return tuple(
        Fault(request.id, len(request.prompt) + 2, names.index(op))
        for request, (_, op) in zip(chosen, places, strict=True)
    )


def main() -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--layers", type=int, default=13)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    names, requests = op_names(args.layers), requests_of(args.rows)
    faults = faults_of(requests, names)
    runs: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "run": ({}, {}),
        "few": ({}, {"faults": faults}),
        "other": ({"max_num_batched_tokens": 448}, {"faults": faults}),
        "all": ({}, {"moved_from": names.index("1.qkv")}),
    }
    for name, (engine, how) in runs.items():
        begin = time.perf_counter()
        steps, rows = Run(requests, names, {**ENGINE, **engine}).write(args.folder / f"{name}.zarr", **how)
        seconds = time.perf_counter() - begin
        print(
            f"{name}.zarr: {steps:,} steps, {rows:,} rows x {len(names)} ops in {seconds:.0f} s", flush=True
        )


if __name__ == "__main__":
    main()
