"""Heat maps: states by layer or op against the positions of a request, or against steps.

However wide the window, a map has as many columns as were asked for: each shows the worst cell behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detrec.replayer.divergence import split_name


@dataclass(frozen=True, slots=True)
class Window:
    """What to show: positions [start, stop) of `request`, or steps [start, stop) where that is None.

    `columns`: at most so many. `layer`: None shows a line for each layer and each op outside layers; a
    number shows the ops of that layer, -1 every op there is. `rank` None: the worst of all ranks.
    `generation` None: of a place computed more than once, its latest row.
    """

    start: int
    stop: int
    columns: int
    request: str | None = None
    layer: int | None = None
    rank: int | None = None
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """`states`, uint8 [lines, columns] of State. Column i holds [edges[i], edges[i + 1]) of positions or
    steps.

    `labels[line]` names a line ("embedding", "14", "14.attn"); `ops[line]` are the ops behind it, [first,
    last] inclusive as indices into the survey's ops; `layers[line]` is its layer, None outside layers.
    """

    window: Window
    states: np.ndarray
    edges: np.ndarray
    labels: tuple[str, ...]
    ops: tuple[tuple[int, int], ...]
    layers: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of a map, and the line of each op (-1 where it is not shown), int64 [ops]."""

    labels: tuple[str, ...]
    ops: tuple[tuple[int, int], ...]
    layers: tuple[int | None, ...]
    of: np.ndarray


def lines_of(names: Sequence[str], layer: int | None) -> Lines:
    """The lines in causal order; see `Window.layer`."""
    labels: list[str] = []
    ops: list[tuple[int, int]] = []
    layers: list[int | None] = []
    of = np.full(len(names), -1, np.int64)
    for index, name in enumerate(names):
        number = split_name(name)[0]
        if layer is not None and layer >= 0 and number != layer:
            continue
        label = str(number) if layer is None and number is not None else name
        if labels and labels[-1] == label:
            ops[-1] = (ops[-1][0], index)
        else:
            labels.append(label)
            ops.append((index, index))
            layers.append(number)
        of[index] = len(labels) - 1
    return Lines(tuple(labels), tuple(ops), tuple(layers), of)


def edges_of(start: int, stop: int, columns: int) -> np.ndarray:
    """[start, stop) in at most `columns` parts of nearly one size, none empty: int64 [parts + 1]."""
    parts = max(min(columns, stop - start), 0)
    if not parts:
        return np.array([start], np.int64)
    return start + np.arange(parts + 1, dtype=np.int64) * (stop - start) // parts


def bucketed(states: np.ndarray, column: np.ndarray, n_columns: int, lines: Lines) -> np.ndarray:
    """The worst of `states`, uint8 [rows, ops], by line and column; `column[row]` in ascending order.

    uint8 [lines, columns].
    """
    by_line = np.zeros((len(lines.labels), len(states)), np.uint8)
    for line, (first, last) in enumerate(lines.ops):
        by_line[line] = states[:, first : last + 1].max(axis=1, initial=0)
    out = np.zeros((len(lines.labels), n_columns), np.uint8)
    if len(states):
        begin = np.flatnonzero(np.diff(column, prepend=-1))
        out[:, column[begin]] = np.maximum.reduceat(by_line, begin, axis=1)
    return out
