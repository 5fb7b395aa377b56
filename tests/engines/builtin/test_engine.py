"""The engine's loop: what it yields and when, whose tokens count, and what seeds it."""

import numpy as np
import pytest

from detrec.config import DEFAULT_SEED
from detrec.engines.base import EventKind
from tests.engines.builtin.one_text import DRAWN, LENGTH, PROMPT, finished
from tests.engines.small import prompt, request, started, tokens, told


class TestStreaming:
    def test_a_step_is_yielded_before_the_next_one_runs(self):
        engine = started([request("r", PROMPT)], max_num_batched_tokens=16)
        run = engine.run(engine.own_scheduler())
        step, samples = next(run)
        assert (step.index, step.rows, samples) == (0, 16, ())
        assert (engine.states["r"].computed, engine.states["r"].output) == (16, [])
        step, (sample,) = next(run)
        assert (step.index, sample.position) == (1, 19)
        assert engine.states["r"].output == [sample.taken]
        assert [step.index for step, _ in run] == [2, 3, 4, 5, 6]

    def test_unwatched_and_watched_runs_give_the_same_tokens(self, text):
        engine = started([request("r", PROMPT, **DRAWN)])
        told(engine)
        assert engine.states["r"].output == text

    def test_a_probe_hears_step_then_ops_then_samples_and_only_the_ops_it_named(self):
        heard = []

        class Log:
            def step(self, step, tokens):
                heard.append(("step", list(tokens)))

            def op(self, name, output, rank, kernel):
                heard.append((name, len(output)))

            def sampled(self, samples, events):
                heard.append(("sampled", [sample.token for sample in samples]))

        engine = started([request("r", PROMPT, max_tokens=1)], max_num_batched_tokens=16)
        (_, _), (_, (sample,)) = engine.run(engine.own_scheduler(), Log(), {"1.attn", "logits"})
        first = [("step", PROMPT[:16]), ("1.attn", 16), ("sampled", [])]
        assert heard == [
            *first,
            *[("step", PROMPT[16:]), ("1.attn", 4), ("logits", 1), ("sampled", [sample.token])],
        ]

    def test_a_sample_says_how_it_was_drawn(self):
        engine = started([request("greedy", PROMPT), request("drawn", PROMPT, temperature=0.7, seed=5)])
        probe = told(engine, names={"logprobs"})
        rows = probe.rows()
        for sample in probe.samples:
            (_, row), *others = rows["logprobs", sample.request, sample.position]
            assert not others
            best, second = np.sort(row)[[-1, -2]]
            assert sample.logprob == row[sample.token]
            assert sample.margin == best - second
            drawn = sample.request == "drawn"
            assert (sample.seed, sample.counter) == ((5, sample.position) if drawn else (0, 0))
            assert sample.taken == sample.token


class TestForcedTokens:
    FORCED = (7, 300, 12, 0)

    def test_are_taken_whatever_is_drawn_and_end_with_the_trace(self, text):
        engine = started([request("r", PROMPT, **DRAWN)], start={"forced": {"r": self.FORCED}})
        probe = told(engine, names=set())
        assert [sample.taken for sample in probe.samples] == list(self.FORCED)
        assert probe.samples[0].token == text[0] != self.FORCED[0]
        assert [sample.finish for sample in probe.samples] == ["", "", "", "trace_end"]
        assert [row for step in probe.tokens for row in step] == [*PROMPT, *self.FORCED[:3]]
        assert engine.blocks.free == engine.blocks.num_blocks

    def test_that_are_what_would_be_drawn_change_nothing(self, text):
        engine = started([request("r", PROMPT, **DRAWN)], start={"forced": {"r": text}})
        assert finished(engine) == (text, "length")

    def test_end_a_text_as_drawn_ones_do(self):
        sampling = {**DRAWN, "stop_token_ids": [300]}
        engine = started([request("r", PROMPT, **sampling)], start={"forced": {"r": self.FORCED}})
        assert finished(engine) == ([7, 300], "stop")

    def test_of_which_there_are_none_end_the_request_with_its_first_draw(self, text):
        engine = started([request("r", PROMPT, **DRAWN)], start={"forced": {"r": []}})
        probe = told(engine, names=set())
        (sample,) = probe.samples
        assert (sample.token, sample.finish) == (text[0], "trace_end")
        assert engine.states["r"].output == []

    def test_do_not_end_a_request_whose_plan_goes_on(self):
        """A plan that broke off may name a request again after its last token: it keeps its blocks."""
        requests = [request("r", PROMPT, **DRAWN)]
        plan = told(started(requests), names=set()).steps[:4]
        engine = started(requests, start={"forced": {"r": self.FORCED}})
        probe = told(engine, plan, names=set())
        assert [sample.finish for sample in probe.samples] == [""] * 4
        assert not probe.finished
        assert len(engine.blocks.tables["r"]) == 2


