"""Born or inherited, against design's definition written out cell by cell."""

import numpy as np
import pytest

from detrec.replayer.divergence import DivergentRows, born, first_of, split_name

NEVER = 1 << 30


def divergent_rows(cells: np.ndarray, request: np.ndarray, generation: np.ndarray, position: np.ndarray):
    """Rows of bool [rows, ops, ranks] `cells` in the form that `born` takes."""
    at = np.flatnonzero(cells.any(axis=(1, 2)))
    first = cells[at].any(axis=2).argmax(axis=1)
    return DivergentRows(
        at,
        at,
        *(column[at].astype(np.int32) for column in (request, generation, position)),
        first.astype(np.int32),
        cells[at, first].sum(axis=1).astype(np.int32),
        cells[at].sum(axis=(1, 2)).astype(np.int32),
    )


def born_cells(
    cells: np.ndarray, request: np.ndarray, generation: np.ndarray, position: np.ndarray, flipped: np.ndarray
) -> set[tuple[int, int, int]]:
    """Every divergent cell none of whose causes diverged, looking at every cause of every cell."""
    found = set()
    for row, op, rank in np.argwhere(cells):
        if position[row] >= flipped[request[row]]:
            continue
        causes = (
            cells[other, earlier].any()
            for other in range(len(cells))
            for earlier in range(op)
            if (request[other], generation[other]) == (request[row], generation[row])
            and position[other] <= position[row]
        )
        if not any(causes):
            found.add((int(row), int(op), int(rank)))
    return found


@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_the_definition(seed):
    rng = np.random.default_rng(seed)
    rows, ops, ranks = 24, 5, 1 + seed % 2
    places = rng.permutation([(r, g, p) for r in range(3) for g in range(2) for p in range(6)])[:rows]
    request, generation, position = places.T
    step = np.sort(rng.integers(0, 8, rows))
    cells = rng.random((rows, ops, ranks)) < rng.choice([0.02, 0.1, 0.5])
    flipped = np.where(rng.random(3) < 0.3, rng.integers(0, 6, 3), NEVER)

    expected = born_cells(cells, request, generation, position, flipped)
    found = divergent_rows(cells, request, generation, position)
    own = born(found, flipped)
    assert int(found.at_op[own].sum()) == len(expected)
    assert {(int(row), int(op)) for row, op in zip(found.row[own], found.op[own], strict=True)} == {
        cell[:2] for cell in expected
    }
    if expected:
        at = first_of(found, own, step)
        first = min(expected, key=lambda cell: (step[cell[0]], cell[1], cell[0]))
        assert (found.row[at], found.op[at]) == first[:2]


def test_nothing_is_first_where_nothing_diverged():
    nothing = divergent_rows(np.zeros((3, 2, 1), bool), *np.zeros((3, 3), int))
    assert not len(born(nothing, np.array([NEVER])))
    assert first_of(nothing, np.zeros(0, bool), np.zeros(3, int)) is None


def test_an_op_of_a_later_row_comes_before_a_later_op_of_an_earlier_row():
    cells = np.zeros((2, 3, 1), bool)
    cells[0, 2] = cells[1, 1] = True
    found = divergent_rows(cells, np.array([0, 1]), np.zeros(2, int), np.zeros(2, int))
    assert first_of(found, born(found, np.array([NEVER, NEVER])), np.array([5, 5])) == 1


@pytest.mark.parametrize(
    ("name", "parts"), [("14.attn", (14, "attn")), ("logits", (None, "logits")), ("a.b", (None, "a.b"))]
)
def test_an_op_name_gives_its_layer(name, parts):
    assert split_name(name) == parts
