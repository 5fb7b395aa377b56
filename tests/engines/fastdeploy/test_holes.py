"""Every hole of deterministic mode, told by the configurations on its two sides."""

from dataclasses import replace

import pytest

from detrec.engines.fastdeploy.holes import Setup, holes

TIGHT = Setup(
    deterministic=True,
    use_cudagraph=False,
    enable_prefix_caching=False,
    tensor_parallel_size=2,
    max_num_batched_tokens=1024,
    activation_bytes=7168,
)
"""Nothing to say about it: 1024 tokens of 3584 bfloat16 are 7 MiB, on two ranks."""


def named(**changes):
    return [hole.name for hole in holes(replace(TIGHT, **changes))]


def test_a_setup_without_holes():
    assert named() == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        pytest.param({"deterministic": False}, "mode-off", id="mode off"),
        pytest.param({"use_cudagraph": True}, "cuda-graphs", id="graphs"),
        pytest.param({"qkv_bias": True}, "qkv-bias", id="bias"),
        pytest.param({"max_num_batched_tokens": 15}, "starvation", id="budget under a split"),
        pytest.param({"enable_prefix_caching": True}, "prefix-caching", id="prefix caching"),
        pytest.param({"max_num_batched_tokens": 1171}, "all-reduce-buffer", id="8 MiB and a token"),
        pytest.param({"tensor_parallel_size": 4}, "all-reduce-order", id="four ranks"),
        pytest.param({"kv_cache": "int8"}, "kv-cache", id="c8"),
        pytest.param({"kv_cache": "int4_zp"}, "kv-cache", id="c4"),
        pytest.param({"attention_backend": "FLASH_ATTN"}, "attention-backend", id="flash attention"),
        pytest.param({"sampling_class": "rejection"}, "sampling-class", id="rejection"),
    ],
)
def test_each_hole_alone(changes, name):
    assert named(**changes) == [name]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"max_num_batched_tokens": 16}, id="budget of one split"),
        pytest.param({"max_num_batched_tokens": 0}, id="budget not known"),
        pytest.param({"max_num_batched_tokens": 1170}, id="8 MiB"),
        pytest.param({"max_num_batched_tokens": 1171, "all_reduce_mib": 9}, id="a larger buffer"),
        pytest.param({"max_num_batched_tokens": 8192, "tensor_parallel_size": 1}, id="one rank"),
        # one-stage below 512 KiB on four ranks, below 256 KiB on eight
        pytest.param({"tensor_parallel_size": 4, "max_num_batched_tokens": 73}, id="small on four"),
        pytest.param({"tensor_parallel_size": 8, "max_num_batched_tokens": 36}, id="small on eight"),
    ],
)
def test_the_other_side_of_a_hole(changes):
    assert named(**changes) == []


def test_the_same_batch_is_too_large_for_the_order_on_eight_ranks():
    assert named(tensor_parallel_size=8, max_num_batched_tokens=73) == ["all-reduce-order"]


def test_where_the_mode_is_off_nothing_else_is_worth_a_word():
    assert named(deterministic=False, use_cudagraph=True, kv_cache="int8") == ["mode-off"]


def test_a_hole_says_what_and_what_to_do():
    (hole,) = holes(replace(TIGHT, max_num_batched_tokens=8192))
    assert str(hole) == (
        "all-reduce-buffer: the largest batch reduces 56 MiB, the buffer holds 8: a RuntimeError at the "
        "first large prefill; export FD_CUSTOM_AR_MAX_SIZE_MB=56"
    )
