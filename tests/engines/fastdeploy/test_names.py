"""Ops by FastDeploy's module names, in causal order, under the built-in engine's names."""

from detrec.engines.base import OpKind
from detrec.engines.builtin.model import op_names
from detrec.engines.builtin.weights import open_checkpoint
from detrec.engines.fastdeploy.names import kinds_of, names_of

_INSIDE = (
    *("input_layernorm", "self_attn", "self_attn.qkv_proj", "self_attn.attn", "self_attn.o_proj"),
    *("post_attention_layernorm", "mlp", "mlp.up_gate_proj", "mlp.act_fn", "mlp.down_proj"),
)


def paths(layers=2, inside=_INSIDE, base="qwen2."):
    found = [f"{base}embed_tokens", f"{base}norm", "lm_head", f"{base.rstrip('.')}"]
    for layer in range(layers):
        found += [f"{base}layers.{layer}", *(f"{base}layers.{layer}.{name}" for name in inside)]
    return found


def test_ops_of_a_decoder_have_the_built_in_engines_names_and_order():
    """So that a trace of FastDeploy compares with one of the built-in engine, op by op."""
    ours = [*op_names(open_checkpoint("builtin:qwen2-tiny").config)]
    theirs = names_of(paths(layers=2), ranks=1).ops
    assert set(theirs) <= set(ours)
    common = [name for name in ours if name in theirs]
    assert list(theirs) == common
    assert {"embedding", "0.output", "1.output", "final_norm", "logits", "sampled"} <= set(theirs)


def test_the_stream_after_a_layer_is_what_the_next_norm_added_up():
    taps = {tap.op: (tap.path, tap.output) for tap in names_of(paths(layers=2), ranks=1).taps}
    assert taps["0.output"] == ("qwen2.layers.1.input_layernorm", 1)
    assert taps["1.output"] == ("qwen2.norm", 1)
    assert taps["0.attn_residual"] == ("qwen2.layers.0.post_attention_layernorm", 1)
    assert taps["final_norm"] == ("qwen2.norm", 0)


def test_ranks_have_what_an_all_reduce_is_given_before_what_it_gives():
    names = names_of(paths(layers=1), ranks=2)
    assert names.partials == {
        "qwen2.embed_tokens": "embedding_partial",
        "qwen2.layers.0.self_attn.o_proj": "0.o_partial",
        "qwen2.layers.0.mlp.down_proj": "0.down_partial",
    }
    for before, after in (("0.o_partial", "0.o_proj"), ("0.down_partial", "0.down_proj")):
        assert names.ops.index(before) + 1 == names.ops.index(after)
    assert names.ops[-2:] == ("sampled", "broadcast")


def test_what_a_rank_holds_of_an_op():
    """A share that FastDeploy lays out is compared as a summand is: with as many ranks, rank by rank."""
    ops = names_of(paths(layers=1), ranks=2).ops
    own = {op for op, kind in zip(ops, kinds_of(ops, 2), strict=True) if kind is OpKind.PARTIAL}
    assert own == {
        *("embedding_partial", "0.qkv", "0.attn", "0.o_partial", "0.gate_up", "0.act", "0.down_partial")
    }
    assert set(kinds_of(ops, 1)) == {OpKind.REPLICATED}


def test_a_layer_of_other_modules_is_recorded_by_what_it_returns():
    names = names_of(paths(layers=1, inside=("mixer",)), ranks=1)
    assert [(tap.op, tap.path, tap.output) for tap in names.taps] == [
        ("embedding", "qwen2.embed_tokens", 0),
        ("0.output", "qwen2.layers.0", 0),
        ("0.residual", "qwen2.layers.0", 1),
        ("final_norm", "qwen2.norm", 0),
    ]


def test_a_mixture_of_experts_has_no_down_projection_of_its_own():
    inside = tuple(name for name in _INSIDE if not name.startswith("mlp."))
    ops = names_of(paths(layers=1, inside=inside), ranks=1).ops
    assert "0.down_proj" not in ops
    assert {"0.mlp_norm", "0.output"} <= set(ops)


def test_the_language_model_is_the_deepest_stack():
    both = [*paths(layers=3, base="model."), *paths(layers=2, base="vision.")]
    assert {tap.path.split(".")[0] for tap in names_of(both, ranks=1).taps} == {"model"}


def test_a_model_without_layers_has_what_is_outside_only():
    assert names_of(["encoder", "lm_head"], ranks=1) == names_of([], ranks=1)
    assert names_of([], ranks=1).ops == ("logits", "sampled")
