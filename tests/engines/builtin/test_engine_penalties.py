"""Penalties change the logits of what a request has seen, by as much as they say, and nothing else."""

from typing import ClassVar

import numpy as np
import pytest

from tests.bits import assert_same_bits
from tests.engines.builtin.one_text import DRAWN, PROMPT
from tests.engines.small import request, started, told


class TestPenalties:
    HARD: ClassVar = {"repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.25}

    def rows(self, **sampling):
        """Logits and penalised logits of each draw, after the same forced tokens; and what had been seen."""
        forced = [7, 300, 7]
        both = [request("r", PROMPT, **DRAWN, **sampling), request("other", PROMPT[:3], **DRAWN)]
        rows = told(started(both, start={"forced": {"r": forced, "other": [1] * 8}})).rows()
        for count in range(len(forced)):
            position = len(PROMPT) - 1 + count
            (_, before), (_, after) = (rows[op, "r", position][0] for op in ("logits", "logits_penalised"))
            yield before, after, forced[:count]
        for (op, of, position), ((_, row),) in rows.items():
            if (op, of) == ("logits_penalised", "other"):
                assert_same_bits(row, rows["logits", "other", position][0][1])

    @pytest.mark.parametrize("seed", [{}, {"seed": 3, "top_k": 5, "top_p": 0.5, "min_p": 0.1}])
    def test_neutral_ones_leave_every_bit(self, seed):
        for before, after, _ in self.rows(**seed):
            assert_same_bits(before, after)

    @pytest.mark.parametrize("name", [*HARD, ""])
    def test_others_change_what_was_seen_and_nothing_else(self, name):
        chosen = {name: self.HARD[name]} if name else self.HARD
        for before, after, output in self.rows(**chosen):
            # repetition looks at the prompt too
            seen = {*output, *(PROMPT if "repetition_penalty" in chosen else ())}
            assert set(np.flatnonzero(before != after).tolist()) == seen

    def test_mean_what_their_names_say(self):
        *_, (before, after, output) = self.rows(**self.HARD)
        assert output == [7, 300]
        *_, (before, after, _) = self.rows(**{**self.HARD, "repetition_penalty": 1.0})
        assert after[7] == pytest.approx(before[7] - 0.75, abs=1e-5)

    def test_count_every_repetition(self):
        forced = {"r": [7, 7, 7, 9]}
        engine = started([request("r", [1], **DRAWN, frequency_penalty=0.5)], start={"forced": forced})
        rows = told(engine).rows()
        lost = [
            rows["logits", "r", position][0][1][7] - rows["logits_penalised", "r", position][0][1][7]
            for position in range(4)
        ]
        assert lost == pytest.approx([0, 0.5, 1.0, 1.5], abs=1e-5)
