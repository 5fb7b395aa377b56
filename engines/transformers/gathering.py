"""What a model on a GPU computes in a step, held until a probe is told of it all at once.

With few rows the host is what a step waits for: to tell of one output at a time takes it longer than to have
one computed. What is held takes memory: layers are told of together as far as HELD goes. An output must stay
as it is until then: torch counts the changes of a tensor, and one that was changed is refused.
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from detrec.engines.builtin.model_config import ModelConfig
from detrec.engines.hooks import GatheringProbe, Output, Outputs, PlacingProbe, Tap
from detrec.engines.transformers import library
from detrec.errors import EngineError
from detrec.kernels import arrays
from detrec.kernels.device_array import DeviceArray

HELD = 64 << 20
"""Bytes of outputs that are held at most, if a layer has no more."""
_FORMS = 64
"""Numbers of rows whose forms are kept."""


@dataclass(frozen=True, slots=True, eq=False)
class _Form:
    """What is heard again in every step of so many rows, but for where it lies.

    `numbers`, `sizes` and `whole` of what is heard: taps, elements, whether they lie without gaps; `strides`
    of those that do not. `firsts`: by op, the first thing heard of it; `beside`: pairs of things heard with
    the bytes from the one to the other; `copied`: ops that lie otherwise, with their parts.
    """

    numbers: tuple[int, ...]
    sizes: list[int]
    whole: list[bool]
    strides: list[tuple[int, tuple[int, ...]]]
    outputs: Outputs
    firsts: list[int]
    beside: list[tuple[int, int, int]]
    copied: list[tuple[int, list[int]]]

    def fits(self, values: Sequence[Any], addresses: Sequence[int]) -> bool:
        """Whether these, which were heard of the same taps in a step of as many rows, are like those."""
        return (
            [value.numel() for value in values] == self.sizes
            and [value.is_contiguous() for value in values] == self.whole
            and all([values[at].stride() == stride for at, stride in self.strides])
            and all([addresses[part] - addresses[first] == offset for first, part, offset in self.beside])
        )


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
        self._forms: dict[tuple[int, tuple[int, ...]], _Form] = {}
        self._told: list[_Form] = []
        self._right: list[_Form] = []
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
        changed = [value._version for value in values]
        if changed != self._versions:
            at = next(at for at, version in enumerate(self._versions) if changed[at] != version)
            raise EngineError(
                f"{self._taps[numbers[at]].op} was changed after it was computed, and before it was recorded",
                hint=f"detrec's adapter was tried with transformers {library.TRIED}",
            )
        self._forget()
        addresses = [value.data_ptr() for value in values]
        form = self._forms.get((self._rows, numbers))
        if form is None or not form.fits(values, addresses):
            if len(self._forms) >= _FORMS:
                self._forms.clear()
            form = self._forms[self._rows, numbers] = self._formed(numbers, values)
        places, copies = [addresses[first] for first in form.firsts], []
        for op, parts in form.copied:
            copies.append(self._joined([self._lines(numbers[at], values[at]) for at in parts]))
            places[op] = copies[-1].data_ptr()
        if self._many:
            self._many.outputs(form.outputs, places)
        else:
            _one_by_one(self._probe, form.outputs, places, (values, copies))
        self._told.append(form)

    def tally(self) -> tuple[Mapping[str, int], Mapping[str, int]] | None:
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
        forward, own = module.forward, vars(module).get("forward")
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

        def undo() -> None:
            if own is None:
                del module.forward
            else:
                module.forward = own

        module.forward = listened
        return undo

    def _number(self, tap: Tap, kernel: str, *, turned: bool = False) -> int:
        self._taps.append(replace(tap, kernel=kernel))
        self._turned.append(turned)
        return len(self._taps) - 1

    def _lines(self, number: int, value: Any) -> Any:
        """[rows, width] of what was heard: the very memory where its rows lie without gaps."""
        if self._turned[number]:
            value = value.transpose(1, 2)
        return value.reshape(self._rows, -1)

    def _joined(self, parts: Sequence[Any]) -> Any:
        return parts[0].contiguous() if len(parts) == 1 else self._torch.cat(parts, dim=1)

    def _formed(self, numbers: tuple[int, ...], values: Sequence[Any]) -> _Form:
        """The form of what was heard. An op of which a part was not heard is none of it."""
        sizes, whole = [value.numel() for value in values], [value.is_contiguous() for value in values]
        strides = [(at, values[at].stride()) for at, plain in enumerate(whole) if not plain]
        form = _Form(numbers, sizes, whole, strides, Outputs(self._rows, ()), [], [], [])
        ops, waiting = list[Output](), dict[str, list[int]]()
        for at, number in enumerate(numbers):
            tap = self._taps[number]
            parts = waiting.setdefault(tap.op, [])
            parts.append(at)
            if len(parts) < tap.parts:
                continue
            del waiting[tap.op]
            lines = [self._lines(numbers[part], values[part]) for part in parts]
            stride = lines[0].stride(0)
            offsets = [line.data_ptr() - lines[0].data_ptr() for line in lines]
            widths = [line.shape[1] for line in lines]
            size = lines[0].element_size()
            ends = [offset + width * size for offset, width in zip(offsets, widths, strict=True)]
            seen = all(
                line.data_ptr() == values[part].data_ptr()
                and line.stride(1) == 1
                and (line.stride(0) == stride or self._rows == 1)
                for line, part in zip(lines, parts, strict=True)
            )
            # a probe that takes one op at a time takes it without gaps
            if seen and offsets[1:] == ends[:-1] and (self._many or stride == sum(widths) or self._rows == 1):
                form.beside.extend((parts[0], part, offset) for part, offset in zip(parts, offsets, strict=True))
            else:
                form.copied.append((len(ops), parts))
                stride = sum(widths)
            form.firsts.append(parts[0])
            kind = arrays.dtype(lines[0])
            ops.append(Output(tap.op, kind, sum(widths), stride, tap.kernel))
        return replace(form, outputs=Outputs(self._rows, tuple(ops)))


def _one_by_one(probe: PlacingProbe, some: Outputs, addresses: Sequence[int], owners: Any) -> None:
    for output, address in zip(some.ops, addresses, strict=True):
        shape, strides = (some.rows, output.width), (output.stride, 1)
        array = DeviceArray(address, output.dtype, shape, strides, owners)
        probe.op(output.name, array, 0, output.kernel)
