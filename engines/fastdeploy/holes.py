"""Where FastDeploy's deterministic mode does not reach: what of a configuration leaves bits to chance.

Pure. Read in FastDeploy's source (develop of 15 April 2026); none of it was measured on a GPU by detrec.
"""

from dataclasses import dataclass

_MIB = 1 << 20
# the size from which FastDeploy's all-reduce takes its second algorithm, by the ranks that it is for
_TWO_STAGE = ((4, 512 << 10), (8, 256 << 10))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What of FastDeploy's configuration and environment decides how far its deterministic mode reaches.

    `activation_bytes` is hidden size times the bytes of an element, 0 where it is not known;
    `max_num_batched_tokens` too. `kv_cache` names the type of a quantised KV cache.
    """

    deterministic: bool
    split_kv_size: int = 16
    tensor_parallel_size: int = 1
    use_cudagraph: bool = True
    qkv_bias: bool = False
    kv_cache: str = ""
    enable_prefix_caching: bool = True
    max_num_batched_tokens: int = 0
    activation_bytes: int = 0
    all_reduce_mib: int = 8
    attention_backend: str = "APPEND_ATTN"
    sampling_class: str = "base"


@dataclass(frozen=True, slots=True)
class Hole:
    """`name` of the hole, `what` it does, and a `remedy`."""

    name: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}; {self.remedy}"


def holes(setup: Setup) -> tuple[Hole, ...]:
    """Every hole of `setup`, the gravest first."""
    if not setup.deterministic:
        return (
            Hole(
                "mode-off",
                "FD_DETERMINISTIC_MODE is off, so a row's bits depend on its batch and seeds are drawn",
                "set engine.deterministic: true",
            ),
        )
    found = (*_decoding(setup), *_scheduling(setup), *_reducing(setup), *_kernels(setup))
    return tuple(hole for hole in found if hole is not None)


def _decoding(setup: Setup) -> tuple[Hole | None, ...]:
    graphs = Hole(
        "cuda-graphs",
        "deterministic mode with CUDA graphs replays buffers that were reset after the capture, and graphs "
        "hide the layers from detrec",
        'graph_optimization_config: {"use_cudagraph": false}',
    )
    bias = Hole(
        "qkv-bias",
        "projections with a bias (Qwen2's QKV) do not go through the batch-invariant GEMM",
        "a model without biases is not concerned",
    )
    return (graphs if setup.use_cudagraph else None, bias if setup.qkv_bias else None)


def _scheduling(setup: Setup) -> tuple[Hole | None, ...]:
    budget = setup.max_num_batched_tokens
    starved = Hole(
        "starvation",
        f"max_num_batched_tokens {budget} is under one split of {setup.split_kv_size} tokens: a longer "
        "prompt never starts, and nothing says so",
        f"raise max_num_batched_tokens to {setup.split_kv_size} or more",
    )
    cache = Hole(
        "prefix-caching",
        "a prefix-cache hit and a miss do not have the same bits",
        "enable_prefix_caching: false",
    )
    return (
        starved if 0 < budget < setup.split_kv_size else None,
        cache if setup.enable_prefix_caching else None,
    )


def _reducing(setup: Setup) -> tuple[Hole | None, ...]:
    ranks, most = setup.tensor_parallel_size, setup.max_num_batched_tokens * setup.activation_bytes
    if ranks == 1 or not most:
        return ()
    needed = -(-most // _MIB)
    small = Hole(
        "all-reduce-buffer",
        f"the largest batch reduces {needed} MiB, the buffer holds {setup.all_reduce_mib}: a RuntimeError at "
        "the first large prefill",
        f"export FD_CUSTOM_AR_MAX_SIZE_MB={needed}",
    )
    limit = next((size for most_ranks, size in _TWO_STAGE if ranks <= most_ranks), 0)
    order = Hole(
        "all-reduce-order",
        f"over {ranks} ranks, batches of {limit >> 10} KiB and more are added in another order, which "
        "depends on the row's place in the batch",
        "tensor_parallel_size: 2 has one order only",
    )
    return (
        small if needed > setup.all_reduce_mib else None,
        order if ranks > 2 and most >= limit else None,
    )


def _kernels(setup: Setup) -> tuple[Hole | None, ...]:
    cache = Hole(
        "kv-cache",
        f"the attention kernels of a {setup.kv_cache} KV cache still split it by its length",
        "use a KV cache of 16 bits",
    )
    backend = Hole(
        "attention-backend",
        f"FD_ATTENTION_BACKEND={setup.attention_backend} does not know of deterministic mode",
        "FD_ATTENTION_BACKEND=APPEND_ATTN",
    )
    sampling = Hole(
        "sampling-class",
        "FD_SAMPLING_CLASS=rejection does not use the requests' seeds",
        "FD_SAMPLING_CLASS=base",
    )
    return (
        cache if setup.kv_cache else None,
        backend if setup.attention_backend != "APPEND_ATTN" else None,
        sampling if setup.sampling_class == "rejection" else None,
    )
