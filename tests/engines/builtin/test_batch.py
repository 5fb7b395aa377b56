"""One step as arrays: what each of them holds, row by row, against a plain loop over slices."""

import random
from typing import Any

import numpy as np
import pytest

from detrec.config import SamplingParams
from detrec.engines.base import Kind, Request, Slice, Step
from detrec.engines.builtin.batch import batch_of, draws_of, penalties_of
from detrec.engines.builtin.blocks import BlockManager
from detrec.engines.builtin.state import RequestState

EOS = (500, 501)


def state(name: str, prompt: list[int], output: list[int] | None = None, **sampling: Any) -> RequestState:
    params = SamplingParams(**{"seed": 0, **sampling})
    return RequestState(Request(name, tuple(prompt), params), [*prompt, *(output or [])])


def part(state: RequestState, start: int, stop: int) -> Slice:
    decoding = stop - start == 1 and start >= len(state.request.prompt)
    kind = Kind.DECODE if decoding else Kind.PREFILL
    return Slice(state.request.id, start, stop, kind, stop == len(state.tokens))


def assert_array(array: np.ndarray, expected: Any, dtype: str) -> None:
    assert array.dtype == dtype
    assert array.tolist() == list(expected)


class TestBatch:
    # blocks are taken in turns, so that no table is a plain range
    def placed(self, *states: RequestState, block_size: int = 4) -> BlockManager:
        blocks = BlockManager(256, block_size, prefix_caching=False)
        for each in states:
            assert blocks.admit(each.request.id, each.tokens, 0, 1)
        for stop in range(2, max(len(each.tokens) for each in states) + 1):
            for each in states:
                assert blocks.grow(each.request.id, min(stop, len(each.tokens)))
        return blocks

    def test_rows_follow_the_slices_in_their_order(self):
        a, b = state("a", [10, 11, 12, 13, 14, 15]), state("b", [20, 21, 22], [23, 24])
        blocks = self.placed(a, b)
        assert {name: list(table) for name, table in blocks.tables.items()} == {"a": [0, 2], "b": [1, 3]}
        batch = batch_of(Step(0, (part(b, 4, 5), part(a, 2, 6))), {"a": a, "b": b}, blocks)
        assert_array(batch.tokens, [24, 12, 13, 14, 15], "int64")
        assert_array(batch.positions, [4, 2, 3, 4, 5], "int64")
        assert_array(batch.row_seq, [0, 1, 1, 1, 1], "int32")
        assert_array(batch.slots, [3 * 4, 2, 3, 2 * 4, 2 * 4 + 1], "int64")
        assert_array(batch.block_tables, [[1, 3], [0, 2]], "int32")
        assert_array(batch.sample_rows, [0, 4], "int64")

    def test_a_shorter_table_is_padded_and_no_row_points_at_the_padding(self):
        a, b = state("a", [1]), state("b", list(range(9)))
        batch = batch_of(Step(0, (part(a, 0, 1), part(b, 0, 9))), {"a": a, "b": b}, self.placed(a, b))
        assert_array(batch.block_tables, [[0, 0, 0], [1, 2, 3]], "int32")
        assert batch.slots.tolist() == [0, *range(4, 13)]

    def test_a_chunk_that_ends_before_the_prompt_does_samples_nothing(self):
        a = state("a", list(range(8)))
        batch = batch_of(Step(0, (part(a, 0, 4),)), {"a": a}, self.placed(a))
        assert_array(batch.sample_rows, [], "int64")

    def test_a_preempted_request_runs_its_output_as_a_prompt(self):
        a = state("a", [1, 2], [3, 4, 5])
        batch = batch_of(Step(0, (part(a, 0, 5),)), {"a": a}, self.placed(a))
        assert batch.tokens.tolist() == [1, 2, 3, 4, 5]
        assert batch.sample_rows.tolist() == [4]

    @pytest.mark.parametrize("seed", range(10))
    def test_agrees_with_a_loop(self, seed):
        generator = random.Random(seed)
        states = [
            state(
                name, generator.choices(range(512), k=generator.randint(1, 30)), [7] * generator.randint(0, 3)
            )
            for name in "abcde"
        ]
        blocks = self.placed(*states, block_size=generator.choice([1, 4, 16]))
        slices = []
        for each in generator.sample(states, generator.randint(1, 5)):
            start = generator.randrange(len(each.tokens))
            slices.append(part(each, start, generator.randint(start + 1, len(each.tokens))))
        batch = batch_of(Step(3, tuple(slices)), {each.request.id: each for each in states}, blocks)
        row = 0
        for number, cut in enumerate(slices):
            (owner,) = (each for each in states if each.request.id == cut.request)
            for position in range(cut.start, cut.stop):
                block, offset = divmod(position, blocks.block_size)
                assert batch.tokens[row] == owner.tokens[position]
                assert batch.positions[row] == position
                assert batch.row_seq[row] == number
                assert batch.slots[row] == blocks.tables[cut.request][block] * blocks.block_size + offset
                row += 1
            assert (row - 1 in batch.sample_rows) is cut.samples
        assert row == len(batch.tokens) == len(batch.positions) == len(batch.row_seq) == len(batch.slots)


