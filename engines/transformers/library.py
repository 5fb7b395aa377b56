"""The parts of transformers and torch that detrec uses, each found by name or refused by name.

Much of it is private to transformers and moves between versions; what is missing is said when the engine
starts, and not in the middle of a run.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from typing import Any

from detrec.errors import EngineError

TRIED = "5.17 and 5.24"
_PACKAGE = "transformers.generation.continuous_batching"
_ABSENT = object()


def module(name: str) -> Any:
    """A module of transformers or torch. EngineError where it is not installed or has moved."""
    owner = name.partition(".")[0]
    try:
        import_module(owner)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == owner
        problem = "which is not installed" if absent else f"which cannot be imported: {error}"
        raise EngineError(
            f"engine.name: transformers needs {owner}, {problem}",
            hint="pip install 'detrec[transformers]'",
        ) from None
    try:
        return import_module(name)
    except ImportError:
        raise moved(f"has no module {name}") from None


def part(owner: Any, name: str) -> Any:
    """Attribute `name` of `owner`, which may be None. EngineError where there is none."""
    found = getattr(owner, name, _ABSENT)
    if found is _ABSENT:
        raise moved(f"{getattr(owner, '__name__', type(owner).__name__)} has no {name}")
    return found


def batching(name: str) -> Any:
    """A module of continuous batching."""
    return module(f"{_PACKAGE}.{name}")


@contextmanager
def within_memory(what: str) -> Iterator[None]:
    """Inside, a GPU that has no room is an EngineError about `what`."""
    try:
        yield
    except (MemoryError, module("torch").OutOfMemoryError) as error:
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise EngineError(
            f"{what}: the device has not enough memory: {why}",
            hint="lower engine.num_blocks or engine.max_batch_tokens, or take a smaller model",
        ) from error


def moved(problem: str) -> EngineError:
    """The error for a part that is not where it was."""
    return EngineError(
        f"transformers {version('transformers')}: {problem}",
        hint=f"detrec's adapter was tried with transformers {TRIED}",
    )


def stand_in(module: Any, forward: Callable[..., Any]) -> Callable[[], None]:
    """Let `forward` run wherever this one module is called; gives what undoes it."""
    own = vars(module).get("forward")

    def undo() -> None:
        if own is None:
            del module.forward
        else:
            module.forward = own

    module.forward = forward
    return undo
