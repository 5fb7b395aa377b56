"""What every view of a trace's rows has in common: its columns by name, and rows out of chunks."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np


class RowColumns(ABC):
    """The columns of rows, int32 [rows], in the order of the batch, step after step."""

    @abstractmethod
    def column(self, path: str) -> np.ndarray:
        """A whole array of steps, events, slices, rows or samples, such as `steps/padded_rows`."""

    @property
    def row_step(self) -> np.ndarray:
        """The step of each row, ascending."""
        return self.column("rows/step")

    @property
    def row_request(self) -> np.ndarray:
        """The request of each row, as an index of `requests`."""
        return self.column("rows/request")

    @property
    def row_position(self) -> np.ndarray:
        """The position of each row in its request."""
        return self.column("rows/position")

    @property
    def row_token(self) -> np.ndarray:
        """The input token of each row."""
        return self.column("rows/token")


def rows_of_chunks(
    chunk: Callable[[int], np.ndarray], size: int, start: int, stop: int, none: np.ndarray
) -> np.ndarray:
    """Rows [start, stop) of an array whose chunk i, of `size` rows, is `chunk(i)`; `none` if there are none.

    A view where they lie in one chunk.
    """
    end = -(-stop // size) if stop > start else 0
    parts = [
        chunk(number)[max(start - number * size, 0) : stop - number * size]
        for number in range(start // size, end)
    ]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else none
