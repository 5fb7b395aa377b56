"""How a model is cut over ranks: whole heads, columns of the MLP, rows of the vocabulary.

Column-parallel: qkv and gate_up, each rank computes its own columns. Row-parallel: o_proj and down_proj, each
rank has the part of K that its own columns meet, and the ranks' partial sums are added. KV heads are cut too,
or held by several ranks where there are more ranks than KV heads. Norms are held by all.
"""

from dataclasses import dataclass, replace

import numpy as np

from detrec.config import EngineConfig
from detrec.engines.builtin.model_config import ModelConfig
from detrec.errors import ConfigError
from detrec.kernels.leaves import LEAVES
from detrec.kernels.rendezvous import MAX_RANKS


def check_cut(engine: EngineConfig, model: ModelConfig) -> None:
    """Raise ConfigError where the model cannot be cut into as many ranks, with what does not divide."""
    size = engine.tensor_parallel_size
    problem = _indivisible(model, size, engine.reduction)
    if problem:
        good = [n for n in range(1, MAX_RANKS + 1) if not _indivisible(model, n, engine.reduction)]
        if engine.reduction == "tp_invariant" and not good:
            raise ConfigError(
                f"engine.reduction: tp_invariant: {problem}", hint="set engine.reduction: ranks"
            )
        raise ConfigError(
            f"engine.tensor_parallel_size: {size} ranks cannot share this model: {problem}",
            hint=f"sizes that would do: {', '.join(map(str, good))}",
        )


def _indivisible(model: ModelConfig, size: int, reduction: str) -> str:
    """What does not divide; empty where all does."""
    heads, kv_heads, mlp = model.num_heads, model.num_kv_heads, model.intermediate_size
    if heads % size:
        return f"{heads} attention heads do not divide by {size}"
    if kv_heads % size and size % kv_heads:
        return f"{kv_heads} KV heads and {size} do not divide by each other"
    if mlp % size:
        return f"an MLP of {mlp} columns does not divide by {size}"
    if reduction == "tp_invariant":
        if LEAVES % size:
            return f"reduction: tp_invariant adds {LEAVES} sums, which {size} do not share"
        for what, depth in (("heads", heads * model.head_dim), ("MLP", mlp)):
            if depth % LEAVES:
                return f"{depth} columns of the {what} do not make {LEAVES} equal sums"
    return ""


@dataclass(frozen=True, slots=True)
class Cut:
    """What rank `rank` of `size` holds of `model`, which `check_cut` has let through."""

    model: ModelConfig
    rank: int = 0
    size: int = 1

    @property
    def vocab_part(self) -> int:
        """Rows of the embedding that each rank holds; the last rank's may go past the vocabulary."""
        return -(-self.model.vocab_size // self.size)

    def local(self) -> ModelConfig:
        """The model as this rank computes it: its heads and MLP columns, rows as wide as ever."""
        model = self.model
        return replace(
            model,
            num_heads=model.num_heads // self.size,
            num_kv_heads=max(model.num_kv_heads // self.size, 1),
            intermediate_size=model.intermediate_size // self.size,
        )

    def part(self, name: str, tensor: np.ndarray) -> np.ndarray:
        """This rank's part of the checkpoint's tensor `name`: a view, but for the vocabulary's."""
        if self.size == 1:
            return tensor
        _, _, kind = name.removesuffix(".weight").removesuffix(".bias").rpartition(".")
        if kind in ("embed_tokens", "lm_head"):
            return self._vocabulary(tensor)
        if kind in ("k_proj", "v_proj"):
            width = self.local().num_kv_heads * self.model.head_dim
            # neighbouring ranks hold the same head where there are more of them than heads
            first = self.rank * self.model.num_kv_heads // self.size * self.model.head_dim
            return tensor[first : first + width]
        if kind in ("q_proj", "gate_proj", "up_proj"):
            return tensor[_span(len(tensor), self.rank, self.size)]
        if kind in ("o_proj", "down_proj"):
            return tensor[:, _span(tensor.shape[1], self.rank, self.size)]
        return tensor

    def whole(self, name: str, element: int) -> int:
        """Which element of the checkpoint's tensor `name` is `element` of this rank's part, row after row."""
        shape = self.model.shapes()[name]
        places = (
            np.broadcast_to(np.arange(n).reshape(-1, *[1] * (len(shape) - axis - 1)), shape)
            for axis, n in enumerate(shape)
        )
        return int(
            np.ravel_multi_index([int(self.part(name, place).flat[element]) for place in places], shape)
        )

    def _vocabulary(self, tensor: np.ndarray) -> np.ndarray:
        part = np.zeros((self.vocab_part, tensor.shape[1]), tensor.dtype)
        rows = tensor[self.rank * self.vocab_part : (self.rank + 1) * self.vocab_part]
        part[: len(rows)] = rows
        return part


def _span(length: int, rank: int, size: int) -> slice:
    return slice(length * rank // size, length * (rank + 1) // size)
