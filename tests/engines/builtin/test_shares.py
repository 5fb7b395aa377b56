"""The shard map: what ranks hold of each op makes up the whole, for every size that a model can have."""

from dataclasses import replace

import numpy as np
import pytest

from detrec.config import serve_config
from detrec.engines.base import OpKind, Rank
from detrec.engines.builtin.cut import Cut, check_cut
from detrec.engines.builtin.model import op_names
from detrec.engines.builtin.model_config import ModelConfig
from detrec.engines.builtin.shares import check_cut_words, rank_of
from detrec.engines.builtin.weights import open_checkpoint
from detrec.errors import ConfigError
from detrec.kernels.share import check_shares


def model(
    heads: int, kv_heads: int, head_dim: int = 8, mlp: int = 96, *, qk_norm: bool = False
) -> ModelConfig:
    tiny = open_checkpoint("builtin:qwen2-tiny").config
    sizes = {"num_heads": heads, "num_kv_heads": kv_heads, "head_dim": head_dim, "intermediate_size": mlp}
    return replace(tiny, **sizes, qk_norm=qk_norm)


@pytest.mark.parametrize(
    ("size", "heads", "kv_heads"), [(2, 4, 2), (3, 6, 3), (4, 8, 2), (6, 12, 3), (8, 8, 1), (8, 16, 8)]
)
def test_shares_make_up_every_op_that_is_cut(size, heads, kv_heads):
    config = model(heads, kv_heads, qk_norm=True)
    ranks = [rank_of(Cut(config, index, size)) for index in range(size)]
    assert [rank.index for rank in ranks] == list(range(size))
    for op in ranks[0].shares:
        check_shares(op, [rank.shares[op] for rank in ranks], 2)
    # the rank's rows are those that it computes
    local = Cut(config, size - 1, size).local()
    q, kv = local.num_heads * 8, local.num_kv_heads * 8
    widths = {"qkv": q + 2 * kv, "q_norm": q, "k_norm": kv, "rope_q": q, "rope_k": kv, "kv_write": 2 * kv}
    widths |= {"attn": q, "gate_up": 2 * local.intermediate_size, "act": local.intermediate_size}
    assert {op: ranks[-1].shares[f"0.{op}"].length for op in widths} == widths


def test_a_rank_holds_the_columns_that_it_computes_with():
    config = model(8, 2)
    for index in range(4):
        cut, heads = Cut(config, index, 4), np.arange(8 * 8)[:, None]
        kv = np.arange(2 * 8)[:, None] + len(heads)
        q, k, v = rank_of(cut).shares["1.qkv"].spans
        assert cut.part("model.layers.1.self_attn.q_proj.weight", heads)[:, 0].tolist() == [
            *range(q.at, q.at + q.length)
        ]
        assert cut.part("model.layers.1.self_attn.k_proj.weight", kv)[:, 0].tolist() == [
            *range(k.at, k.at + k.length)
        ]
        assert v.at - k.at == len(kv)


def test_every_op_has_a_kind():
    config = model(4, 2, qk_norm=True)
    names = tuple(op_names(config))
    kinds = dict(zip(names, rank_of(Cut(config, 1, 2)).kinds(names), strict=True))
    assert {op for op, kind in kinds.items() if kind is OpKind.PARTIAL and op[0] == "0"} == {
        "0.o_partial",
        "0.down_partial",
    }
    assert kinds["0.qkv"] is kinds["3.act"] is OpKind.CUT
    assert kinds["embedding"] is kinds["0.o_proj"] is kinds["logits"] is OpKind.REPLICATED


def test_one_rank_holds_all():
    assert rank_of(Cut(model(4, 2))) == Rank()


def test_heads_that_end_inside_a_word_are_refused_at_start():
    engine = serve_config(
        {
            "model": "builtin:qwen2-tiny",
            "engine": {"tensor_parallel_size": 2, "dtype": "bfloat16"},
            "requests": [{"prompt_token_ids": [1]}],
        }
    ).engine
    odd = model(2, 2, head_dim=6)
    check_cut(engine, odd)
    with pytest.raises(
        ConfigError, match=r"tensor_parallel_size: 2 ranks cut qkv at element 6 of 36, .* of 4"
    ):
        check_cut_words(engine, odd)
    check_cut_words(replace(engine, dtype="float32"), odd)
