"""detrec's batch-invariant kernels in the place of transformers' and torch's own.

With them a row's bits do not depend on what else is in its batch, and in float32 they are the built-in
engine's. Embedding, residual additions and argmax stay torch's: each row of those is exact, or a copy.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from detrec.engines.base import Step
from detrec.engines.builtin.model_config import ModelConfig
from detrec.engines.transformers import library
from detrec.engines.transformers.names import ROPE
from detrec.errors import ConfigError, EngineError
from detrec.kernels.device import Device

_NORMS = ("input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm")
_LINEARS = (
    tuple(f"self_attn.{name}_proj" for name in "qkv"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
"""Those that stand together are given one input, in this order."""
_WITH_CACHE = "paged|sdpa"
_HEADS = range(16, 257, 8)
"""Sizes of a head that attention takes."""

Forward = Callable[..., Any]


class Spans:
    """Where a step's requests lie among its rows and among the keys that its rows see.

    `row_seq` int32 [R] is each row's request, by its number in the step, and `positions` int64 [R] its place
    in that; request s has `lengths[s]` keys, from number `firsts[s]` of all `keys` on.
    """

    def __init__(self, step: Step) -> None:
        counts = [part.stop - part.start for part in step.slices]
        self.rows = step.rows
        self.row_seq = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        self.positions = np.concatenate([np.arange(part.start, part.stop) for part in step.slices])
        self.lengths = np.array([part.stop for part in step.slices], np.int64)
        self.firsts = np.cumsum(self.lengths) - self.lengths
        self.keys = int(self.lengths.sum())


class Kernels(Protocol):
    """The kernels of one kind of device, on torch tensors that lie there.

    Each gives new tensors, of the dtype of what it is given.
    """

    names: Mapping[str, str]
    """What computes "attn", "act" and "rope", which are no module's output."""

    def begin(self, spans: Spans, device: Device | None) -> None:
        """A step begins, on `device` where that is a GPU."""
        ...

    def linears(self, modules: Sequence[Any]) -> list[Forward]:
        """The forwards of linear layers that are given one input in turn."""
        ...

    def norm(self, module: Any, eps: float) -> Forward:
        """The forward of an RMS norm."""
        ...

    def gate(self, gate: Any, up: Any) -> Any:
        """silu(gate) * up."""
        ...

    def angles(self, positions: Any) -> tuple[Any, Any]:
        """cos and sin of `positions` [1, R], each float32 [1, R, D / 2]."""
        ...

    def rotate(self, q: Any, k: Any, cos: Any, sin: Any) -> tuple[Any, Any]:
        """RoPE of q [1, heads, R, D] and k [1, kv_heads, R, D]; `cos` and `sin` are `angles` of the rows."""
        ...

    def attend(self, query: Any, key: Any, value: Any, scale: float) -> Any:
        """Attention of query [1, heads, R, D] to key and value [1, kv_heads, keys, D]; [1, R, heads, D]."""
        ...


class Invariant:
    """`kernels` in the place of those of `model`, which is of `config`."""

    def __init__(self, model: Any, config: ModelConfig, kernels: Kernels) -> None:
        if config.head_dim not in _HEADS:
            raise ConfigError(
                f"engine.invariant_kernels: {config.head_dim} elements a head, expected a multiple of 8 from "
                "16 to 256",
                hint="leave out invariant_kernels",
            )
        self.kernels = kernels
        self._model = model
        self._spans: Spans | None = None
        self._home = library.module(type(model).__module__)
        library.part(self._home, ROPE)
        self._attention = library.part(
            library.module("transformers.modeling_utils"), "ALL_ATTENTION_FUNCTIONS"
        )
        self._forwards = dict(self._made(model, config))

    def begin(self, step: Step, device: Device | None) -> None:
        """`step` runs next, on `device` where that is a GPU."""
        self._spans = Spans(step)
        self.kernels.begin(self._spans, device)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the model runs on these kernels; nothing of them is left after."""
        rope, mine = getattr(self._home, ROPE), {layer.self_attn for layer in self._model.model.layers}
        # continuous batching may have changed it for its own
        name = self._model.config._attn_implementation
        if name not in ("sdpa", _WITH_CACHE):
            raise EngineError(f"engine.invariant_kernels: transformers runs its attention as {name}")
        theirs, ours = self._attention[name], self._attend if name == "sdpa" else self._attend_cache

        def attention(module: Any, *args: Any, **kwargs: Any) -> Any:
            # the table of attentions is one for all models of the process
            return (ours if module in mine else theirs)(module, *args, **kwargs)

        undo = [library.stand_in(module, forward) for module, forward in self._forwards.items()]
        self._attention[name] = attention
        setattr(self._home, ROPE, self._rotate)
        try:
            yield
        finally:
            setattr(self._home, ROPE, rope)
            del self._attention[name]
            for each in undo:
                each()

    def _made(self, model: Any, config: ModelConfig) -> Iterator[tuple[Any, Forward]]:
        norms, linears = [model.model.norm], [[model.lm_head]]
        for layer in model.model.layers:
            norms += [layer.get_submodule(name) for name in _NORMS[: 4 if config.qk_norm else 2]]
            linears += [[layer.get_submodule(name) for name in names] for names in _LINEARS]
            yield layer.mlp, self._mlp(layer.mlp)
        for norm in norms:
            yield norm, self.kernels.norm(norm, config.rms_norm_eps)
        for together in linears:
            yield from zip(together, self.kernels.linears(together), strict=True)
        yield model.model.rotary_emb, lambda x, position_ids: self.kernels.angles(position_ids)

    def _mlp(self, module: Any) -> Forward:
        def forward(x: Any) -> Any:
            return module.down_proj(self.kernels.gate(module.gate_proj(x), module.up_proj(x)))

        return forward

    def _rotate(self, q: Any, k: Any, cos: Any, sin: Any, unsqueeze_dim: int = 1) -> tuple[Any, Any]:
        return self.kernels.rotate(q, k, cos, sin)

    def _attend_cache(
        self, module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **kwargs: Any
    ) -> tuple[Any, None]:
        """As 5.17 has it: attention itself updates the cache, which gives [keys, kv_heads, D]."""
        about = {name: kwargs[name] for name in ("read_index", "write_index")}
        kept = kwargs["cache"].update(key_states=key, value_states=value, layer_idx=module.layer_idx, **about)
        key, value = (x.transpose(0, 1).unsqueeze(0) for x in kept)
        return self._attend(module, query, key, value, mask, scaling, **kwargs)

    def _attend(
        self, module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **kwargs: Any
    ) -> tuple[Any, None]:
        assert self._spans is not None, "attention outside a step"
        found, expected = (query.shape[2], key.shape[2]), (self._spans.rows, self._spans.keys)
        if found != expected:
            raise EngineError(
                f"attention was given {found[0]} rows and {found[1]} keys, expected {expected[0]} and "
                f"{expected[1]}",
                hint=f"detrec's adapter was tried with transformers {library.TRIED}",
            )
        return self.kernels.attend(query, key, value, scaling), None


def named(kernel: str, forward: Forward) -> Forward:
    """Give a module's forward the name of the kernel it runs."""
    forward.kernel = kernel  # type: ignore[attr-defined]
    return forward
