"""Sketches compared: what rounding explains is close, what it does not is named where it begins."""

from typing import Any

import numpy as np
import pytest

from detrec.engines.base import OpKind
from detrec.errors import TraceError
from detrec.kernels.cpu.sketch import sketch
from detrec.kernels.projections import PARTS
from detrec.replayer.tolerance import UNITS, compare_sketches, units_apart
from tests.replayer.fakes import OPS, FakeTrace, fake_trace, part

STEPS = [[part("r0", 0, 6), part("r1", 0, 4)], [part("r0", 6, 7), part("r1", 4, 5)], [part("r0", 7, 8)]]
WIDTH = 64


class Sketched(FakeTrace):
    """A FakeTrace whose ops have rows of values; `values` is float32 [rows, ops, WIDTH]."""

    has_sketches = True
    values: np.ndarray

    def sketches(self, start: int, stop: int) -> np.ndarray:
        found = np.full((stop - start, len(self.ops), PARTS), np.nan, np.float32)
        for op in range(len(self.ops) - 1):
            found[:, op] = sketch(self.values[start:stop, op].copy(), np.empty_like(found[:, op]))
        # an op that did not run has none
        found[self.cells[0, start:stop] == 0] = np.nan
        return found


def sketched(dtype: str = "float32", noise: float = 0.0, **options: Any) -> Sketched:
    made = fake_trace(STEPS, ids=("r0", "r1"), **options)
    trace = Sketched(**{name: getattr(made, name) for name in FakeTrace.__dataclass_fields__})
    trace.manifest = {"config": {"engine": {"dtype": dtype}}}
    rng = np.random.default_rng(5)
    values = rng.standard_normal((trace.n_rows, len(OPS), WIDTH))
    trace.values = (values * (1 + noise * rng.standard_normal(values.shape))).astype(np.float32)
    return trace


def spoil(trace: Sketched, request: str, position: int, op: str, by: float = 0.5) -> None:
    """Change one row of one op, and all that depends on it."""
    number = [r.id for r in trace.requests].index(request)
    later = (trace.row_request == number) & (trace.row_position >= position)
    row, first = trace.at(request, position), OPS.index(op)
    trace.values[row, first] += np.float32(by)
    trace.values[later, first + 1 :] += np.float32(by)


def test_a_run_is_close_to_itself() -> None:
    found = compare_sketches(sketched(), sketched())
    assert (found.verdict, found.first, found.apart) == ("close", None, 0)
    # seven ops on thirteen rows, logits on the five that sample; "sampled" is no float
    assert found.compared == 13 * 7 + 5
    assert found.worst is not None
    assert found.worst.units == 0


def test_roundings_are_close_and_are_told_in_units_of_the_coarser_dtype() -> None:
    found = compare_sketches(sketched(), sketched("bfloat16", noise=2.0**-9))
    assert (found.verdict, found.dtype, found.unit) == ("close", "bfloat16", 2.0**-8)
    assert found.worst is not None
    assert 0.3 < found.worst.units < 3


def test_the_same_difference_is_not_close_in_float32() -> None:
    """Negative control of the test above."""
    found = compare_sketches(sketched(), sketched(noise=2.0**-9))
    assert found.verdict == "apart"


@pytest.mark.parametrize(("request_", "position", "op"), [("r0", 3, "0.attn"), ("r1", 4, "1.qkv")])
def test_the_first_op_that_rounding_does_not_explain_is_named(request_: str, position: int, op: str) -> None:
    wrong = sketched(noise=1e-7)
    spoil(wrong, request_, position, op)
    found = compare_sketches(sketched(), wrong)
    assert found.verdict == "apart"
    assert found.first is not None
    assert (found.first.request, found.first.position) == (request_, position)
    assert f"{found.first.layer}.{found.first.op}" == op
    assert found.first.step == sketched().row_step[sketched().at(request_, position)]
    assert found.first.units > found.first.allowed


@pytest.mark.parametrize("rows", [slice(0, 1), slice(None)], ids=["the first row", "every row"])
def test_a_row_that_is_finite_in_neither_run_is_not_the_worst(rows: slice) -> None:
    runs = sketched(), sketched()
    for run in runs:
        run.values[rows] = np.inf
    found = compare_sketches(*runs)
    if rows.stop is None:
        assert (found.verdict, found.compared, found.worst) == ("unknown", 0, None)
    else:
        assert found.worst is not None
        assert found.worst.units == 0


def test_what_follows_another_token_is_not_compared() -> None:
    other = sketched(
        token=lambda request, position: position + (2 if (request, position) == ("r0", 6) else 1)
    )
    spoil(other, "r0", 6, "embedding")
    found = compare_sketches(sketched(), other)
    assert (found.verdict, found.compared) == ("close", 11 * 7 + 3)


def test_a_trace_without_sketches_is_refused() -> None:
    bare = sketched()
    bare.has_sketches = False
    with pytest.raises(TraceError, match="has no sketches") as error:
        compare_sketches(sketched(), bare)
    assert "record.sketch" in error.value.hint


def test_shares_of_other_ranks_are_not_compared() -> None:
    kinds = [OpKind.CUT if op.endswith("attn") else OpKind.REPLICATED for op in OPS]
    one, two = sketched(), sketched(ranks=2, kinds=tuple(kinds))
    two.values[:, kinds.index(OpKind.CUT)] += 1
    found = compare_sketches(one, two)
    assert (found.verdict, found.compared) == ("close", 13 * 5 + 5)
    assert compare_sketches(two, two).compared == 13 * 7 + 5


def test_traces_without_an_op_in_common_cannot_be_told_apart() -> None:
    other = sketched()
    other.ops = tuple(f"other.{op}" for op in other.ops)
    found = compare_sketches(sketched(), other)
    assert (found.verdict, found.compared, found.worst) == ("unknown", 0, None)


def test_a_dtype_without_a_unit_is_refused() -> None:
    with pytest.raises(TraceError, match="was computed in float8"):
        compare_sketches(sketched(), sketched("float8"))


def test_units_of_what_is_not_finite() -> None:
    finite, broken = np.ones((1, PARTS), np.float32), np.full((1, PARTS), np.inf, np.float32)
    none = np.full((1, PARTS), np.nan, np.float32)
    unit = UNITS["float32"]
    assert units_apart(finite, broken, unit)[0] == np.inf
    assert np.isnan(units_apart(finite, none, unit)[0])
    assert np.isnan(units_apart(broken, broken, unit)[0])
    assert units_apart(0 * finite, 0 * finite, unit)[0] == 0
