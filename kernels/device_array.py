"""A strided view of memory that a framework owns: what GPU kernels take and give.

Slicing and reshaping happen here, in Python integers, so that no framework's own kernel is ever needed
for a view. Triton launches it as it is, and its interpreter reads CPU memory through it in place.
"""

import math
from collections.abc import Sequence
from typing import Any

ITEMSIZE = {
    "float32": 4, "bfloat16": 2, "float16": 2, "int64": 8, "uint64": 8, "int32": 4, "uint32": 4,
    "int16": 2, "uint16": 2, "int8": 1, "uint8": 1, "bool": 1,
}  # fmt: skip
"""Bytes of one element, for every dtype a kernel may meet."""


class DType(str):
    """An element type by its name: "bfloat16". A str, because Triton reads a dtype by its name."""

    __slots__ = ()

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return ITEMSIZE[self]


_DTYPES = {name: DType(name) for name in ITEMSIZE}


class DeviceArray:
    """Elements of `dtype` at `address`, `strides` in elements; `owner` keeps the memory alive."""

    __slots__ = ("address", "dtype", "owner", "shape", "strides")

    def __init__(
        self, address: int, dtype: str, shape: Sequence[int], strides: Sequence[int] = (), owner: Any = None
    ) -> None:
        if dtype not in _DTYPES:
            raise ValueError(f"dtype is {dtype!r}, expected one of {', '.join(ITEMSIZE)}")
        self.address = address
        self.dtype = _DTYPES[dtype]
        self.shape = tuple(shape)
        self.strides = tuple(strides) or contiguous_strides(self.shape)
        self.owner = owner

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"DeviceArray({self.dtype} {list(self.shape)} at {self.address:#x})"

    @property
    def ndim(self) -> int:
        """How many axes."""
        return len(self.shape)

    @property
    def count(self) -> int:
        """How many elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements, gaps not counted."""
        return self.count * self.dtype.itemsize

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements lie without gaps, the last axis fastest."""
        return all(
            extent == 1 or stride == whole
            for extent, stride, whole in zip(
                self.shape, self.strides, contiguous_strides(self.shape), strict=True
            )
        )

    def __getitem__(self, key: Any) -> "DeviceArray":
        """A view: integers and slices of step 1, from the first axis on."""
        keys = key if isinstance(key, tuple) else (key,)
        address, shape, strides = self.address, [], []
        for axis, (extent, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            part = keys[axis] if axis < len(keys) else slice(None)
            if isinstance(part, slice):
                start, stop, step = part.indices(extent)
                if step != 1:
                    raise ValueError(f"a view takes slices of step 1, got {part}")
                shape.append(max(stop - start, 0))
                strides.append(stride)
            else:
                if not -extent <= part < extent:
                    raise IndexError(f"index {part} of an axis of {extent}")
                start = part % extent
            address += start * stride * self.dtype.itemsize
        if len(keys) > len(self.shape):
            raise IndexError(f"{len(keys)} indices for {len(self.shape)} axes")
        return DeviceArray(address, self.dtype, shape, strides or (), self.owner)

    def reshape(self, *shape: int) -> "DeviceArray":
        """The same elements by another shape; the array must be contiguous."""
        if not self.is_contiguous or math.prod(shape) != self.count:
            raise ValueError(f"{self!r} with strides {list(self.strides)} cannot be seen as {list(shape)}")
        return DeviceArray(self.address, self.dtype, shape, (), self.owner)

    def view(self, dtype: str) -> "DeviceArray":
        """The same bits as another dtype of the same width."""
        if ITEMSIZE[dtype] != self.dtype.itemsize:
            raise ValueError(f"{self.dtype} cannot be seen as {dtype}: another width")
        return DeviceArray(self.address, dtype, self.shape, self.strides, self.owner)

    def data_ptr(self) -> int:
        """The address of the first element: all that a Triton launch asks for."""
        return self.address

    # what Triton's interpreter asks of a tensor to bring it to the host and back: it is there already

    def untyped_storage(self) -> "DeviceArray":
        """Itself."""
        return self

    def cpu(self) -> "DeviceArray":
        """Itself."""
        return self

    def new_empty(self, *args: Any, **options: Any) -> "DeviceArray":
        """Itself."""
        return self

    def set_(self, *args: Any) -> "DeviceArray":
        """Itself."""
        return self

    def copy_(self, other: Any) -> "DeviceArray":
        """Itself, unchanged."""
        return self

    def storage_offset(self) -> int:
        """0: `data_ptr` is where the elements begin."""
        return 0

    def size(self) -> tuple[int, ...]:
        """Its shape, as torch calls it."""
        return self.shape

    def stride(self) -> tuple[int, ...]:
        """Strides in elements."""
        return self.strides


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of an array without gaps, the last axis fastest."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))
