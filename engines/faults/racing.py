"""Races of the sampler: what one thread writes, another reads without waiting for it."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from detrec.engines.builtin.batch import Draws, Penalties
from detrec.engines.faults.base import Fault, FaultyOp
from detrec.engines.ops import Op, Ops

# pieces in which a thread writes or reads, and by how many seconds it is late with each at most
PIECES, JITTER = 16, 1e-4

# calls until a race changes a bit where it may; a few are seen to be enough
TRIES = 16


def unfenced(source: np.ndarray) -> np.ndarray:
    """What a reader finds of `source`, zeros elsewhere, while another thread writes it."""
    written, found = np.zeros_like(source), np.zeros_like(source)
    edges = np.linspace(0, len(source), PIECES + 1).astype(int).tolist()
    start = threading.Barrier(2)
    # not the generator that a program may seed: a race that repeats itself is none
    late = random.SystemRandom()

    def carry(there: np.ndarray, here: np.ndarray) -> None:
        start.wait()
        for begin, end in pairwise(edges):
            time.sleep(late.random() * JITTER)
            here[begin:end] = there[begin:end]

    writer = threading.Thread(target=carry, args=(source, written))
    writer.start()
    carry(written, found)
    writer.join()
    return found


class _Race(Fault):
    """Tells of a step's own rows only, and not of those on which an op is run again."""

    cause = "race"

    def __init__(self, notify: Callable[[str], None], *, step: int = 0) -> None:
        super().__init__(notify, step=step)
        self._latest = -1

    def racing(self, op: Op, wrong: Callable[..., np.ndarray | None]) -> FaultyOp:
        """`op` with `wrong` in its place; `wrong` is what it gives, or None."""

        def run(name: str, right: np.ndarray, *args: object) -> np.ndarray | None:
            if not self.armed:
                return None
            first, self._latest = self._latest != self._now.index, self._now.index
            kept = right.copy()
            # where it acts first it must be seen to act
            for _ in range(TRIES if first and self.sighting is None else 1):
                raced = wrong(name, *args)
                if raced is None or raced.tobytes() != kept.tobytes():
                    break
            if raced is not None and first:
                self.compare(name, kept, raced, self.sample_rows())
            return raced

        return FaultyOp(op, run)


class PenaltyRace(_Race):
    """Penalties are applied while the tokens that were seen are still being counted."""

    name = "penalty_race"
    summary = "penalties read the counts of seen tokens without waiting for who writes them, from `step` on"
    source = "FastDeploy #6610"
    number = (24,)
    expects = "raw logits are equal, penalised ones are not; unstable when repeated"

    def equip(self, ops: Ops) -> Ops:
        """Penalise by what has been counted so far."""

        def penalise(name: str, logits: np.ndarray, by: Penalties) -> np.ndarray | None:
            if not len(by.ids):
                return None
            counted = unfenced(np.stack((by.output_counts, by.in_prompt), axis=1))
            counts, prompts = (np.ascontiguousarray(column) for column in counted.T)
            seen = replace(by, output_counts=counts, in_prompt=prompts.astype(np.uint8))
            penalised: np.ndarray = ops.penalise(name, logits, seen)
            return penalised

        return replace(ops, penalise=self.racing(ops.penalise, penalise))


class RenormRace(_Race):
    """Top-p cuts at a share of a sum to which not all weights have been added."""

    name = "renorm_race"
    summary = "the sum of weights that top_p cuts by is read while it is still added up, from `step` on"
    source = "SGLang #38565"
    number = (25,)
    expects = "logprobs, seed and counter are equal, the token is not; unstable when repeated"

    def equip(self, ops: Ops) -> Ops:
        """Draw with the share of the sum that was there."""

        def sample(name: str, logprobs: np.ndarray, draws: Draws) -> np.ndarray | None:
            cut = (draws.top_p < 1) & (draws.temperature > 0)
            if not cut.any():
                return None
            top_p = draws.top_p.copy()
            for row in np.flatnonzero(cut):
                below = logprobs[row] - np.nanmax(logprobs[row])
                parts = np.array_split(np.exp(below / draws.temperature[row]), PIECES)
                sums = np.array([part.sum(dtype=np.float32) for part in parts], np.float32)
                top_p[row] *= min(unfenced(sums).sum() / sums.sum(), 1)
            drawn: np.ndarray = ops.sample(name, logprobs, replace(draws, top_p=top_p))
            return drawn

        return replace(ops, sample=self.racing(ops.sample, sample))
