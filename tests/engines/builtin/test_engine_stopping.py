"""Where a text ends, and why the engine says that it did."""

from dataclasses import replace

from detrec.config import serve_config
from detrec.engines.builtin.engine import BuiltinEngine
from detrec.engines.builtin.requests import resolve_requests
from detrec.engines.builtin.seeded import SeededCheckpoint
from tests.engines.builtin.one_text import DRAWN, LENGTH, PROMPT, finished, stopped
from tests.engines.small import request, started


class TestStopping:
    def test_at_max_tokens(self, text):
        assert stopped(max_tokens=5) == (text[:5], "length")
        assert stopped(max_tokens=1) == (text[:1], "length")

    def test_at_max_model_len(self, text):
        engine = started([request("r", PROMPT, **DRAWN)], max_model_len=len(PROMPT) + 4)
        assert finished(engine) == (text[:4], "length")

    def test_at_a_stop_token_which_is_kept(self, text):
        assert stopped(stop_token_ids=[511, text[3]]) == (text[:4], "stop")

    def test_at_a_stop_token_that_is_also_the_last_allowed(self, text):
        assert stopped(stop_token_ids=[text[3]], max_tokens=4) == (text[:4], "stop")

    def test_at_a_stop_string_that_spans_tokens(self, text):
        decode = SeededCheckpoint("qwen2-tiny").tokenizer().decode
        whole = decode(text)
        for stop in (whole[8:11], whole[2], whole[-3:]):
            count = next(n for n in range(1, LENGTH + 1) if stop in decode(text[:n]))
            assert stopped(stop=["no such text", stop]) == (text[:count], "stop")
        assert stopped(stop=["no such text"]) == (text, "length")

    def eos(self, token, **sampling):
        """The same run by a model whose end of text is `token`."""
        checkpoint = SeededCheckpoint("qwen2-tiny")
        checkpoint.config = replace(checkpoint.config, eos_token_ids=(511, token))
        one = request("r", PROMPT, **{**DRAWN, "ignore_eos": False, **sampling})
        data = {"model": "builtin:qwen2-tiny", "engine": {"max_model_len": 128}, "requests": [one]}
        config = serve_config(data)
        return finished(BuiltinEngine(config, checkpoint, resolve_requests(config, checkpoint)))

    def test_at_the_end_of_the_text(self, text):
        assert self.eos(text[3]) == (text[:4], "stop")

    def test_not_at_the_end_of_the_text_if_it_is_ignored(self, text):
        assert self.eos(text[3], ignore_eos=True) == (text, "length")

    def test_min_tokens_keeps_the_end_of_the_text_away(self, text):
        output, _ = self.eos(text[3], min_tokens=8)
        assert len(output) > 8
        assert output[:3] == text[:3]
        assert text[3] not in output[:8]

    def test_min_tokens_keeps_stop_tokens_away_but_not_an_ignored_end(self, text):
        output, _ = self.eos(text[3], min_tokens=8, ignore_eos=True, stop_token_ids=[text[5]])
        assert output[:5] == text[:5]
        assert text[5] not in output[:8]

    def test_min_tokens_keeps_a_stop_string_away(self, text):
        stop = SeededCheckpoint("qwen2-tiny").tokenizer().decode(text[:1])
        assert stopped(stop=[stop]) == (text[:1], "stop")
        assert stopped(stop=[stop], min_tokens=6) == (text[:6], "stop")

    def test_min_tokens_allows_what_comes_after_them(self, text):
        assert stopped(stop_token_ids=[text[3]], min_tokens=3) == (text[:4], "stop")