class TestPenalties:
    def test_a_row_lists_what_it_has_seen_once_with_its_count_in_the_output(self):
        found = penalties_of([state("a", [9, 4, 4], [2, 9, 2], presence_penalty=0.5)], EOS)
        assert_array(found.ids, [2, 4, 9], "int32")
        assert_array(found.offsets, [0, 3], "int64")
        assert_array(found.output_counts, [2, 0, 1], "int32")
        assert_array(found.in_prompt, [0, 1, 1], "uint8")

    def test_a_row_without_penalties_lists_nothing_between_rows_that_have_some(self):
        rows = [
            state("a", [1], [2], repetition_penalty=1.5),
            state("b", [3], [4]),
            state("c", [5], frequency_penalty=-0.25),
        ]
        found = penalties_of(rows, EOS)
        assert_array(found.ids, [1, 2, 5], "int32")
        assert_array(found.offsets, [0, 2, 2, 3], "int64")
        assert_array(found.output_counts, [0, 1, 0], "int32")
        assert_array(found.in_prompt, [1, 0, 1], "uint8")
        assert_array(found.repetition, [1.5, 1, 1], "float32")
        assert_array(found.presence, [0, 0, 0], "float32")
        assert_array(found.frequency, [0, 0, -0.25], "float32")

    def test_no_row_has_a_penalty(self):
        found = penalties_of([state("a", [1]), state("b", [1])], EOS)
        assert_array(found.ids, [], "int32")
        assert_array(found.offsets, [0, 0, 0], "int64")
        assert_array(found.ban_ids, [], "int32")
        assert_array(found.ban_offsets, [0, 0, 0], "int64")

    BANNED = (
        pytest.param({"min_tokens": 2}, [500, 501], id="end of text"),
        pytest.param({"min_tokens": 1}, [], id="enough tokens"),
        pytest.param({"min_tokens": 2, "ignore_eos": True}, [], id="an end that ends nothing"),
        pytest.param(
            {"min_tokens": 2, "ignore_eos": True, "stop_token_ids": (7, 3)}, [3, 7], id="stop tokens alone"
        ),
        pytest.param({"min_tokens": 2, "stop_token_ids": (501, 3)}, [3, 500, 501], id="each once, in order"),
    )

    @pytest.mark.parametrize(("sampling", "banned"), BANNED)
    def test_what_would_end_a_text_too_early_is_banned(self, sampling, banned):
        found = penalties_of([state("a", [1], [2], **sampling), state("b", [1], min_tokens=1)], EOS)
        assert_array(found.ban_ids, [*banned, *EOS], "int32")
        assert_array(found.ban_offsets, [0, len(banned), len(banned) + 2], "int64")


class TestDraws:
    def test_each_row_carries_its_own_parameters_and_its_position(self):
        largest = 922337203685477580
        rows = [
            state("a", [1], temperature=0.0, seed=largest),
            state("b", [1], temperature=0.7, top_k=5, top_p=0.5, min_p=0.1, seed=3),
        ]
        draws = draws_of(rows, np.asarray([6, 0], np.int64))
        assert_array(draws.temperature, np.float32([0, 0.7]).tolist(), "float32")
        assert_array(draws.top_k, [0, 5], "int32")
        assert_array(draws.top_p, [1, 0.5], "float32")
        assert_array(draws.min_p, np.float32([0, 0.1]).tolist(), "float32")
        assert_array(draws.seed, [largest, 3], "uint64")
        assert_array(draws.counter, [6, 0], "uint64")

    def test_a_top_k_past_every_vocabulary_keeps_all(self):
        draws = draws_of([state("a", [1], top_k=1 << 40)], np.asarray([0]))
        assert_array(draws.top_k, [(1 << 31) - 1], "int32")
