"""From serve.yaml's requests to what the engine runs: token ids, seeds and parameters in effect."""

import os
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from detrec.config import DEFAULT_SEED, MAX_SEED, EngineConfig, RequestConfig, SamplingParams, ServeConfig
from detrec.engines.base import Request
from detrec.engines.builtin.blocks import longest, num_blocks
from detrec.engines.builtin.cut import check_cut
from detrec.engines.builtin.model_config import ModelConfig
from detrec.engines.builtin.shares import check_cut_words
from detrec.engines.builtin.weights import Checkpoint
from detrec.errors import ConfigError, ModelError
from detrec.printable import counted

_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


def resolve_requests(config: ServeConfig, checkpoint: Checkpoint) -> tuple[Request, ...]:
    """Every request tokenised and checked against the model and the engine.

    A seed that nobody gave becomes the engine's `seed`, else 42 in deterministic mode, else a random one,
    which the trace then keeps.
    """
    check_engine(config.engine, checkpoint.config)
    requests = tuple(_resolve(request, config.engine, checkpoint) for request in config.requests)
    check_requests(config.engine, checkpoint.config, requests)
    return requests


def _resolve(request: RequestConfig, engine: EngineConfig, checkpoint: Checkpoint) -> Request:
    seed = request.sampling.seed
    if seed is None:
        seed = engine.seed
    if seed is None:
        # FastDeploy's rule, so that its users find the seeds they know
        seed = DEFAULT_SEED if engine.deterministic else random.randint(0, MAX_SEED)
    return Request(
        id=request.id,
        prompt=tuple(_prompt(request, checkpoint)),
        sampling=replace(request.sampling, seed=seed),
        arrival=request.arrival,
    )


def _prompt(request: RequestConfig, checkpoint: Checkpoint) -> Sequence[int]:
    if request.prompt_token_ids is not None:
        return request.prompt_token_ids
    if request.messages is not None:
        try:
            return checkpoint.tokenizer().apply_chat(list(request.messages))
        except ConfigError as error:
            raise ConfigError(f"request {request.id}: {error}", hint=error.hint) from None
    return checkpoint.tokenizer().encode(request.prompt or "")


def check_requests(engine: EngineConfig, model: ModelConfig, requests: Sequence[Request]) -> None:
    """Refuse what could never run: ids out of the vocabulary, prompts past the context, too few KV blocks.

    Sampling parameters that the kernels could not honour are refused too.
    """
    for request in requests:
        where = f"request {request.id}"
        if not request.prompt:
            raise ConfigError(f"{where}: the prompt has no tokens")
        for place, token in enumerate(request.prompt):
            if not 0 <= token < model.vocab_size:
                raise ModelError(
                    f"{where}: prompt token {place} is {token}, "
                    f"the vocabulary has 0 to {model.vocab_size - 1}",
                    hint="was the prompt tokenised for another model?",
                )
        _check_sampling(where, request.sampling, model)
        if len(request.prompt) >= engine.max_model_len:
            raise ConfigError(
                f"{where}: the prompt has {counted(len(request.prompt), 'token')}, the context of "
                f"{engine.max_model_len} must hold it and one token more",
                hint="shorten the prompt, or raise engine.max_model_len",
            )
        need = longest(engine, request)
        if engine.num_gpu_blocks_override is not None and need > engine.num_gpu_blocks_override:
            raise ConfigError(
                f"{where}: needs {need} KV blocks of {engine.block_size} tokens at its longest, "
                f"engine.num_gpu_blocks_override gives {engine.num_gpu_blocks_override}",
                hint="raise num_gpu_blocks_override, or lower max_tokens",
            )
    if engine.device == "cpu":
        _check_memory(num_blocks(engine, requests), engine, model)


def _check_memory(blocks: int, engine: EngineConfig, model: ModelConfig) -> None:
    """Refuse a KV cache that this machine cannot hold, before the system ends whoever tries."""
    sides = 2 * model.num_layers * model.num_kv_heads * model.head_dim
    needed = blocks * engine.block_size * sides * (4 if engine.dtype == "float32" else 2)
    have = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > have:
        raise ConfigError(
            f"engine: {blocks} KV blocks of {engine.block_size} tokens take {needed / 2**30:.1f} GiB, "
            f"this machine has {have / 2**30:.1f} GiB of memory",
            hint="lower engine.num_gpu_blocks_override, or engine.max_num_seqs where that is left out",
        )


def _check_sampling(where: str, params: SamplingParams, model: ModelConfig) -> None:
    for name in ("temperature", "top_p", "min_p", "repetition_penalty"):
        value = getattr(params, name)
        if value and not _SMALLEST <= value <= _LARGEST:
            raise ConfigError(f"{where}: sampling.{name}: {value} is not a number that float32 can hold")
    if params.min_tokens > params.max_tokens:
        raise ConfigError(
            f"{where}: sampling.min_tokens: {params.min_tokens} is more than max_tokens: {params.max_tokens}",
            hint="raise max_tokens, or lower min_tokens",
        )
    if "" in params.stop:
        raise ConfigError(f"{where}: sampling.stop: an empty string would stop every text")
    for token in params.stop_token_ids:
        if not 0 <= token < model.vocab_size:
            raise ModelError(
                f"{where}: sampling.stop_token_ids: {token}, the vocabulary has 0 to {model.vocab_size - 1}",
                hint="are these tokens another model's?",
            )


def check_engine(engine: EngineConfig, model: ModelConfig) -> None:
    """Refuse an engine that the model cannot be run on."""
    check_cut(engine, model)
    check_cut_words(engine, model)
    if engine.max_model_len > model.max_position_embeddings:
        raise ConfigError(
            f"engine.max_model_len: {engine.max_model_len}, "
            f"the model was made for {model.max_position_embeddings}",
            hint=f"set it to {model.max_position_embeddings} or less",
        )
    if engine.device == "cpu" and not engine.deterministic and engine.dtype != "float32":
        raise ConfigError(
            f"engine.deterministic: false runs in float32 on the CPU, got engine.dtype: {engine.dtype}",
            hint="frameworks have no bfloat16 matmul for every CPU; set dtype: float32",
        )
