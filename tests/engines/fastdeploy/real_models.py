"""FastDeploy's own model classes, built on the CPU without weights: to see how their modules are called."""

import importlib
from types import SimpleNamespace

from paddle.distributed import fleet
from paddle.distributed.fleet.base import topology

from tests.engines.fastdeploy import real

_MORE = {
    "num_hidden_layers": 2,
    "intermediate_size": 32,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "model_format": "torch",
    "is_quantized": False,
    "lm_head_fp32": False,
    "hidden_dropout_prob": 0.0,
    "initializer_range": 0.02,
    "max_position_embeddings": real.LENGTH,
    "attention_bias": False,
    "moe_layer_start_index": 0,
}


def causal_lm(name, patch):
    """The model of `fastdeploy.model_executor.models.NAME`, for one rank; inside `source_tree`."""
    real.prepare(patch)
    config = real.configuration(max_num_seqs=3, num_gpu_blocks_override=16, max_num_batched_tokens=40)
    vars(config.model_config).update(_MORE, pretrained_config=SimpleNamespace(prefix_name=""))
    config.parallel_config.tp_group = None
    _one_rank(patch)
    module = importlib.import_module(f"fastdeploy.model_executor.models.{name}")
    (made,) = (value for key, value in vars(module).items() if key.lower() == f"{name}forcausallm")
    return made(config)


def _one_rank(patch):
    """Paddle's parallel layers ask for a group, also where it has one member."""
    group = SimpleNamespace(rank=0, nranks=1, world_size=1)
    alone = SimpleNamespace(
        get_model_parallel_group=lambda: group,
        get_model_parallel_rank=lambda: 0,
        get_model_parallel_world_size=lambda: 1,
    )
    flags = ("mp_async_allreduce", "mp_skip_c_identity", "mp_fused_linear_param_grad_add")
    strategy = SimpleNamespace(hybrid_configs={"mp_configs": SimpleNamespace(**dict.fromkeys(flags, False))})
    patch.setattr(fleet, "get_hybrid_communicate_group", lambda: alone)
    patch.setattr(topology, "_HYBRID_PARALLEL_GROUP", alone)
    patch.setattr(fleet.fleet, "_user_defined_strategy", strategy, raising=False)
