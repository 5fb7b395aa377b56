"""Requests that are not what was asked: seen at the first op that the difference enters."""

import pytest

from detrec.errors import ConfigError
from tests.engines.faults.again import changed
from tests.engines.faults.broken import assert_seen, broken
from tests.engines.small import prompt, request

REQUESTS = [
    request("a", prompt(1, 20), max_tokens=4),
    request("b", prompt(2, 12), 1, temperature=1.0, seed=3, max_tokens=6, ignore_eos=True),
    request("c", prompt(3, 9), 2, max_tokens=4, repetition_penalty=1.3),
]


@pytest.mark.parametrize(
    ("parameters", "place"),
    [
        pytest.param("", (0, "a", 19), id="the last of the first"),
        pytest.param(":step=1,back=3", (1, "b", 8), id="of the first that arrives then"),
        pytest.param(":request=c,back=8", (2, "c", 0), id="the first of a named one"),
    ],
)
def test_another_token_of_a_prompt_is_seen_where_it_is_embedded(parameters, place):
    run = broken(f"changed_prompt{parameters}", REQUESTS, follow=True)
    first = assert_seen(run, "changed_prompt")
    assert (first.step, first.request, first.position, first.name) == (*place, "embedding")
    assert changed(run, "embedding") == {place[1:]}
    assert {name for name, _ in changed(run)} == {place[1]}
    # the trace says so too: the input of that row is another token
    step = place[0]
    differ = [row for row, pair in enumerate(zip(run.right.tokens[step], run.wrong.tokens[step], strict=True))
              if pair[0] != pair[1]]  # fmt: skip
    assert len(differ) == 1
    assert run.kernels("embedding")[step][1].startswith("cpu.embedding")


def test_a_token_before_the_prompt_is_refused():
    with pytest.raises(ConfigError, match="changed_prompt: back 20: the prompt of a has 20 tokens"):
        broken("changed_prompt:back=20", REQUESTS)


@pytest.mark.parametrize(
    ("parameters", "place", "touched"),
    [
        pytest.param("", (0, "a", 19, "logits_penalised"), {"a", "b"}, id="a penalty"),
        pytest.param("request=b", (1, "b", 11, "logits_penalised"), {"b"}, id="one request's"),
        pytest.param("step=1", (1, "b", 11, "logits_penalised"), {"b"}, id="who arrives later"),
        pytest.param("key=temperature", (3, "b", 13, "sampled"), {"b"}, id="a temperature"),
        pytest.param("key=top_k,request=b", (2, "b", 12, "sampled"), {"b"}, id="top-k"),
        pytest.param("key=top_p", (2, "b", 12, "sampled"), {"b"}, id="top-p"),
    ],
)
def test_a_sampling_parameter_that_nobody_asked_for(parameters, place, touched):
    run = broken(f"sampling_defaults:{parameters}", REQUESTS, follow=True)
    first = assert_seen(run, "sampling_defaults")
    assert (first.request, first.name) == (place[1], place[3])
    if first.name != "sampled":
        assert (first.step, first.position) == (place[0], place[2])
    assert {name for name, _ in changed(run)} == touched
    # what a request asked for itself stays
    assert not changed(run, "logits")


def test_a_parameter_that_the_file_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="key: no 'min_p' in a generation_config"):
        broken("sampling_defaults:key=min_p", REQUESTS)


@pytest.mark.parametrize("fault", ["changed_prompt:request=nobody", "sampling_defaults:step=9"])
def test_without_anybody_to_choose_nothing_changes_and_that_is_told(fault):
    run = broken(fault, REQUESTS)
    assert run.notices == [f"fault {fault.partition(':')[0]}: changed no bit in this run"]
    assert run.first() is None
