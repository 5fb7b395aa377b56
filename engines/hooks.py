"""Watching an engine that detrec did not write: forward hooks that tell a Probe, and where a step's rows lie.

Works on the modules of Paddle and of PyTorch alike. A hook only looks: it starts no copy, waits for nothing
and gives the output on as it is. What a Probe is told on a GPU is the tensor's own memory.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from detrec.engines.base import SAMPLE_OPS, Probe, Step
from detrec.kernels import arrays
from detrec.kernels.device_array import DeviceArray


@dataclass(frozen=True, slots=True)
class Tap:
    """The op `op` is output number `output` of the module at `path`, the `call`-th time it runs in a step.

    `path` is dotted, as the framework names modules. A module that gives one tensor has output 0 only.
    `entering`: it is the module's positional input of that number instead. An op of several `parts` is their
    outputs side by side; this is number `part` of them. `kernel` is what computed it, where that is not the
    module.
    """

    op: str
    path: str
    output: int = 0
    call: int = 0
    entering: bool = False
    part: int = 0
    parts: int = 1
    kernel: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the rows of a step lie in outputs that have others too: padding, or slots that do not sample.

    Outputs of most ops have `launched` rows, of which `rows` (int [R]) are the step's, in its order; outputs
    of SAMPLE_OPS have `drawn`, of which `samples` (int [S]) are. Leading axes count as one.
    """

    launched: int
    rows: np.ndarray
    drawn: int
    samples: np.ndarray

    def of(self, op: str) -> tuple[int, np.ndarray]:
        """How many rows an output of `op` has, and which are the step's."""
        return (self.drawn, self.samples) if op in SAMPLE_OPS else (self.launched, self.rows)


@runtime_checkable
class PlacingProbe(Probe, Protocol):
    """A Probe of a GPU that takes outputs with rows that are not the step's."""

    def place(self, layout: Layout) -> None:
        """Outputs of the step that has begun lie by `layout`."""
        ...


@dataclass(frozen=True, slots=True)
class Output:
    """What an op gives: rows of `width` elements of `dtype`, `stride` elements from one to the next."""

    name: str
    dtype: str
    width: int
    stride: int
    kernel: str

    def at(self, address: int, rows: int, owner: Any = None) -> DeviceArray:
        """Its rows, which lie there."""
        return DeviceArray(address, self.dtype, (rows, self.width), (self.stride, 1), owner)


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """What ops give together, `rows` rows each; the same object where they give it in step after step."""

    rows: int
    ops: tuple[Output, ...]


@runtime_checkable
class GatheringProbe(PlacingProbe, Protocol):
    """A PlacingProbe that takes the outputs of many ops at once, at less cost for each."""

    def outputs(self, some: Outputs, addresses: Sequence[int]) -> None:
        """They lie at these addresses until this returns; who gets the memory works in the same stream."""
        ...


class Hooks:
    """Forward hooks on the modules of `taps`; `tell(op, output, kernel)` is called inside `watching` only.

    `kernel` is the tap's, else the name that the module's forward gives its own, else its class; the `output`
    of an op of several parts is a list of them. KeyError where a path names no module of `model`.
    """

    def __init__(self, model: Any, taps: Iterable[Tap], tell: Callable[[str, Any, str], None]) -> None:
        self._tell = tell
        self.calls: dict[str, int] = {}
        """How often each module has run in the step, by path."""
        self._parts: dict[str, dict[int, Any]] = {}
        self._watching = False
        modules, by_path = modules_of(model), dict[str, list[Tap]]()
        for tap in taps:
            by_path.setdefault(tap.path, []).append(tap)
        self._handles = [_hook(modules[path], self._hook_of(path, of)) for path, of in by_path.items()]

    def _hook_of(self, path: str, taps: Sequence[Tap]) -> Callable[[Any, Any, Any], None]:
        def told(module: Any, inputs: Any, output: Any) -> None:
            if not self._watching:
                return
            call = self.calls.get(path, 0)
            self.calls[path] = call + 1
            outputs = output if isinstance(output, tuple | list) else (output,)
            for tap in taps:
                found = inputs if tap.entering else outputs
                if tap.call == call and tap.output < len(found) and found[tap.output] is not None:
                    own = getattr(module.forward, "kernel", type(module).__name__)
                    self._took(tap, found[tap.output], tap.kernel or own)

        return told

    def _took(self, tap: Tap, value: Any, kernel: str) -> None:
        """Tell of `value`, or keep it until the rest of its op has come."""
        if tap.parts == 1:
            self._tell(tap.op, value, kernel)
            return
        parts = self._parts.setdefault(tap.op, {})
        parts[tap.part] = value
        if len(parts) == tap.parts:
            del self._parts[tap.op]
            self._tell(tap.op, [parts[index] for index in range(tap.parts)], kernel)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside is one forward pass of a step; what runs outside is nobody's business."""
        self.calls.clear()
        self._parts.clear()
        self._watching = True
        try:
            yield
        finally:
            self._watching = False
            # nothing of the engine's may be kept alive after its step
            self._parts.clear()

    def remove(self) -> None:
        """Leave the model as it was."""
        for handle in self._handles:
            handle.remove()


def modules_of(model: Any) -> Mapping[str, Any]:
    """Every module below `model` by its dotted path."""
    named = model.named_sublayers if hasattr(model, "named_sublayers") else model.named_modules
    return dict(named())


def _hook(module: Any, told: Callable[[Any, Any, Any], None]) -> Any:
    if hasattr(module, "register_forward_post_hook"):
        return module.register_forward_post_hook(told)
    return module.register_forward_hook(told)


class Teller:
    """Tells `probe` of a foreign engine's steps; only ops in `names` are passed on.

    A PlacingProbe is given outputs, which lie on a GPU, as DeviceArrays, whole; any other one as numpy views,
    with the step's rows only.
    """

    def __init__(self, probe: Probe, names: Iterable[str], *, rank: int = 0) -> None:
        self.probe, self._names, self._rank = probe, frozenset(names), rank
        self._placing = probe if isinstance(probe, PlacingProbe) else None
        self._layout: Layout | None = None

    def begin(self, step: Step, tokens: Sequence[int] | np.ndarray, layout: Layout) -> None:
        """A step begins whose rows lie by `layout`."""
        self._layout = layout
        self.probe.step(step, tokens)
        if self._placing:
            self._placing.place(layout)

    def op(self, name: str, output: Any, kernel: str) -> None:
        """`output` has the rows that the layout says, whatever its leading axes; a list, on the host alone,
        is of outputs that stand side by side.
        """
        if name not in self._names:
            return
        assert self._layout is not None, "an op outside a step"
        launched, own = self._layout.of(name)
        if self._placing:
            array = arrays.device_view(output)
            self.probe.op(name, array.reshape(launched, array.count // max(launched, 1)), self._rank, kernel)
            return
        parts = output if isinstance(output, list) else [output]
        views = [arrays.host_view(part.detach()).reshape(launched, -1) for part in parts]
        view = views[0] if len(views) == 1 else np.concatenate(views, axis=1)
        self.probe.op(name, _rows(view, own), self._rank, kernel)


def _rows(view: np.ndarray, own: np.ndarray) -> np.ndarray:
    if np.array_equal(own, np.arange(len(view))):
        return view
    return view[own]