class TestSeeds:
    def drawn(self, engine=None, **sampling) -> tuple[list[int], set[int]]:
        """Output and seeds of the request `r`, with settings of the engine and of its sampling."""
        built = started([request("r", PROMPT, **DRAWN, **sampling)], **(engine or {}))
        probe = told(built, names=set())
        return built.states["r"].output, {sample.seed for sample in probe.samples}

    def test_none_is_42_in_deterministic_mode(self, text):
        assert self.drawn() == (text, {DEFAULT_SEED}) == self.drawn(seed=42)
        assert DEFAULT_SEED == 42

    def test_the_engine_has_one_for_requests_that_have_none(self, text):
        seven, seeds = self.drawn(seed=7)
        assert seeds == {7}
        assert seven != text
        assert self.drawn({"seed": 7}) == (seven, {7})
        assert self.drawn({"seed": 7}, seed=42) == (text, {42})

    def test_zero_is_a_seed(self, text):
        zero, seeds = self.drawn(seed=0)
        assert seeds == {0}
        assert zero != text
        assert self.drawn({"seed": 7}, seed=0) == (zero, {0})
        assert self.drawn({"seed": 0}) == (zero, {0})

    def test_nobody_chose_is_random_and_kept_when_not_deterministic(self):
        engines = [started([request("r", PROMPT, **DRAWN)], deterministic=False) for _ in range(2)]
        seeds = [engine.requests[0].sampling.seed for engine in engines]
        assert seeds[0] != seeds[1]
        again = started(
            [request("r", PROMPT, **DRAWN)], start={"requests": engines[0].requests}, deterministic=False
        )
        assert again.requests[0].sampling.seed == seeds[0]


# what shares the engine with the request: alone, behind and before others, in steps of many shapes
COMPANY = [
    pytest.param([], {}, id="alone"),
    pytest.param([("x", 50, 0), ("s", 9, 0)], {"max_num_batched_tokens": 16}, id="crowded"),
    pytest.param([("a", 3, 0), ("b", 40, 1), ("z", 33, 2)], {"max_num_seqs": 2}, id="behind another"),
    pytest.param([("a", 3, 0), ("z", 33, 2)], {"enable_chunked_prefill": False}, id="whole prompts"),
    pytest.param([("a", 60, 0)], {"block_size": 4, "split_kv_size": 1}, id="small blocks"),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_prompt_and_one_seed_give_one_text_in_any_company(dtype):
    sampling = {**DRAWN, "seed": 5, "top_p": 0.9, "repetition_penalty": 1.1}
    texts = []
    for others, engine in (param.values for param in COMPANY):
        company = [
            request(name, prompt(length, length), arrival, max_tokens=9, temperature=1.0)
            for name, length, arrival in others
        ]
        twins = [request("r", PROMPT, 1, **sampling), request("twin", PROMPT, 4, **sampling)]
        output = tokens(started([*company, *twins], dtype=dtype, **engine))
        texts += [output["r"], output["twin"]]
    assert len(texts[0]) == LENGTH
    assert texts == [texts[0]] * len(texts)


@pytest.mark.parametrize("caching", [True, False])
def test_a_preempted_request_gives_the_same_tokens(caching):
    requests = [
        request(name, prompt(seed, 20), seed, **{**DRAWN, "seed": seed, "max_tokens": 24})
        for seed, name in enumerate("abcd")
    ]
    roomy = started(requests, enable_prefix_caching=caching)
    tight = started(requests, enable_prefix_caching=caching, num_gpu_blocks_override=7)
    assert tokens(roomy) == tokens(tight)

    events = [
        event.kind
        for step in told(started(requests, num_gpu_blocks_override=7)).steps
        for event in step.events
    ]
    assert EventKind.PREEMPTED in events
    assert not any(step.events for step in told(started(requests)).steps)
