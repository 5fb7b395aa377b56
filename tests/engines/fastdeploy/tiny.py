"""A tiny decoder of Paddle layers with FastDeploy's module names and outputs, and a sampler."""

from types import SimpleNamespace

import numpy as np
import paddle
from paddle import nn

HIDDEN, VOCABULARY, LAYERS = 16, 64, 2


class Norm(nn.Layer):
    """Adds the residual, then normalises: both are given."""

    def forward(self, x, residual=None):
        residual = x if residual is None else x + residual
        scale = paddle.rsqrt((residual * residual).mean(axis=-1, keepdim=True) + 1e-6)
        return residual * scale, residual


class Attention(nn.Layer):
    """Causal attention over the keys of the slot, which stand where the block table says."""

    def __init__(self, block_size, blocks):
        super().__init__()
        self.block_size = block_size
        self.cache = np.zeros((blocks * block_size, 2 * HIDDEN), np.float32)

    def forward(self, qkv, meta):
        rows = qkv.detach().numpy()
        out = np.zeros((len(rows), HIDDEN), np.float32)
        for row, (slot, position) in enumerate(meta.places):
            table = meta.block_tables[slot]
            at = [
                table[p // self.block_size] * self.block_size + p % self.block_size
                for p in range(position + 1)
            ]
            self.cache[at[-1]] = rows[row, HIDDEN:]
            keys, values = np.split(self.cache[at], 2, axis=1)
            weights = np.exp(keys @ rows[row, :HIDDEN] / 4)
            out[row] = (weights / weights.sum()) @ values
        return paddle.to_tensor(out)


class SelfAttention(nn.Layer):
    def __init__(self, block_size, blocks):
        super().__init__()
        self.qkv_proj = nn.Linear(HIDDEN, 3 * HIDDEN)
        self.attn = Attention(block_size, blocks)
        self.o_proj = nn.Linear(HIDDEN, HIDDEN)

    def forward(self, x, meta):
        return self.o_proj(self.attn(self.qkv_proj(x), meta))


class Mlp(nn.Layer):
    def __init__(self):
        super().__init__()
        self.up_gate_proj = nn.Linear(HIDDEN, 2 * HIDDEN)
        self.act_fn = nn.GELU()
        self.down_proj = nn.Linear(2 * HIDDEN, HIDDEN)

    def forward(self, x):
        return self.down_proj(self.act_fn(self.up_gate_proj(x)))


class DecoderLayer(nn.Layer):
    def __init__(self, block_size, blocks):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = Norm(), Norm()
        self.self_attn, self.mlp = SelfAttention(block_size, blocks), Mlp()

    def forward(self, meta, x, residual):
        x, residual = self.input_layernorm(x, residual)
        x = self.self_attn(x, meta)
        x, residual = self.post_attention_layernorm(x, residual)
        return self.mlp(x), residual


class Decoder(nn.Layer):
    def __init__(self, block_size, blocks):
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCABULARY, HIDDEN)
        self.layers = nn.LayerList([DecoderLayer(block_size, blocks) for _ in range(LAYERS)])
        self.norm = Norm()

    def forward(self, tokens, meta):
        x, residual = self.embed_tokens(tokens), None
        for layer in self.layers:
            x, residual = layer(meta, x, residual)
        return self.norm(x, residual)[0]


class CausalLM(nn.Layer):
    def __init__(self, block_size, blocks):
        super().__init__()
        paddle.seed(5)
        self.qwen2 = Decoder(block_size, blocks)
        self.lm_head = nn.Linear(HIDDEN, VOCABULARY)

    def compute_logits(self, hidden, meta=None):
        return self.lm_head(hidden) * 4

    def forward(self, inputs, meta):
        return self.qwen2(inputs["ids_remove_padding"], meta)


class Sampler(nn.Layer):
    """Draws by the slot's seed."""

    def forward(self, logits, metadata, p_done_idxs):
        rows = logits.numpy().astype(np.float64)
        drawn = []
        for row, seed, heat in zip(
            rows, metadata.seed.numpy()[:, 0], metadata.temperature.numpy(), strict=False
        ):
            noise = np.random.default_rng(int(seed)).gumbel(size=row.shape) * heat
            drawn.append(int(np.argmax(row + noise)))
        tokens = paddle.to_tensor(np.array(drawn, np.int64).reshape(-1, 1))
        return SimpleNamespace(sampled_token_ids=tokens, logits=logits)
