"""A tiny engine in this process; probe, plan and requests are those of the contract of adapters."""

from typing import Any

from detrec.config import serve_config
from detrec.engines.base import Step
from detrec.engines.builtin.engine import BuiltinEngine
from detrec.engines.contract.told import Plan, Told, prompt, request
from detrec.engines.start import start_engine

__all__ = ["Plan", "Told", "prompt", "request", "started", "tokens", "told"]


def started(
    requests: list[dict[str, Any]],
    *,
    model: str = "qwen2-tiny",
    start: dict[str, Any] | None = None,
    **engine: Any,
) -> BuiltinEngine:
    """An engine over `requests`; `start` goes to start_engine, the rest is engine settings."""
    settings = {"max_model_len": 128, **engine}
    config = serve_config({"model": f"builtin:{model}", "engine": settings, "requests": requests})
    built = start_engine(config, **(start or {}))
    assert isinstance(built, BuiltinEngine)
    return built


def told(engine: BuiltinEngine, plan: list[Step] | None = None, names: set[str] | None = None) -> Told:
    """Run `engine` to its end, by `plan` or by its own scheduler, watching all ops or those in `names`."""
    probe = Told()
    scheduler = engine.own_scheduler() if plan is None else engine.follow(Plan(plan))
    for _ in engine.run(scheduler, probe, set(engine.op_names) if names is None else names):
        pass
    return probe


def tokens(engine: BuiltinEngine) -> dict[str, list[int]]:
    """What every request went on with when the engine was run to its end."""
    for _ in engine.run(engine.own_scheduler()):
        pass
    return {name: state.output for name, state in engine.states.items()}
