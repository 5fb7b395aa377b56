"""A call of kernels that is worked out once for arrays that are alike, and then launched as it was.

What tile, what grid and what compiled kernel a call comes to depends on what its arrays are like, and on
where they lie only as far as they are aligned. To work it out takes the host longer than all the rest.
"""

from collections.abc import Callable, Sequence
from typing import Any

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.launch import INTERPRETED, Launch, noting, on_stream

# calls whose launches are kept
_KEPT = 256

Spot = tuple[int, int, int, Callable[[int], Any] | None]
"""An argument of a launch that lies in an array of the call: its number, the array's, the bytes from where
that begins, and what makes the argument of an address; None where that is the address itself.
"""


class Again:
    """`call(*arrays)`, which launches kernels on DeviceArrays and on memory that stays where it is.

    It is called with the handle of a stream and the tensors or arrays whose views `view` gives, in order: any
    with data_ptr, shape and stride, each of one dtype in all calls. They lie apart from each other and from
    all that stays.
    """

    def __init__(self, call: Callable[..., Any], view: Callable[[Any], DeviceArray]) -> None:
        self._call, self._view = call, view
        self._known: dict[Any, list[tuple[Launch, list[Spot]]]] = {}

    def __call__(self, stream: int, *given: Any) -> None:
        addresses = [x.data_ptr() for x in given]
        key = tuple([(x.shape, x.stride(), x.data_ptr() % 16) for x in given])
        known = self._known.get(key)
        if known is None:
            self._first(stream, key, [self._view(x) for x in given], addresses)
            return
        for launch, spots in known:
            args = list(launch.args)
            for place, number, offset, make in spots:
                address = addresses[number] + offset
                args[place] = address if make is None else make(address)
            launch.give(stream, args)

    def _first(self, stream: int, key: Any, arrays: Sequence[DeviceArray], addresses: Sequence[int]) -> None:
        assert [array.address for array in arrays] == addresses, "a view that is a copy"
        if len(self._known) >= _KEPT:
            self._known.clear()
        with on_stream(stream), noting() as launches:
            self._call(*arrays)
        self._known[key] = [(launch, list(_spots(launch, arrays))) for launch in launches]


def _spots(launch: Launch, arrays: Sequence[DeviceArray]) -> list[Spot]:
    spots: list[Spot] = []
    for place, arg in enumerate(launch.args):
        described = hasattr(arg, "block_shape")
        if not described and not isinstance(arg, DeviceArray):
            continue
        address = (arg.base if described else arg).address
        for number, array in enumerate(arrays):
            if array.address <= address < array.address + max(_reach(array), 1):
                make = _described(arg) if described else _arrayed(arg) if INTERPRETED else None
                spots.append((place, number, address - array.address, make))
    return spots


def _reach(array: DeviceArray) -> int:
    """Bytes from the first element to the end of the last."""
    last = sum((extent - 1) * stride for extent, stride in zip(array.shape, array.strides, strict=True))
    return (last + 1) * array.dtype.itemsize if array.count else 0


def _arrayed(array: DeviceArray) -> Callable[[int], DeviceArray]:
    # the interpreter takes no plain address
    return lambda address: DeviceArray(address, array.dtype, array.shape, array.strides)


def _described(descriptor: Any) -> Callable[[int], Any]:
    kind, fields, base = type(descriptor), vars(descriptor), descriptor.base

    def make(address: int) -> Any:
        # what its constructor checks has been checked
        made = object.__new__(kind)
        vars(made).update(fields, base=DeviceArray(address, base.dtype, base.shape, base.strides))
        return made

    return make
