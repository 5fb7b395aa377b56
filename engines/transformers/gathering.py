"""What a model on a GPU computes in a step, held until a probe is told of it all at once.

With few rows the host is what a step waits for: to tell of one output at a time takes it longer than to have
one computed. What is held takes memory: layers are told of together as far as HELD goes. An output must stay
as it is until then: torch counts the changes of a tensor, and one that was changed is refused.
"""

import functools
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from detrec.engines.builtin.model_config import ModelConfig
from detrec.engines.hooks import GatheringProbe, Output, Outputs, PlacingProbe, Tap
from detrec.engines.transformers import library
from detrec.engines.transformers.forms import Copy, Form
from detrec.errors import EngineError
from detrec.kernels import arrays

HELD = 64 << 20
"""Bytes of outputs that are held at most, if a layer has no more."""
_FORMS = 64
"""Numbers of rows whose forms are kept."""
_VERSION = operator.attrgetter("_version")
"""How often torch has changed a tensor."""


class Gathering:
    """Tells `probe` of the outputs of the modules of `taps` and of whatever `hear` is called with.

    `model` is left as it was by what `remove` undoes. KeyError where a path names no module of `model`.
    """

    def __init__(
        self, model: Any, config: ModelConfig, taps: Iterable[Tap], spoken: Iterable[Tap], probe: PlacingProbe
    ) -> None:
        """`spoken` are taps of no module, [1, heads, rows, D]: `numbers` says what to `hear` them as."""
        self._torch, self._probe = library.module("torch"), probe
        self._many = probe if isinstance(probe, GatheringProbe) else None
        self._taps: list[Tap] = []
        self._turned: list[bool] = []
        # no tuples of them: hundreds a step would be looked through by Python's garbage collector
        self._numbers: list[int] = []
        self._values: list[Any] = []
        self._versions: list[int] = []
        self._forms: dict[tuple[int, tuple[int, ...]], Form] = {}
        self._told: list[Form] = []
        self._right: list[Form] = []
        self._listening, self._ends = False, frozenset[int]()
        self._rows, self._layers = 0, config.num_layers
        heads = config.head_dim * (3 * config.num_heads + 3 * config.num_kv_heads)
        self._row_bytes = 4 * (6 * config.hidden_size + heads + 4 * config.intermediate_size)
        self.numbers = {tap.op: self._number(tap, tap.kernel, turned=True) for tap in spoken}
        modules, by_path = dict(model.named_modules()), dict[str, list[Tap]]()
        layers = {f"model.layers.{index}": index for index in range(config.num_layers)}
        for tap in taps:
            by_path.setdefault(tap.path, []).append(tap)
        self._undo = [
            self._listen(modules[path], by_path.get(path, ()), layers.get(path, -1))
            for path in {**by_path, **layers}
        ]

    def remove(self) -> None:
        """Leave the modules as they were."""
        while self._undo:
            self._undo.pop()()

    def begin(self, rows: int) -> None:
        """A step begins whose outputs have so many rows."""
        at_once = max(HELD // max(rows * self._row_bytes, 1), 1)
        self._rows, self._ends = rows, frozenset(range(at_once - 1, self._layers, at_once))
        self._told = []
        self._listening = True

    def end(self) -> None:
        """What runs from now on is nobody's business, and nothing of the engine's is kept alive."""
        self._listening = False
        self._forget()

    def _forget(self) -> None:
        for heard in (self._numbers, self._values, self._versions):
            heard.clear()

    def hear(self, number: int, value: Any) -> None:
        """One of `numbers`, or the number of a tap, has given `value`."""
        if self._listening:
            self._numbers.append(number)
            self._values.append(value)
            self._versions.append(value._version)

    def tell(self) -> None:
        """Tell the probe of all that was heard."""
        if not self._numbers:
            return
        numbers, values = tuple(self._numbers), self._values.copy()
        changed = list(map(_VERSION, values))
        if changed != self._versions:
            at = next(at for at, version in enumerate(self._versions) if changed[at] != version)
            raise EngineError(
                f"{self._taps[numbers[at]].op} was changed after it was computed, and before it was recorded",
                hint=f"detrec's adapter was tried with transformers {library.TRIED}",
            )
        self._forget()
        addresses = list(map(self._torch.Tensor.data_ptr, values))
        form = self._forms.get((self._rows, numbers))
        if form is None or not form.fits(values, addresses):
            if len(self._forms) >= _FORMS:
                self._forms.clear()
            form = self._forms[self._rows, numbers] = self._formed(numbers, values)
        places = [addresses[first] for first in form.firsts]
        # whoever gets the memory of a copy works in the same stream
        copies = [self._copied(copy, numbers, values, places) for copy in form.copies]
        if self._many:
            self._many.outputs(form.outputs, places)
        else:
            _one_by_one(self._probe, form.outputs, places, (values, copies))
        self._told.append(form)

    def tally(self) -> tuple[Mapping[str, int], Counter[str]] | None:
        """How often each module ran in the step and each op was told, by path and name.

        None where all is as in a step before that was `right`.
        """
        if self._told == self._right and self._told:
            return None
        heard = Counter(number for form in self._told for number in form.numbers)
        runs = {tap.path: heard[number] for number, tap in enumerate(self._taps) if tap.path}
        return runs, Counter(output.name for form in self._told for output in form.outputs.ops)

    def right(self) -> None:
        """Each module ran and each op was told in the step as often as it should."""
        self._right = self._told

    def _listen(self, module: Any, taps: Sequence[Tap], layer: int) -> Callable[[], None]:
        """Have the module's forward tell of itself, as cheaply as can be; gives what undoes it."""
        forward = module.forward
        kernel = getattr(forward, "kernel", type(module).__name__)
        numbers = [(tap.entering, self._number(tap, tap.kernel or kernel)) for tap in taps]
        entering = next((number for enters, number in numbers if enters), None)
        leaving = next((number for enters, number in numbers if not enters), None)
        number, value, version = self._numbers.append, self._values.append, self._versions.append

        @functools.wraps(forward)
        def listened(*args: Any, **kwargs: Any) -> Any:
            if not self._listening:
                return forward(*args, **kwargs)
            # what `hear` does: a call of it for each output would be felt
            if entering is not None and args:
                number(entering)
                value(args[0])
                version(args[0]._version)
            output = forward(*args, **kwargs)
            if leaving is not None:
                given = output[0] if isinstance(output, tuple) else output
                number(leaving)
                value(given)
                version(given._version)
            if layer in self._ends:
                self.tell()
            return output

        return library.stand_in(module, listened)

    def _number(self, tap: Tap, kernel: str, *, turned: bool = False) -> int:
        self._taps.append(replace(tap, kernel=kernel))
        self._turned.append(turned)
        return len(self._taps) - 1

    def _lines(self, number: int, value: Any) -> Any:
        """[rows, width] of what was heard: the very memory where its rows lie without gaps."""
        if self._turned[number]:
            value = value.transpose(1, 2)
        return value.reshape(self._rows, -1)

    def _copied(self, copy: Copy, numbers: Sequence[int], values: Sequence[Any], places: list[int]) -> Any:
        """The outputs of all its ops below each other, and where they lie: one by one they take longer."""
        columns = []
        for part in zip(*copy.parts, strict=True):
            if copy.flat:
                columns.append(self._torch.cat([values[at] for at in part], dim=1))
            else:
                columns.append(self._torch.cat([self._lines(numbers[at], values[at]) for at in part]))
        every = columns[0] if len(columns) == 1 else self._torch.cat(columns, dim=-1)
        size = self._rows * every.shape[-1] * every.element_size()
        for number, op in enumerate(copy.ops):
            places[op] = every.data_ptr() + number * size
        return every

    def _formed(self, numbers: tuple[int, ...], values: Sequence[Any]) -> Form:
        """The form of what was heard. An op of which a part was not heard is none of it."""
        whole = [value.is_contiguous() for value in values]
        strides = [(at, values[at].stride()) for at, plain in enumerate(whole) if not plain]
        form = Form(numbers, whole, strides, Outputs(self._rows, ()), [], [], [])
        ops, waiting, copies = list[Output](), dict[str, list[int]](), dict[Any, Copy]()
        for at, number in enumerate(numbers):
            tap = self._taps[number]
            parts = waiting.setdefault(tap.op, [])
            parts.append(at)
            if len(parts) < tap.parts:
                continue
            del waiting[tap.op]
            lines = [self._lines(numbers[part], values[part]) for part in parts]
            width, kind = sum(line.shape[1] for line in lines), arrays.dtype(lines[0])
            stride = self._stride(lines, [values[part] for part in parts])
            if stride:
                first = lines[0].data_ptr()
                beside = [(parts[0], parts[n], line.data_ptr() - first) for n, line in enumerate(lines)]
                form.beside.extend(beside[1:])
            else:
                flat = all(self._flat(numbers[part], values[part]) for part in parts)
                alike = kind, tuple(line.shape[1] for line in lines), flat
                copy = copies.setdefault(alike, Copy([], [], flat))
                copy.ops.append(len(ops))
                copy.parts.append(parts)
            form.firsts.append(parts[0])
            ops.append(Output(tap.op, kind, width, stride or width, tap.kernel))
        return replace(form, outputs=Outputs(self._rows, tuple(ops)), copies=[*copies.values()])

    def _flat(self, number: int, value: Any) -> bool:
        return not self._turned[number] and value.dim() == 3 and value.shape[:2] == (1, self._rows)

    def _stride(self, lines: Sequence[Any], values: Sequence[Any]) -> int:
        """Elements from row to row of lines that stand side by side where they were heard; 0 if they do not.

        A probe that takes one op at a time takes it without gaps.
        """
        width, stride = sum(line.shape[1] for line in lines), lines[0].stride(0)
        if self._rows == 1:
            stride = width
        elif not self._many and stride != width:
            return 0
        end = lines[0].data_ptr()
        for line, value in zip(lines, values, strict=True):
            lies = line.stride(1) == 1 and (self._rows == 1 or line.stride(0) == stride)
            if not lies or line.data_ptr() != end or value.data_ptr() != end:
                return 0
            end += line.shape[1] * line.element_size()
        return int(stride)


def _one_by_one(probe: PlacingProbe, some: Outputs, addresses: Sequence[int], owners: Any) -> None:
    for output, address in zip(some.ops, addresses, strict=True):
        probe.op(output.name, output.at(address, some.rows, owners), 0, output.kernel)
