"""Causes that cannot be injected here: listed, refused by name, and no case of the list left out."""

import pytest

from detrec.engines.faults import FAULTS, arm
from detrec.engines.faults.needed import NEEDED
from detrec.errors import ConfigError
from detrec.replayer.diagnosis import CLASSES

CASES = 33


@pytest.mark.parametrize("name", NEEDED)
def test_what_needs_another_engine_is_refused_and_says_what_it_needs(name):
    for text in (name, f"{name}:step=1"):
        with pytest.raises(ConfigError) as refused:
            arm(text, ("0.attn",), print)
        expected = (
            f"--fault {text}: needs {NEEDED[name].needs}, which the built-in engine does not have on a CPU"
        )
        assert (str(refused.value), refused.value.hint) == (
            expected,
            "`detrec faults` lists what can be injected",
        )


def test_every_reported_case_is_injected_or_says_what_it_needs():
    injected = {number for fault in FAULTS.values() for number in fault.number}
    needing = {number for each in NEEDED.values() for number in each.number}
    assert injected | needing == set(range(1, CASES + 1))
    # a scan's state and a captured graph: what is like them can be shown, what was reported cannot
    assert injected & needing == {10, 27}
    assert not set(FAULTS) & set(NEEDED)


@pytest.mark.parametrize("cause", [*FAULTS.values(), *NEEDED.values()], ids=[*FAULTS, *NEEDED])
def test_every_cause_is_of_a_class_and_says_what_must_be_seen(cause):
    assert cause.cause in CLASSES
    assert cause.cause != "unknown"
    assert cause.summary
    assert cause.source
    assert cause.expects


REFUSED = [
    ("tile_by_longest:tokens=0", "tokens: expected 1 to 1073741824, got 0"),
    ("split_kv_by_batch:splits=1", "splits: expected 2 to 1073741824, got 1"),
    ("autotuned_matmul:winner=5", "winner: expected 0 to 4, got 5"),
    ("racing_matmul:leaves=2", "leaves: expected 3 to 64, got 2"),
    ("racing_matmul:percent=0", "percent: expected 1 to 100, got 0"),
    ("norm_padding:multiple=1", "multiple: expected 2 to 1073741824, got 1"),
    ("norm_padding:op=0.qkv", "cannot act on 0.qkv"),
    ("wrong_rope_base:layer=4", "no op '4.rope_q'"),
    ("attention_backend:layer=99", "no op '99.attn'"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_bounds_are_those_of_the_fault(text, message):
    from detrec.engines.builtin.model import op_names
    from detrec.engines.builtin.seeded import SeededCheckpoint

    with pytest.raises(ConfigError) as refused:
        arm(text, tuple(op_names(SeededCheckpoint("qwen2-tiny").config)), print)
    assert str(refused.value) == f"--fault {text}: {message}"
