"""The arguments of the engine."""

from dataclasses import dataclass, field
from types import SimpleNamespace


@dataclass
class EngineArgs:
    model: str = ""
    max_model_len: int = 64
    tensor_parallel_size: int = 1
    block_size: int = 4
    max_num_seqs: int = 4
    max_num_batched_tokens: int = 16
    num_gpu_blocks_override: int = 64
    enable_prefix_caching: bool = False
    enable_overlap_schedule: bool = True
    graph_optimization_config: dict = field(default_factory=lambda: {"use_cudagraph": True})
    speculative_config: dict | None = None

    def create_engine_config(self):
        method = (self.speculative_config or {}).get("method")
        return SimpleNamespace(
            model_config=SimpleNamespace(
                model=self.model,
                architectures=["Qwen2ForCausalLM"],
                max_model_len=self.max_model_len,
                hidden_size=16,
                dtype="float32",
                runner_type="generate",
            ),
            parallel_config=SimpleNamespace(
                tensor_parallel_size=self.tensor_parallel_size, data_parallel_size=1, use_ep=False
            ),
            cache_config=SimpleNamespace(
                block_size=self.block_size,
                total_block_num=self.num_gpu_blocks_override,
                enable_prefix_caching=self.enable_prefix_caching,
            ),
            scheduler_config=SimpleNamespace(
                max_num_seqs=self.max_num_seqs,
                max_num_batched_tokens=self.max_num_batched_tokens,
                enable_overlap_schedule=self.enable_overlap_schedule,
                splitwise_role="mixed",
            ),
            graph_opt_config=SimpleNamespace(use_cudagraph=self.graph_optimization_config["use_cudagraph"]),
            speculative_config=SimpleNamespace(method=method),
            quant_config=None,
            enable_mm_runtime=False,
        )
