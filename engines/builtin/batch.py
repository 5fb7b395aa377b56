"""One step's inputs as arrays: what the kernels read instead of requests and slices."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detrec.engines.base import Step
from detrec.engines.builtin.blocks import BlockManager
from detrec.engines.builtin.state import DRAW_DTYPE, RequestState, neutral


@dataclass(frozen=True, slots=True)
class Batch:
    """R rows of Q slices.

    tokens, positions, slots int64 [R]; row_seq int32 [R]; block_tables int32 [Q, blocks].

    `slots` are places in the KV cache (block * block_size + offset); `sample_rows` int64 [S] are the rows
    whose logits are wanted.
    """

    tokens: np.ndarray
    positions: np.ndarray
    slots: np.ndarray
    row_seq: np.ndarray
    block_tables: np.ndarray
    sample_rows: np.ndarray


def batch_of(step: Step, states: Mapping[str, RequestState], blocks: BlockManager) -> Batch:
    """The arrays of one step."""
    size = blocks.block_size
    tables = [blocks.tables[part.request] for part in step.slices]
    held = [len(table) for table in tables]
    block_tables = np.zeros((len(tables), max(held)), np.int32)
    # all at once: a request's blocks stand at the front of its row
    used = np.arange(block_tables.shape[1]) < np.array(held)[:, None]
    block_tables[used] = np.frombuffer(b"".join(tables), np.int32)
    lengths = [part.stop - part.start for part in step.slices]
    row_seq = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    ends = np.cumsum(lengths)
    first = np.array([part.start for part in step.slices], np.int64)
    positions = np.arange(len(row_seq)) - np.repeat(ends - lengths - first, lengths)
    tokens: list[int] = []
    for part in step.slices:
        tokens += states[part.request].tokens[part.start : part.stop]
    return Batch(
        tokens=np.array(tokens, np.int64),
        positions=positions,
        slots=block_tables[row_seq, positions // size].astype(np.int64) * size + positions % size,
        row_seq=row_seq,
        block_tables=block_tables,
        sample_rows=np.asarray(step.sample_rows, np.int64),
    )


@dataclass(frozen=True, slots=True)
class Penalties:
    """Per sampled row: the ids seen so far (CSR over `offsets`), how they weigh, and ids not yet allowed.

    ids, output_counts, ban_ids int32; in_prompt uint8; offsets, ban_offsets int64 [S+1];
    the three weights float32 [S].
    """

    ids: np.ndarray
    offsets: np.ndarray
    output_counts: np.ndarray
    in_prompt: np.ndarray
    repetition: np.ndarray
    presence: np.ndarray
    frequency: np.ndarray
    ban_ids: np.ndarray
    ban_offsets: np.ndarray


@dataclass(frozen=True, slots=True)
class Draws:
    """Per sampled row, how to draw: temperature, top_p, min_p float32; top_k int32; seed, counter uint64."""

    temperature: np.ndarray
    top_k: np.ndarray
    top_p: np.ndarray
    min_p: np.ndarray
    seed: np.ndarray
    counter: np.ndarray


def _seen(state: RequestState) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids seen so far, how often each in the output, and whether in the prompt."""
    seen = np.unique(np.asarray(state.tokens, np.int32))
    output = np.sort(np.asarray(state.output, np.int32))
    counts = np.searchsorted(output, seen, "right") - np.searchsorted(output, seen, "left")
    in_prompt = np.isin(seen, np.asarray(state.request.prompt, np.int32))
    return seen, counts.astype(np.int32), in_prompt.astype(np.uint8)


def _banned(state: RequestState, eos: Sequence[int]) -> list[int]:
    """What may not be drawn before `min_tokens` tokens are."""
    params = state.request.sampling
    if state.generated >= params.min_tokens:
        return []
    return sorted({*(() if params.ignore_eos else eos), *params.stop_token_ids})


_NONE = np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.uint8)


@functools.lru_cache
def _no_penalties(rows: int) -> Penalties:
    none, whole = np.empty(0, np.int32), np.zeros(rows + 1, np.int64)
    zero = np.zeros(rows, np.float32)
    return Penalties(none, whole, none, np.empty(0, np.uint8), zero + 1, zero, zero, none, whole)


def penalties_of(states: Sequence[RequestState], eos: Sequence[int]) -> Penalties:
    """What the requests' own histories do to their logits; a row that has no penalty lists no ids."""
    if all(state.plain for state in states):
        return _no_penalties(len(states))
    histories = [_NONE if neutral(state.request.sampling) else _seen(state) for state in states]
    ids, counts, prompts = zip(*histories, strict=True)
    bans = [_banned(state, eos) for state in states]
    chosen = [state.request.sampling for state in states]
    return Penalties(
        ids=np.concatenate(ids),
        offsets=np.cumsum([0, *map(len, ids)], dtype=np.int64),
        output_counts=np.concatenate(counts),
        in_prompt=np.concatenate(prompts),
        repetition=np.asarray([p.repetition_penalty for p in chosen], np.float32),
        presence=np.asarray([p.presence_penalty for p in chosen], np.float32),
        frequency=np.asarray([p.frequency_penalty for p in chosen], np.float32),
        ban_ids=np.asarray([i for row in bans for i in row], np.int32),
        ban_offsets=np.cumsum([0, *map(len, bans)], dtype=np.int64),
    )


def draws_of(states: Sequence[RequestState], positions: np.ndarray) -> Draws:
    """Noise is keyed by (seed, position): neither the batch nor the step number is in it."""
    rows = np.array([state.draw for state in states], DRAW_DTYPE)
    columns = {name: np.ascontiguousarray(rows[name]) for name in DRAW_DTYPE.names or ()}
    return Draws(**columns, counter=positions.astype(np.uint64))
