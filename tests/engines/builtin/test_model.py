"""The engine computes Qwen2, Qwen3 and Llama: against float64 numpy that shares no code with it."""

import numpy as np
import pytest

from detrec.engines.builtin.seeded import SeededCheckpoint
from tests.engines.small import prompt, request, started, told

MODELS = ["qwen2-tiny", "qwen3-tiny", "llama-tiny"]
# 40 tokens: three chunks and three KV blocks, the last of each ragged; decodes cross into a fourth block
PROMPT, OUTPUT = prompt(1, 40), 12
DRAWN = {"logits", "logits_penalised", "logprobs", "sampled"}


def normed(x, weight, eps):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * weight


def rotated(x, theta):
    """x [rows, heads, D], its rows at positions 0, 1, ...; pairs are (i, i + D/2)."""
    half = x.shape[-1] // 2
    turn = np.exp(1j * np.arange(len(x))[:, None, None] * theta ** (-np.arange(half) / half))
    pairs = (x[..., :half] + 1j * x[..., half:]) * turn
    return np.concatenate([pairs.real, pairs.imag], axis=-1)


def attended(q, k, v):
    """Causal attention of [rows, heads, D]; consecutive query heads share a KV head."""
    group = q.shape[1] // k.shape[1]
    k, v = (np.repeat(x, group, axis=1) for x in (k, v))
    scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[-1])
    scores[:, np.triu(np.ones(scores.shape[1:], bool), 1)] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("hqk,khd->qhd", weights, v).reshape(len(q), -1)


def exact(x):
    return np.asarray(x, np.float64)


def bfloat16(x):
    """Rounded to the nearest bfloat16, ties to even."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    return widened(((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)).astype(np.float64)


def widened(row):
    return (row.astype(np.uint32) << 16).view(np.float32) if row.dtype == np.uint16 else row


def reference(name, tokens, stored):
    """Final hidden states and logits of every token in float64; `stored` rounds matrices and op outputs."""
    checkpoint = SeededCheckpoint(name)
    c = checkpoint.config

    def vector(name):
        return exact(checkpoint.tensor(name))

    def project(x, name):
        biased = c.architecture == "qwen2" and name.endswith(("q_proj", "k_proj", "v_proj"))
        return stored(x @ stored(vector(name + ".weight")).T + (vector(name + ".bias") if biased else 0))

    def norm(x, name):
        return stored(normed(x, vector(name + ".weight"), c.rms_norm_eps))

    embedding = stored(vector("model.embed_tokens.weight"))
    x = embedding[tokens]
    for layer in range(c.num_layers):
        attn, mlp = (f"model.layers.{layer}.{part}." for part in ("self_attn", "mlp"))
        h = norm(x, f"model.layers.{layer}.input_layernorm")
        q, k, v = (project(h, f"{attn}{part}_proj").reshape(len(tokens), -1, c.head_dim) for part in "qkv")
        if c.architecture == "qwen3":
            q, k = norm(q, attn + "q_norm"), norm(k, attn + "k_norm")
        q, k = stored(rotated(q, c.rope_theta)), stored(rotated(k, c.rope_theta))
        x = stored(x + project(stored(attended(q, k, v)), attn + "o_proj"))
        h = norm(x, f"model.layers.{layer}.post_attention_layernorm")
        gate, up = project(h, mlp + "gate_proj"), project(h, mlp + "up_proj")
        x = stored(x + project(stored(gate / (1 + np.exp(-gate)) * up), mlp + "down_proj"))
    hidden = norm(x, "model.norm")
    return hidden, hidden @ (embedding if c.tie_word_embeddings else stored(vector("lm_head.weight"))).T


def errors(model, dtype, stored):
    """How far the engine is from the reference: all final hidden states, and the logits that it drew from."""
    requests = [request("r", PROMPT, max_tokens=OUTPUT, ignore_eos=True)]
    engine = started(requests, model=model, dtype=dtype, max_num_batched_tokens=16)
    rows = told(engine).rows()
    hidden, logits = reference(model, engine.states["r"].tokens[:-1], stored)
    drawn = range(len(PROMPT) - 1, len(hidden))
    assert len(drawn) == OUTPUT
    got_hidden = np.stack([widened(rows["final_norm", "r", p][0][1]) for p in range(len(hidden))])
    got_logits = np.stack([rows["logits", "r", p][0][1] for p in drawn])
    assert got_logits.dtype == np.float32
    assert 10 < np.abs(logits).max() < 15
    return np.abs(got_hidden - hidden), np.abs(got_logits - logits[drawn.start :])


@pytest.mark.parametrize("model", MODELS)
def test_float32_is_near_float64(model):
    hidden, logits = errors(model, "float32", exact)
    assert hidden.max() < 1e-4
    assert logits.max() < 2e-4


# numpy that rounds where the engine does is ten times nearer to it than to numpy that does not round
@pytest.mark.parametrize("model", MODELS)
def test_bfloat16_is_near_float64_rounded_after_every_op(model):
    hidden, logits = errors(model, "bfloat16", bfloat16)
    assert hidden.max() < 0.15
    assert logits.max() < 0.5
    assert np.sqrt((logits**2).mean()) < 0.1


def test_bfloat16_is_rounded_after_every_op():
    _, logits = errors("qwen2-tiny", "bfloat16", exact)
    assert np.sqrt((logits**2).mean()) > 0.1


@pytest.mark.parametrize("model", MODELS)
def test_a_probe_is_told_every_op_once_a_step_and_in_the_order_of_op_names(model):
    engine = started(
        [request("a", prompt(2, 20)), request("b", prompt(3, 9), arrival=2)],
        model=model,
        max_num_batched_tokens=16,
    )
    probe = told(engine)
    steps = [[name for name, _, _ in ops] for ops in probe.ops]
    without_draws = [name for name in engine.op_names if name not in DRAWN]
    assert len(set(engine.op_names)) == len(engine.op_names)
    for step, names in zip(probe.steps, steps, strict=True):
        assert names == (list(engine.op_names) if step.sample_rows else without_draws)
    # the first chunk of `a` draws nothing: both kinds of step were seen
    assert {len(names) for names in steps} == {len(engine.op_names), len(without_draws)}


def test_the_ops_of_a_layer_are_those_of_the_design():
    names = [name for name in started([request("r", [1])]).op_names if name.startswith("2.")]
    assert names == [
        f"2.{op}"
        for op in (
            *("attn_norm", "qkv", "rope_q", "rope_k", "kv_write", "attn", "o_partial", "o_proj"),
            *("attn_residual", "mlp_norm", "gate_up", "act", "down_partial", "down_proj", "output"),
        )
    ]
    qwen3 = started([request("r", [1])], model="qwen3-tiny").op_names
    assert qwen3[2:6] == ("0.qkv", "0.q_norm", "0.k_norm", "0.rope_q")
