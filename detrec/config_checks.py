"""What no single key of serve.yaml can tell: settings that contradict each other."""

from detrec.config_settings import ServeConfig
from detrec.errors import ConfigError


def check_together(config: ServeConfig, where: str) -> None:
    """Raise ConfigError for settings that cannot hold together."""
    engine = config.engine
    if not config.requests:
        raise ConfigError(f"{where}: requests: none given", hint="add a list of requests, or a .jsonl file")
    if engine.name != "builtin":
        _check_foreign(config, where)
        return
    if engine.reduction == "tp_invariant" and not engine.deterministic:
        raise ConfigError(
            f"{where}: engine.reduction: tp_invariant needs deterministic: true, got false",
            hint="leave out engine.reduction",
        )
    if (
        engine.deterministic
        and engine.enable_chunked_prefill
        and engine.max_num_batched_tokens < engine.split_kv_size
    ):
        raise ConfigError(
            f"{where}: engine.max_num_batched_tokens: {engine.max_num_batched_tokens} is under one split of "
            f"{engine.split_kv_size} tokens, so no prompt could ever start",
            hint="raise max_num_batched_tokens, or lower split_kv_size",
        )
    if engine.device == "cpu" and engine.dtype == "float16":
        raise ConfigError(
            f"{where}: engine.dtype: the CPU has float32 and bfloat16, got float16",
            hint="set it to float32, or engine.device to gpu",
        )
    if engine.device == "gpu" and not engine.deterministic and engine.framework != "torch":
        raise ConfigError(
            f"{where}: engine.deterministic: false uses torch's own kernels on a GPU, "
            f"got engine.framework: {engine.framework}",
            hint="set engine.framework: torch",
        )


def _check_foreign(config: ServeConfig, where: str) -> None:
    if config.engine.name != "fastdeploy":
        return
    for request in config.requests:
        if request.arrival:
            raise ConfigError(
                f"{where}: request {request.id}: arrival: {config.engine.name} counts no steps before it is "
                f"asked, got {request.arrival}",
                hint="leave arrival out: all requests are given at once",
            )
