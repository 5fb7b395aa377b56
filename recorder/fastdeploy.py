"""The entry point that FastDeploy's workers load, and what a worker leaves behind: a header, then a trace.

DETREC_RECORD names the order, a JSON file that `detrec record` and `detrec replay` write; headers and traces
of the workers lie beside it. FastDeploy falls back to its own model runner without a word where a plugin
fails to load: the header is the proof that it did not.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detrec.config import SamplingParams
from detrec.engines.base import Request
from detrec.engines.fastdeploy.journal import Job
from detrec.engines.fastdeploy.plugin import recording
from detrec.engines.fastdeploy.rerun import Recorded
from detrec.engines.fastdeploy.tasks import Batch
from detrec.errors import EngineError, TraceError
from detrec.kernels.projections import PARTS
from detrec.recorder.levels import recorded_ops
from detrec.recorder.probe import TraceProbe
from detrec.recorder.reader import TraceReader
from detrec.recorder.writer import TraceWriter

if TYPE_CHECKING:
    from detrec.engines.fastdeploy.watch import WaitingProbe
    from detrec.kernels.device import Device

VARIABLE = "DETREC_RECORD"
_TASKS = "fastdeploy.json"


def model_runner() -> type:
    """FastDeploy's model runner class with detrec in it: the target of the entry point."""
    from fastdeploy.worker.gpu_model_runner import GPUModelRunner

    path = Path(os.environ[VARIABLE])
    return recording(GPUModelRunner, lambda rank: FileJournal(path, rank))


@dataclass(frozen=True, slots=True)
class Order:
    """What the workers are to do: `replay` is the trace to run again, `ops` None keeps the level's ops."""

    level: str
    ops: tuple[str, ...] | None = None
    replay: str = ""
    sketch: bool = False


@dataclass(frozen=True, slots=True)
class Header:
    """How a worker stands: active, recording, complete, failed or refused, and then why."""

    status: str
    reason: str = ""
    manifest: Mapping[str, Any] | None = None


def write_order(path: Path, order: Order) -> None:
    """Put `order` where the workers find it."""
    _write(path, asdict(order))


def write_requests(order: Path, requests: Sequence[Request]) -> None:
    """Tell the workers what they will be asked: recording begins with the first task after this."""
    _write(order.parent / "requests.json", [asdict(request) for request in requests])


def header_of(order: Path, rank: int) -> Header | None:
    """A worker's header, None while there is none."""
    data = _read(order.parent / f"rank{rank}.json")
    return None if data is None else Header(**data)


def trace_of(order: Path, rank: int) -> Path:
    """Where a worker's trace lies."""
    return order.parent / f"rank{rank}.zarr"


class FileJournal:
    """Keeps what one worker tells, beside its order."""

    def __init__(self, order: Path, rank: int) -> None:
        self._path, self._rank = order, rank
        self._order = Order(**_expected(order))
        self._manifest: dict[str, Any] = {}
        self._writer: TraceWriter | None = None
        self._probe: WaitingProbe | None = None
        self._requests: tuple[Request, ...] = ()

    def _tell(self, status: str, reason: str = "") -> None:
        header = {"status": status, "reason": reason, "manifest": self._manifest}
        _write(self._path.parent / f"rank{self._rank}.json", header)

    def active(self, manifest: Mapping[str, Any]) -> None:
        """Write the header."""
        self._manifest = dict(manifest)
        self._tell("active")

    def refuse(self, reason: str) -> None:
        """Say why in the header."""
        self._tell("refused", reason)

    def job(self) -> Job | None:
        """The requests, or the trace to run again."""
        if self._order.replay:
            trace = TraceReader(self._order.replay)
            self._requests = trace.requests
            return Job(trace.requests, recorded_in(trace))
        data = _read(self._path.parent / "requests.json")
        if data is None:
            return None
        self._requests = tuple(map(_request, data))
        return Job(self._requests)

    def open(self, ops: Sequence[str], device: "Device | None") -> "tuple[WaitingProbe, tuple[str, ...]]":
        """A trace of this worker's, and the Probe that fills it."""
        wanted = self._order.ops
        names = recorded_ops(ops, self._order.level) if wanted is None else [op for op in ops if op in wanted]
        if self._order.sketch and device is not None:
            raise EngineError("record.sketch: true is for activations on the CPU, FastDeploy's are on a GPU")
        writer = TraceWriter(
            trace_of(self._path, self._rank),
            manifest=self._manifest,
            requests=self._requests,
            ops=names,
            sketch_parts=PARTS if self._order.sketch else 0,
        )
        self._writer = writer
        if device is None:
            self._probe = HostProbe(writer, names)
        else:
            from detrec.recorder.device_probe import DeviceProbe

            # Paddle gives an output's memory to another as soon as nobody holds it
            self._probe = DeviceProbe(writer, names, device, at_once=True)
        self._tell("recording")
        return self._probe, tuple(names)

    def close(self, batches: Sequence[Batch], prepared: Mapping[str, Mapping[str, Any]], error: str) -> None:
        """Close the trace, with the tasks in it, or fail it."""
        if self._writer is not None and self._probe is not None:
            tasks = {"batches": [batch.to_json() for batch in batches], "prepared": prepared}
            self._writer.attach(_TASKS, json.dumps(tasks).encode())
            if error:
                self._writer.fail(error)
            else:
                self._probe.finish()
                self._writer.close()
        self._tell("failed" if error else "complete", error)


class HostProbe(TraceProbe):
    """A TraceProbe that is never behind."""

    def meanwhile(self) -> None:
        """Nothing is on its way."""


def recorded_in(trace: TraceReader) -> Recorded:
    """What a worker needs to run `trace` again. TraceError where its recorder kept no tasks."""
    data = trace.attached(_TASKS)
    if data is None:
        raise TraceError(
            f"{trace.path}: FastDeploy's tasks are not in it: its recorder did not come to its end",
            hint="record it again, or replay it on the built-in engine: --set engine.name=builtin",
        )
    tasks = json.loads(data)
    samples = trace.samples()
    names = [request.id for request in trace.requests]
    columns = (samples.step.tolist(), samples.request.tolist(), samples.taken.tolist())
    return Recorded(
        batches=tuple(map(Batch.from_json, tasks["batches"])),
        taken={(step, names[of]): token for step, of, token in zip(*columns, strict=True)},
        prepared=tasks["prepared"],
    )


def tasks_in(trace: TraceReader) -> bytes | None:
    """The tasks as they lie in `trace`, to be put into another."""
    return trace.attached(_TASKS)


def attach_tasks(writer: TraceWriter, tasks: bytes) -> None:
    """Put what `tasks_in` gave into the trace of `writer`."""
    writer.attach(_TASKS, tasks)


def _request(data: dict[str, Any]) -> Request:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in data["sampling"].items()
    }
    sampling = SamplingParams(**values)
    return Request(data["id"], tuple(data["prompt"]), sampling, data["arrival"])


def _write(path: Path, data: Any) -> None:
    """Whole or not at all: another process may be reading."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(data), encoding="utf-8")
    partial.replace(path)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _expected(path: Path) -> Any:
    data = _read(path)
    if data is None:
        raise TraceError(f"{path}: no such file", hint=f"{VARIABLE} names the order that detrec wrote")
    return data
