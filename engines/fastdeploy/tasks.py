"""What FastDeploy's scheduler tells a worker, as plain data: to keep it, and to give it again.

FastDeploy's own classes moved between versions, so a task is read by the attributes that its model runner
reads, and made again by the classes that are installed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from detrec.engines.base import Request
from detrec.errors import EngineError, ReplayError

KINDS = {"prefill", "decode", "preempted", "abort", "extend"}


@dataclass(frozen=True, slots=True)
class Task:
    """One task. `kind` is FastDeploy's RequestType by its name.

    A prefill computes tokens [start, stop) of `known`: the prompt, and `outputs`, which were generated before
    the request was preempted. `blocks` is the request's whole block table.
    """

    kind: str
    request: str
    slot: int
    blocks: tuple[int, ...] = ()
    start: int = 0
    stop: int = 0
    known: int = 0
    outputs: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is empty is left out."""
        return {key: value for key, value in asdict(self).items() if value not in (0, ()) or key == "slot"}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Task":
        """The task that `to_json` gave."""
        lists = {name: tuple(data.get(name, ())) for name in ("blocks", "outputs")}
        return Task(**{**data, **lists})


@dataclass(frozen=True, slots=True)
class Batch:
    """The tasks inserted before one step, and `running`: how many slots FastDeploy said are in use."""

    tasks: tuple[Task, ...]
    running: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"tasks": [task.to_json() for task in self.tasks], "running": self.running}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Batch":
        """The batch that `to_json` gave."""
        return Batch(tuple(map(Task.from_json, data["tasks"])), data["running"])


def task_of(given: Any) -> Task:
    """A task of FastDeploy's. Raises EngineError for a kind that detrec does not know."""
    kind = str(given.task_type.name).lower()
    if kind not in KINDS:
        raise EngineError(
            f"FastDeploy gave request {given.request_id} a task of the type {given.task_type.name}, "
            f"detrec knows {', '.join(sorted(KINDS))}",
            hint="report the version of FastDeploy that you use",
        )
    blocks = tuple(int(block) for block in getattr(given, "block_tables", None) or ())
    if kind != "prefill":
        return Task(kind, str(given.request_id), int(given.idx), blocks)
    outputs = tuple(int(token) for token in given.output_token_ids)
    return Task(
        kind,
        str(given.request_id),
        int(given.idx),
        blocks,
        start=int(given.prefill_start_index),
        stop=int(given.prefill_end_index),
        known=len(given.prompt_token_ids) + len(outputs),
        outputs=outputs,
    )


def prepared_of(given: Any) -> dict[str, Any]:
    """What of a request of FastDeploy's moves bits beside its tokens: sampling parameters and end tokens."""
    values: dict[str, Any] = {"eos_token_ids": list(given.eos_token_ids or ())}
    for name, value in vars(given.sampling_params).items():
        if isinstance(value, bool | int | float | str) or (value and _is_numbers(value)):
            values[name] = value
    return values


def _is_numbers(value: Any) -> bool:
    """A list of numbers, or of lists of them, as stop sequences are."""
    return isinstance(value, list) and all(isinstance(item, int) or _is_numbers(item) for item in value)


@dataclass(frozen=True, slots=True)
class Kit:
    """FastDeploy's own classes that a task is made of."""

    request: Any
    task_types: Any
    decode: Any
    preempt: Any
    abort: Any


def installed_kit() -> Kit:
    """The classes of the FastDeploy that is installed."""
    from fastdeploy.engine.request import Request as Foreign
    from fastdeploy.engine.request import RequestType
    from fastdeploy.engine.sched import resource_manager_v1 as scheduler

    return Kit(
        Foreign,
        RequestType,
        scheduler.ScheduledDecodeTask,
        scheduler.ScheduledPreemptTask,
        scheduler.ScheduledAbortTask,
    )


class Maker:
    """Makes recorded tasks of `requests` again.

    `prepared` gives, by request id, what `prepared_of` gave: what else FastDeploy asks of a request.
    """

    def __init__(
        self, kit: Kit, requests: Iterable[Request], prepared: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self._kit, self._prepared = kit, prepared
        self._requests = {request.id: request for request in requests}

    def make(self, task: Task) -> Any:
        """The task as FastDeploy's own object. Raises ReplayError for one that cannot be made again."""
        kit = self._kit
        if task.kind == "decode":
            return kit.decode(idx=task.slot, request_id=task.request, block_tables=list(task.blocks))
        if task.kind == "preempted":
            return kit.preempt(idx=task.slot, request_id=task.request)
        if task.kind == "abort":
            return kit.abort(idx=task.slot, request_id=task.request)
        if task.kind != "prefill" or task.request not in self._requests.keys() & self._prepared.keys():
            raise ReplayError(f"a task of the type {task.kind} for request {task.request} cannot be replayed")
        prompt = list(self._requests[task.request].prompt)
        made = kit.request.from_dict(
            {
                "request_id": task.request,
                "prompt_token_ids": prompt,
                "prompt_token_ids_len": len(prompt),
                **self._prepared[task.request],
            }
        )
        made.idx, made.task_type = task.slot, kit.task_types.PREFILL
        made.prefill_start_index, made.prefill_end_index = task.start, task.stop
        made.block_tables = list(task.blocks)
        made.output_token_ids = list(task.outputs)
        return made
