"""What detrec needs of any engine, as a class of tests that an adapter's tests inherit. Needs pytest.

An adapter that passes can be recorded, replayed and compared; what it must have beside this is in
`engines.base.Engine`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from detrec.engines.base import SAMPLE_OPS, Engine, EventKind
from detrec.engines.contract.told import Told, heard, listener, prompt, request, taken_by, tiled
from detrec.kernels.device import Device

# prompts of unequal lengths, so that a step that is cut holds a chunk of one beside decodes of another
REQUESTS = [
    request("a", prompt(1, 21)),
    request("b", prompt(2, 9), max_tokens=4),
    request("c", prompt(3, 17)),
]


class AdapterContract:
    """Subclasses give `start` and `left_behind`."""

    @classmethod
    def start(
        cls, requests: list[dict[str, Any]], *, forced: Mapping[str, Sequence[int]] | None = None
    ) -> Engine:
        """An engine on a tiny model, with steps of few enough rows that REQUESTS take several each."""
        raise NotImplementedError

    @classmethod
    def left_behind(cls, engine: Engine) -> list[str]:
        """Whatever of the watching can still be found on the engine's model: hooks, patches."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def told(cls) -> Told:
        """All that is told of one run of REQUESTS."""
        return heard(cls.start(REQUESTS))

    @pytest.fixture(scope="class")
    @classmethod
    def op_names(cls) -> tuple[str, ...]:
        return cls.start(REQUESTS).op_names

    def test_requests_are_resolved(self) -> None:
        engine = self.start(REQUESTS)
        assert [(r.id, list(r.prompt)) for r in engine.requests] == [
            (r["id"], r["prompt_token_ids"]) for r in REQUESTS
        ]
        assert all(r.sampling.seed is not None for r in engine.requests)

    def test_steps_are_numbered_in_order(self, told: Told) -> None:
        assert [step.index for step in told.steps] == list(range(len(told.steps)))

    def test_prompts_are_cut_and_batches_are_mixed(self, told: Told) -> None:
        """Else the tests below would see little."""
        kinds = [{part.kind for part in step.slices} for step in told.steps]
        assert any(len(found) == 2 for found in kinds)
        assert sum(part.request == "a" and not part.samples for step in told.steps for part in step.slices)

    def test_slices_tile_each_request(self, told: Told) -> None:
        computed = tiled(told.steps)
        for r in REQUESTS:
            drawn = sum(sample.request == r["id"] for sample in told.samples)
            # the last token that is drawn is never run
            assert computed[r["id"]] == len(r["prompt_token_ids"]) + drawn - 1

    def test_rows_are_the_tokens_of_their_positions(self, told: Told) -> None:
        texts = texts_of(told)
        for step, tokens in zip(told.steps, told.tokens, strict=True):
            expected = [t for part in step.slices for t in texts[part.request][part.start : part.stop]]
            assert tokens == expected

    def test_every_op_is_told_once_a_step_with_one_row_per_token(
        self, told: Told, op_names: tuple[str, ...]
    ) -> None:
        for step, ops in zip(told.steps, told.ops, strict=True):
            rows = {name: len(output) for name, output, _ in ops}
            expected = {name: step.rows for name in op_names if name not in SAMPLE_OPS}
            if step.sample_rows:
                drawn = (name for name in op_names if name in SAMPLE_OPS and name != "broadcast")
                expected |= dict.fromkeys(drawn, len(step.sample_rows))
            assert {
                name: count for name, count in Counter(name for name, *_ in ops).items() if count > 1
            } == {}
            assert rows == expected

    def test_ops_name_the_kernel_that_ran(self, told: Told) -> None:
        assert all(kernel for ops in told.ops for *_, kernel in ops)

    def test_only_ops_that_are_asked_for_are_told(self, op_names: tuple[str, ...]) -> None:
        wanted = {op_names[0], op_names[-1]}
        told = heard(self.start(REQUESTS), names=wanted)
        assert {name for ops in told.ops for name, *_ in ops} == wanted

    def test_samples_belong_to_the_rows_that_sample(self, told: Told) -> None:
        rows = [(part.request, part.stop - 1) for step in told.steps for part in step.slices if part.samples]
        assert [(sample.request, sample.position) for sample in told.samples] == rows

    def test_tokens_are_the_engines_own(self, told: Told) -> None:
        """Greedy: each is where the logits that were told are largest, and the request goes on with it."""
        logits = [row for ops in told.ops for name, output, _ in ops if name == "logits" for row in output]
        assert len(logits) == len(told.samples)
        for sample, row in zip(told.samples, logits, strict=True):
            assert row[sample.token] == row.max()
            assert sample.taken == sample.token
            assert sample.margin >= 0

    def test_log_probabilities_are_those_of_the_logits(self, told: Told) -> None:
        logits = [row for ops in told.ops for name, output, _ in ops if name == "logits" for row in output]
        for sample, row in zip(told.samples, np.array(logits, np.float64), strict=True):
            expected = row - row.max() - np.log(np.exp(row - row.max()).sum())
            assert sample.logprob == pytest.approx(expected[sample.token], abs=1e-4)
            second = np.delete(expected, sample.token).max()
            assert sample.margin == pytest.approx(expected[sample.token] - second, abs=1e-4)

    def test_every_request_finishes_once_and_says_after_how_many_tokens(self, told: Told) -> None:
        drawn = Counter(sample.request for sample in told.samples)
        finished = [(event.kind, event.request, event.tokens) for event in told.finished]
        assert sorted(finished) == sorted((EventKind.FINISHED, name, n) for name, n in drawn.items())
        assert all(
            bool(sample.finish) == (sample is last)
            for name in drawn
            for last in [[s for s in told.samples if s.request == name][-1]]
            for sample in told.samples
            if sample.request == name
        )

    def test_a_replay_of_its_own_schedule_is_identical(self, told: Told) -> None:
        forced = {r["id"]: taken_by(told, r["id"]) for r in REQUESTS}
        again = heard(self.start(REQUESTS, forced=forced), plan=told.steps)
        assert [step.slices for step in again.steps] == [step.slices for step in told.steps]
        assert again.samples == told.samples
        for ours, theirs in zip(told.ops, again.ops, strict=True):
            assert [name for name, *_ in ours] == [name for name, *_ in theirs]
            for (name, one, _), (_, other, _) in zip(ours, theirs, strict=True):
                assert one.tobytes() == other.tobytes(), name

    def test_forced_tokens_are_gone_on_with_whatever_is_drawn(self, told: Told) -> None:
        forced = {r["id"]: [7] * (len(taken_by(told, r["id"])) - 1) for r in REQUESTS}
        again = heard(self.start(REQUESTS, forced=forced))
        assert {r["id"]: taken_by(again, r["id"]) for r in REQUESTS} == forced
        assert any(sample.token != 7 for sample in again.samples)
        first = {sample.request: sample.token for sample in reversed(told.samples)}
        assert {sample.request: sample.token for sample in reversed(again.samples)} == first
        assert {sample.finish for sample in again.samples} == {"", "trace_end"}

    def test_a_run_that_nobody_watches_draws_the_same(self, told: Told) -> None:
        engine = self.start(REQUESTS)
        drawn = [sample for _, samples in engine.run(engine.own_scheduler()) for sample in samples]
        assert drawn == told.samples

    def test_nothing_is_left_behind_by_a_run_that_was_watched(self) -> None:
        engine = self.start(REQUESTS)
        heard(engine)
        assert self.left_behind(engine) == []

    def test_nothing_is_left_behind_by_a_run_that_broke_off(self) -> None:
        engine = self.start(REQUESTS)
        scheduler = engine.own_scheduler()
        running: Any = engine.run(scheduler, listener(engine), set(engine.op_names))
        next(running)
        running.close()
        assert self.left_behind(engine) == []

    def test_it_has_what_record_asks_of_an_engine(self) -> None:
        engine = self.start(REQUESTS)
        assert engine.rank.size == 1
        assert isinstance(engine.device, Device | None)
        assert engine.lasting in (False, True)
        assert isinstance(engine.decode([7]), str)
        engine.close()

    def test_the_manifest_is_plain_data(self) -> None:
        import json

        engine = self.start(REQUESTS)
        assert json.loads(json.dumps(engine.manifest()))["model_digest"]


def texts_of(told: Told) -> dict[str, list[int]]:
    """By request, its prompt and what it went on with."""
    return {r["id"]: r["prompt_token_ids"] + taken_by(told, r["id"]) for r in REQUESTS}
