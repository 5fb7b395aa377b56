"""One request while it runs: what is left to compute, and what its next slice is."""

import pytest

from detrec.config import SamplingParams
from detrec.engines.base import Kind, Request, Slice
from detrec.engines.builtin.state import RequestState

REQUEST = Request("a", (5, 6, 7), SamplingParams(seed=1), arrival=4)


def test_a_new_request_has_its_prompt_to_compute():
    state = RequestState(REQUEST)
    assert (state.tokens, state.output, state.remaining, state.decoding) == ([5, 6, 7], [], 3, False)
    state.tokens.append(8)
    assert REQUEST.prompt == (5, 6, 7)
    assert RequestState(REQUEST).tokens == [5, 6, 7]


# prompt of 3; tokens known, tokens computed, tokens to run -> kind, samples
CUTS = [
    pytest.param(3, 0, 2, Kind.PREFILL, False, id="first chunk"),
    pytest.param(3, 2, 1, Kind.PREFILL, True, id="a prompt's last token is no decode"),
    pytest.param(4, 3, 1, Kind.DECODE, True, id="decode"),
    pytest.param(5, 0, 5, Kind.PREFILL, True, id="all again after a preemption"),
    pytest.param(5, 0, 4, Kind.PREFILL, False, id="some again after a preemption"),
    pytest.param(5, 4, 1, Kind.DECODE, True, id="the rest of that"),
]


@pytest.mark.parametrize(("known", "computed", "count", "kind", "samples"), CUTS)
def test_a_slice_knows_its_kind_and_whether_a_token_follows(known, computed, count, kind, samples):
    state = RequestState(REQUEST, list(range(known)), computed)
    assert state.remaining == known - computed
    assert state.cut(count, 9) == Slice("a", computed, computed + count, kind, samples, 9)


def test_who_came_first_goes_first_and_ties_go_by_id():
    later = RequestState(Request("0", (1,), SamplingParams(seed=1), arrival=5))
    twin = RequestState(Request("b", (1,), SamplingParams(seed=1), arrival=4))
    states = sorted([later, twin, RequestState(REQUEST)], key=lambda state: state.priority)
    assert [state.request.id for state in states] == ["a", "b", "0"]
