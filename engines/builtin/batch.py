"""One step's inputs as arrays: what the kernels read instead of requests and slices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detrec.config import SamplingParams
from detrec.engines.base import Step
from detrec.engines.builtin.blocks import BlockManager
from detrec.engines.builtin.state import RequestState

_INT32_MAX = np.iinfo(np.int32).max


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
    block_tables = np.zeros((len(tables), max(map(len, tables))), np.int32)
    for row, table in enumerate(tables):
        block_tables[row, : len(table)] = table
    lengths = [part.stop - part.start for part in step.slices]
    row_seq = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    positions = np.concatenate([np.arange(part.start, part.stop, dtype=np.int64) for part in step.slices])
    return Batch(
        tokens=np.concatenate(
            [
                np.asarray(states[part.request].tokens[part.start : part.stop], np.int64)
                for part in step.slices
            ]
        ),
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


def _neutral(params: SamplingParams) -> bool:
    return (
        params.repetition_penalty == 1.0
        and params.presence_penalty == 0.0
        and params.frequency_penalty == 0.0
    )


def penalties_of(states: Sequence[RequestState], eos: Sequence[int]) -> Penalties:
    """What the requests' own histories do to their logits; a row that has no penalty lists no ids."""
    ids: list[np.ndarray] = []
    counts: list[np.ndarray] = []
    prompts: list[np.ndarray] = []
    bans: list[list[int]] = []
    for state in states:
        params = state.request.sampling
        seen = (
            np.unique(np.asarray(state.tokens, np.int32)) if not _neutral(params) else np.empty(0, np.int32)
        )
        output = np.asarray(state.output, np.int32)
        ids.append(seen)
        counts.append((output[None, :] == seen[:, None]).sum(axis=1, dtype=np.int32))
        prompts.append(np.isin(seen, np.asarray(state.request.prompt, np.int32)).astype(np.uint8))
        early = len(output) < params.min_tokens
        bans.append(sorted({*(() if params.ignore_eos else eos), *params.stop_token_ids}) if early else [])
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
    chosen = [state.request.sampling for state in states]
    return Draws(
        temperature=np.asarray([p.temperature for p in chosen], np.float32),
        # no vocabulary is larger: past it, every k keeps all
        top_k=np.asarray([min(p.top_k, _INT32_MAX) for p in chosen], np.int32),
        top_p=np.asarray([p.top_p for p in chosen], np.float32),
        min_p=np.asarray([p.min_p for p in chosen], np.float32),
        seed=np.asarray([p.seed for p in chosen], np.uint64),
        counter=positions.astype(np.uint64),
    )
