"""What a rank holds of each op's rows: the cut of `cut.py`, as the trace sees it."""

from collections.abc import Mapping

from detrec.config import EngineConfig
from detrec.engines.base import Rank
from detrec.engines.builtin.cut import Cut
from detrec.engines.builtin.model_config import ModelConfig
from detrec.kernels.share import Share, Span, check_shares, times_of

PARTIAL = ("o_partial", "down_partial")


def rank_of(cut: Cut) -> Rank:
    """The rank of `cut`; of one rank nothing is cut."""
    if cut.size == 1:
        return Rank()
    layers = [str(index) for index in range(cut.model.num_layers)]
    shares = {f"{layer}.{op}": share for layer in layers for op, share in _layer(cut).items()}
    return Rank(cut.rank, cut.size, shares, frozenset(f"{layer}.{op}" for layer in layers for op in PARTIAL))


def check_cut_words(engine: EngineConfig, model: ModelConfig) -> None:
    """Raise ConfigError where ranks are cut so finely that their fingerprints cannot be compared."""
    itemsize = 4 if engine.dtype == "float32" else 2
    size = engine.tensor_parallel_size
    layers = [_layer(Cut(model, rank, size)) for rank in range(size)]
    for op in layers[0] if size > 1 else ():
        check_shares(op, [layer[op] for layer in layers], itemsize)


def _layer(cut: Cut) -> Mapping[str, Share]:
    """The share of each op of a layer that is cut."""
    model, local = cut.model, cut.local()
    heads, kv_heads = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    q, kv = local.num_heads * model.head_dim, local.num_kv_heads * model.head_dim
    mlp = local.intermediate_size
    first = cut.rank * model.num_kv_heads // cut.size * model.head_dim
    copies = max(cut.size // model.num_kv_heads, 1)
    times = times_of(cut.rank % copies, copies)

    of_q = Share(heads, (Span(0, cut.rank * q, q),))
    of_k = Share(kv_heads, (Span(0, first, kv, times),))
    of_mlp = Share(model.intermediate_size, (Span(0, cut.rank * mlp, mlp),))
    of_kv = Share(2 * kv_heads, (Span(0, first, kv, times), Span(kv, kv_heads + first, kv, times)))
    of_qkv = Share(
        heads + 2 * kv_heads,
        (
            Span(0, cut.rank * q, q),
            Span(q, heads + first, kv, times),
            Span(q + kv, heads + kv_heads + first, kv, times),
        ),
    )
    gate, up = cut.rank * mlp, model.intermediate_size + cut.rank * mlp
    of_gate_up = Share(2 * model.intermediate_size, (Span(0, gate, mlp), Span(mlp, up, mlp)))
    norms = {"q_norm": of_q, "k_norm": of_k} if model.qk_norm else {}
    return {
        "qkv": of_qkv,
        **norms,
        "rope_q": of_q,
        "rope_k": of_k,
        "kv_write": of_kv,
        "attn": of_q,
        "gate_up": of_gate_up,
        "act": of_mlp,
    }
