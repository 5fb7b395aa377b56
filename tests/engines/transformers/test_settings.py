"""The keys under `engine` that are transformers' own."""

import pytest

from detrec.errors import ConfigError
from tests.engines.small import request
from tests.engines.transformers.tiny import started


@pytest.mark.parametrize(
    ("settings", "problem", "hint"),
    [
        (
            {"max_batch_token": 3},
            "unknown key 'max_batch_token' for transformers",
            "did you mean max_batch_tokens?",
        ),
        ({"invariant_kernel": True}, "unknown key 'invariant_kernel'", "did you mean invariant_kernels?"),
        ({"use_cuda_graph": True}, "use_cuda_graph: expected False, got True: graphs hide", "leave out"),
        ({"use_async_batching": True}, "use_async_batching: expected False", "leave out"),
        ({"attn_implementation": "flash"}, "expected one of sdpa, eager, got 'flash'", ""),
        ({"invariant_kernels": 1}, "invariant_kernels: expected true or false, got 1", ""),
        ({"invariant_kernels": True, "attn_implementation": "eager"}, "take the place of sdpa", "leave out"),
        ({"num_blocks": 0}, "num_blocks: expected a whole number of at least 1, got 0", ""),
        ({"max_batch_tokens": "many"}, "max_batch_tokens: expected a whole number", ""),
        ({"scheduler_type": "lifo"}, "expected one of fifo, prefill_first.*got 'lifo'", ""),
        ({"batching": "dynamic"}, "expected continuous or static, got 'dynamic'", ""),
        ({"batching": "static", "page_size": 8}, "page_size: not with batching: static", "leave it out"),
        ({"batching": "static", "invariant_kernels": True}, "invariant_kernels: not with", "leave it out"),
        ({"dtype": "float16"}, "float16 have a fingerprint on a GPU only", "engine.device to gpu"),
    ],
)
def test_what_is_refused(settings, problem, hint):
    with pytest.raises(ConfigError, match=problem) as caught:
        started([request("a", [1, 2])], **settings)
    assert hint in caught.value.hint


def test_what_transformers_itself_refuses():
    with pytest.raises(ConfigError, match=r"transformers refuses its configuration: .* must be at least 4"):
        started([request("a", [1, 2])], page_size=2).own_scheduler()


def test_nothing_is_left_to_the_machines_free_memory():
    """Or another machine would schedule otherwise."""
    manifest = started([request("a", list(range(20)), max_tokens=12)]).manifest()
    assert manifest["num_blocks"] == 4
    assert manifest["max_batch_tokens"] == 16
    assert manifest["page_size"] == 16
    assert manifest["attention"] == "sdpa"
    assert manifest["threads"] >= 1
