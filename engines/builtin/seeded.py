"""Models made from a seed, so that nothing need be downloaded: real shapes, and the same bits everywhere.

Weight i of a tensor is drawn by a generator keyed by the tensor's name (`kernels/cpu/seeded.py`): neither
numpy's version nor the machine enters.
"""

import difflib
import hashlib
import math

import numpy as np

from detrec.engines.builtin.model_config import ModelConfig
from detrec.engines.builtin.tokenizer import BOS, EOS, ByteTokenizer
from detrec.errors import ModelError
from detrec.kernels.cpu.seeded import fill_uniform

# to be raised when any weight of any builtin model changes: it enters their digests
SEEDED_VERSION = 1


def _model(
    architecture: str,
    vocab: int,
    hidden: int,
    mlp: int,
    layers: int,
    heads: tuple[int, int],
    *,
    theta: float = 10000.0,
    context: int = 4096,
    tied: bool = True,
    head_dim: int | None = None,
) -> ModelConfig:
    return ModelConfig(
        architecture=architecture,
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_layers=layers,
        num_heads=heads[0],
        num_kv_heads=heads[1],
        head_dim=head_dim or hidden // heads[0],
        rms_norm_eps=1e-5 if architecture == "llama" else 1e-6,
        rope_theta=theta,
        rope_scaling=None,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
        qkv_bias=architecture == "qwen2",
        qk_norm=architecture == "qwen3",
        eos_token_ids=(EOS,),
        bos_token_id=BOS,
    )


_MODELS = {
    "qwen2-tiny": _model("qwen2", 512, 128, 256, 4, (4, 2)),
    "qwen3-tiny": _model("qwen3", 512, 128, 256, 4, (4, 2), tied=False, head_dim=64),
    "llama-tiny": _model("llama", 512, 128, 256, 4, (4, 2)),
    "smollm2-135m": _model("llama", 49152, 576, 1536, 30, (9, 3), theta=1e5, context=8192),
    "qwen2-0.5b": _model("qwen2", 151936, 896, 4864, 24, (14, 2), theta=1e6, context=32768),
    "qwen2-7b": _model("qwen2", 152064, 3584, 18944, 28, (28, 4), theta=1e6, context=32768, tied=False),
}
NAMES = tuple(_MODELS)


class SeededCheckpoint:
    """One of NAMES, every tensor generated when it is asked for. ModelError for another name."""

    def __init__(self, name: str) -> None:
        if name not in _MODELS:
            near = difflib.get_close_matches(name, NAMES, n=1)
            hint = f"did you mean builtin:{near[0]}?" if near else f"known names: {', '.join(NAMES)}"
            raise ModelError(f"builtin:{name}: no such built-in model", hint=hint)
        self.name = name
        self.config = _MODELS[name]
        self._shapes = self.config.shapes()

    def tensor(self, name: str, dtype: str = "float32") -> np.ndarray:
        """A tensor as "float32", or as "bfloat16" bits in uint16."""
        if name not in self._shapes:
            raise ValueError(f"builtin:{self.name}: no tensor {name!r}")
        shape = self._shapes[name]
        centre, bound = _draw_of(name, shape[-1])
        if dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype: expected float32 or bfloat16, got {dtype!r}")
        key = hashlib.blake2b(f"{self.name}/{name}".encode(), digest_size=8).digest()
        out = np.empty(math.prod(shape), np.uint16 if dtype == "bfloat16" else np.float32)
        return fill_uniform(int.from_bytes(key, "little"), bound, centre, out).reshape(shape)

    def stored(self, name: str) -> None:
        """Nothing is stored."""

    def stores_plainly(self, name: str) -> bool:
        """Nothing is stored."""
        return False

    def digest(self) -> str:
        """128 bits, in hex, of the model's name, sizes and version: they fix its weights."""
        text = f"builtin:{self.name} version {SEEDED_VERSION} {self.config}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def tokenizer(self) -> ByteTokenizer:
        """Text as its UTF-8 bytes."""
        return ByteTokenizer(self.config.vocab_size)


# by how the name ends: (centre, gain, whether the root of the fan-in divides it). Gains of 1 keep the scale
# of a layer's input, but then greedy texts fall into one token: attention must be sharp enough to look
# somewhere, and what a layer adds large enough to matter.
_DRAWS = {
    "q_norm.weight": (2.5, 0.25, False),
    "k_norm.weight": (2.5, 0.25, False),
    "norm.weight": (1.0, 0.25, False),
    ".bias": (0.0, 0.5, False),
    "q_proj.weight": (0.0, 2.5, True),
    "k_proj.weight": (0.0, 2.5, True),
    "o_proj.weight": (0.0, 2.0, True),
    "down_proj.weight": (0.0, 4.0, True),
    "embed_tokens.weight": (0.0, 3.0, True),
    "lm_head.weight": (0.0, 3.0, True),
    "": (0.0, 1.0, True),
}


def _draw_of(name: str, fan_in: int) -> tuple[float, float]:
    """A tensor's weights are uniform in centre +- bound, whose standard deviation is bound / sqrt(3)."""
    centre, gain, linear = next(draw for end, draw in _DRAWS.items() if name.endswith(end))
    return centre, gain * math.sqrt(3 / fan_in) if linear else gain
