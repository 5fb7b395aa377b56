"""Batch invariance of the whole engine: whatever the schedule, a row of an op has the same bits.

Random workloads run one request at a time, then under random schedules: another batch, budget, chunk rule,
block size, too few blocks, a prefix cache. All fingerprints of all (request, position, op) must be the same.
"""

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from detrec.config import serve_config
from detrec.engines.base import SAMPLE_OPS, EventKind, Step
from detrec.engines.start import start_engine
from detrec.kernels.cpu.fingerprint import fingerprint
from tests.workloads import CONTEXT, MODELS, requests, schedule

# the plainest of all schedules: whole prompts, one after the other, nothing shared and nothing taken away
ALONE = {"max_num_seqs": 1, "enable_chunked_prefill": False, "enable_prefix_caching": False}
SEEDS = range(8)
SCHEDULES = 6

Requests = list[dict[str, Any]]
Place = tuple[str, int]
"""Request and position."""


@dataclass
class Run:
    """A probe. `prints` uint64 [ops] by place, 0 where the op did not run; `seen` counts what is special."""

    names: tuple[str, ...]
    prints: dict[Place, np.ndarray] = field(default_factory=dict)
    tokens: dict[str, list[int]] = field(default_factory=dict)
    hits: dict[str, int] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    unlike_itself: int = 0

    def step(self, step: Step, tokens: Any) -> None:
        self._places = [(part.request, p) for part in step.slices for p in range(part.start, part.stop)]
        self._sampling = list(step.sample_rows)
        self._rows = np.zeros((len(self.names), step.rows), np.uint64)
        for event in step.events:
            self.seen[event.kind] += 1
            if event.kind == EventKind.HIT:
                self.hits[event.request] = max(event.tokens, self.hits.get(event.request, 0))
        self.seen["prefill beside decode"] += len({part.kind for part in step.slices}) == 2
        self.seen["chunk"] += any(not part.samples for part in step.slices)

    def op(self, name: str, output: np.ndarray, rank: int, kernel: str) -> None:
        rows = np.empty(len(output), np.uint64)
        fingerprint(output, rows)
        self._rows[self.names.index(name), self._sampling if name in SAMPLE_OPS else slice(None)] = rows

    def sampled(self, samples: Any, events: Any) -> None:
        for place, row in zip(self._places, self._rows.T, strict=True):
            before = self.prints.get(place, row)
            # a position that is computed again is not drawn from again: its token is known
            both = (before != 0) & (row != 0)
            self.unlike_itself += int((both & (before != row)).sum())
            self.prints[place] = np.where(row, row, before)
        for sample in samples:
            self.tokens.setdefault(sample.request, []).append(sample.token)


def run(batch: Requests, model: str, engine: dict[str, Any], *, fault: str = "", **more: Any) -> Run:
    """A batch run to its end under one schedule."""
    data = {
        "model": f"builtin:{model}",
        "engine": {"max_model_len": CONTEXT, **engine, **more},
        "requests": batch,
    }
    built = start_engine(serve_config(data), fault=fault)
    probe = Run(built.op_names)
    for _ in built.run(built.own_scheduler(), probe, frozenset(built.op_names)):
        pass
    return probe


def workload(seed: int) -> tuple[Requests, list[dict[str, Any]]]:
    """Requests, and schedules for them."""
    generator = random.Random(seed)
    batch = requests(generator)
    needs = [len(each["prompt_token_ids"]) + each["sampling"]["max_tokens"] for each in batch]
    return batch, [schedule(generator, needs) for _ in range(SCHEDULES)]


def differing(alone: Run, other: Run) -> list[tuple[Place, str]]:
    """Every cell that differs, as (place, op), in the places that both runs have."""
    return [
        (place, alone.names[op])
        for place, row in other.prints.items()
        if place in alone.prints
        for op in np.flatnonzero(row != alone.prints[place])
    ]


def assert_nothing_is_missing(batch: Requests, alone: Run, other: Run) -> None:
    """All places are there, but for those that the prefix cache served."""
    for each in batch:
        name = each["id"]
        whole = set(range(len(each["prompt_token_ids"]) + len(alone.tokens[name]) - 1))
        assert {p for request, p in alone.prints if request == name} == whole
        computed = {p for request, p in other.prints if request == name}
        assert whole - set(range(other.hits.get(name, 0))) <= computed <= whole


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("model", MODELS)
def test_no_schedule_changes_a_bit(model, dtype):
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        batch, schedules = workload(seed)
        alone = run(batch, model, ALONE, dtype=dtype)
        assert not any(alone.seen.values())
        for engine in schedules:
            other = run(batch, model, engine, dtype=dtype)
            where = f"workload {seed}, {engine}"
            assert differing(alone, other) == [], where
            assert other.tokens == alone.tokens, where
            assert other.unlike_itself == 0, where
            assert_nothing_is_missing(batch, alone, other)
            seen += other.seen
    for what in (EventKind.PREEMPTED, EventKind.HIT, "prefill beside decode", "chunk"):
        assert seen[what] > 10, what


def test_the_frameworks_own_matmul_is_told_apart():
    """Negative control: if this fails, the test above can pass on an engine that is not invariant."""
    batch, schedules = workload(0)
    alone = run(batch, "qwen2-tiny", ALONE, deterministic=False, seed=42)
    others = [run(batch, "qwen2-tiny", each, deterministic=False, seed=42) for each in schedules]
    assert any(differing(alone, other) for other in others)


def test_one_op_that_looks_at_its_batch_is_told_apart():
    """Negative control: a matmul of one layer that splits K in steps of one row."""
    batch, schedules = workload(1)
    fault = "split_k_by_batch:step=0,op=1.qkv,rows=2"
    alone = run(batch, "qwen2-tiny", ALONE, fault=fault)
    for engine in schedules:
        assert "1.qkv" in {op for _, op in differing(alone, run(batch, "qwen2-tiny", engine, fault=fault))}
