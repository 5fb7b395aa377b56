"""A model cut over ranks: the parts are the whole, and sizes that do not divide it are refused."""

import numpy as np
import pytest

from detrec.config import EngineConfig
from detrec.engines.builtin.cut import Cut, check_cut
from detrec.errors import ConfigError
from tests.bits import assert_same_bits
from tests.engines.rank_threads import seeded

LAYER = "model.layers.1."


def engine(size: int, reduction: str = "ranks") -> EngineConfig:
    return EngineConfig(tensor_parallel_size=size, reduction=reduction)


def parts(checkpoint, size: int, name: str) -> list[np.ndarray]:
    tensor = checkpoint.tensor(name)
    return [Cut(checkpoint.config, rank, size).part(name, tensor) for rank in range(size)]


@pytest.mark.parametrize("size", [1, 2, 3, 6])
@pytest.mark.parametrize(
    ("name", "axis"),
    [
        ("self_attn.q_proj.weight", 0),
        ("self_attn.q_proj.bias", 0),
        ("self_attn.o_proj.weight", 1),
        ("mlp.gate_proj.weight", 0),
        ("mlp.up_proj.weight", 0),
        ("mlp.down_proj.weight", 1),
    ],
)
def test_parts_make_the_whole(name, axis, size):
    checkpoint = seeded(num_heads=6, num_kv_heads=3, head_dim=32, intermediate_size=192)
    whole = np.concatenate(parts(checkpoint, size, LAYER + name), axis=axis)
    assert_same_bits(whole, checkpoint.tensor(LAYER + name))


@pytest.mark.parametrize("size", [1, 2, 8])
@pytest.mark.parametrize(
    "name",
    [
        *(f"{LAYER}self_attn.{part}_proj.weight" for part in "qkvo"),
        *(
            f"{LAYER}{part}"
            for part in ("self_attn.k_proj.bias", "mlp.down_proj.weight", "input_layernorm.weight")
        ),
        "model.embed_tokens.weight",
    ],
)
def test_an_element_of_a_part_is_known_in_the_whole(name, size):
    checkpoint = seeded(num_heads=8, num_kv_heads=2, head_dim=16, vocab_size=64)
    tensor = checkpoint.tensor(name)
    # one rank for all would do for what is not cut
    for rank in {0, size // 2, size - 1}:
        cut = Cut(checkpoint.config, rank, size)
        part = cut.part(name, tensor)
        for element in (0, 5, part.size // 2 + 3, part.size - 1):
            assert tensor.flat[cut.whole(name, element)] == part.flat[element]


@pytest.mark.parametrize("name", ["self_attn.k_proj.weight", "self_attn.v_proj.bias"])
def test_more_ranks_than_kv_heads_hold_the_head_that_their_queries_ask(name):
    checkpoint = seeded(num_heads=8, num_kv_heads=2, head_dim=16)
    heads = np.split(checkpoint.tensor(LAYER + name), 2)
    for rank, part in enumerate(parts(checkpoint, 8, LAYER + name)):
        assert_same_bits(part, heads[rank // 4])


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "lm_head.weight"])
def test_a_vocabulary_that_does_not_divide_is_filled_up_with_zeros(name):
    checkpoint = seeded("qwen3-tiny", vocab_size=509)
    whole = np.concatenate(parts(checkpoint, 3, name))
    assert len(whole) == 510
    assert_same_bits(whole[:509], checkpoint.tensor(name))
    assert not whole[509:].any()


def test_more_ranks_than_a_small_vocabulary_has_rows_for():
    checkpoint = seeded(vocab_size=9)
    cut = parts(checkpoint, 8, "model.embed_tokens.weight")
    assert [len(part) for part in cut] == [2] * 8
    assert [part.any() for part in cut] == [True] * 5 + [False] * 3


@pytest.mark.parametrize("name", ["input_layernorm.weight", "self_attn.q_norm.weight"])
def test_norms_are_held_by_all(name):
    checkpoint = seeded("qwen3-tiny")
    for part in parts(checkpoint, 2, LAYER + name):
        assert_same_bits(part, checkpoint.tensor(LAYER + name))


def test_a_rank_computes_its_heads_and_its_part_of_the_mlp():
    local = Cut(seeded().config, 3, 4).local()
    assert (local.num_heads, local.num_kv_heads, local.intermediate_size) == (1, 1, 64)
    assert (local.hidden_size, local.vocab_size) == (128, 512)


@pytest.mark.parametrize(
    ("size", "reduction", "sizes", "message", "hint"),
    [
        (3, "ranks", {}, "4 attention heads do not divide by 3", "1, 2, 4"),
        (8, "ranks", {}, "4 attention heads do not divide by 8", "1, 2, 4"),
        (
            *(4, "ranks", {"num_heads": 12, "num_kv_heads": 3, "intermediate_size": 192}),
            *("3 KV heads and 4 do not divide by each other", "1, 3, 6"),
        ),
        (
            *(4, "ranks", {"num_heads": 8, "intermediate_size": 258}),
            *("an MLP of 258 columns does not divide by 4", "1, 2"),
        ),
        (
            *(3, "tp_invariant", {"num_heads": 12, "num_kv_heads": 12, "intermediate_size": 96}),
            *("tp_invariant adds 8 sums, which 3 do not share", "1, 2, 4"),
        ),
    ],
)
def test_a_size_that_does_not_divide_the_model_is_refused(size, reduction, sizes, message, hint):
    with pytest.raises(ConfigError, match=message) as refused:
        check_cut(engine(size, reduction), seeded(**sizes).config)
    assert str(refused.value).startswith(f"engine.tensor_parallel_size: {size} ranks cannot share this model")
    assert refused.value.hint == f"sizes that would do: {hint}"


def test_a_model_without_eight_equal_sums_cannot_be_invariant():
    with pytest.raises(ConfigError, match="tp_invariant: 100 columns of the MLP do not make 8") as refused:
        check_cut(engine(1, "tp_invariant"), seeded(intermediate_size=100).config)
    assert refused.value.hint == "set engine.reduction: ranks"


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_sizes_that_divide_the_model_are_let_through(size):
    config = seeded(num_heads=8, num_kv_heads=2).config
    check_cut(engine(size), config)
    check_cut(engine(size, "tp_invariant"), config)
