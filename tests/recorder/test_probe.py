"""A probe hands the writer one fingerprint for every row of every op, and nothing it was not told."""

from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detrec.config import serve_config
from detrec.engines.base import Event, EventKind, Kind, Sample, Slice, Step
from detrec.engines.builtin.engine import BuiltinEngine
from detrec.kernels.projections import PARTS
from detrec.kernels.share import Share, Span, summed
from detrec.kernels.workspace import Workspace
from detrec.recorder.probe import TraceProbe
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import record
from detrec.recorder.steps import Record
from tests.bits import assert_same_bits

OPS = ("embedding", "0.o_partial", "0.o_proj", "logits", "logits_penalised", "sampled")
# three rows, the last of each slice that samples: rows 1 and 2
STEP = Step(0, (Slice("a", 0, 2, Kind.PREFILL, True), Slice("b", 4, 5, Kind.DECODE, True)))
TOKENS = [1, 2, 3]


class Steps:
    """Stands for a TraceWriter: keeps what it is given."""

    def __init__(self, sketch_parts: int = 0) -> None:
        self.sketch_parts = sketch_parts
        self.given: list[Record] = []

    def step(self, record: Record) -> None:
        # the probe goes on with its memory
        self.given.append(replace(record, fingerprints=np.array(record.fingerprints)))


class Sums:
    """A fingerprint that can be checked by eye, and counts its calls."""

    calls = 0

    def __call__(self, x: np.ndarray, out: np.ndarray) -> None:
        assert x.ndim == 2
        self.calls += 1
        out[:] = x.astype(np.uint64).sum(axis=1)


def probe_of() -> tuple[TraceProbe, Steps, Sums]:
    writer, sums = Steps(), Sums()
    return TraceProbe(writer, OPS, fingerprint=sums), writer, sums


def rows(*values: int) -> np.ndarray:
    return np.array([[value, 0] for value in values], np.float32)


def test_a_step_is_handed_over_whole() -> None:
    probe, writer, _ = probe_of()
    sample, event = Sample("a", 1, 7, 7, -0.5, 0.1, 42, 1), Event(EventKind.FINISHED, "a", 1)
    probe.step(STEP, TOKENS)
    probe.op("embedding", rows(1, 2, 3), 0, "e")
    probe.op("logits", rows(4, 5), 0, "l")
    probe.sampled((sample,), (event,))
    (given,) = writer.given
    assert (given.step, given.tokens, given.kernels) == (STEP, TOKENS, ("e", "", "", "l", "", ""))
    assert (given.samples, given.finished) == ((sample,), (event,))
    assert 0 < given.seconds < 10
    # rows down, ops across; an op on sampled rows stands at them
    expected = [[1, 0, 0, 0, 0, 0], [2, 0, 0, 4, 0, 0], [3, 0, 0, 5, 0, 0]]
    assert_same_bits(given.fingerprints, np.array(expected, np.uint64))


def test_a_step_keeps_nothing_of_the_step_before() -> None:
    probe, writer, _ = probe_of()
    for width in (3, 1, 5):
        step = Step(0, (Slice("a", 0, width, Kind.PREFILL, False),))
        probe.step(step, list(range(width)))
        if width == 3:
            probe.op("embedding", rows(1, 2, 3), 0, "e")
        probe.sampled((), ())
    assert [given.fingerprints.shape for given in writer.given] == [(3, 6), (1, 6), (5, 6)]
    assert [given.kernels[0] for given in writer.given] == ["e", "", ""]
    assert not writer.given[1].fingerprints.any()
    assert not writer.given[2].fingerprints.any()


def test_the_same_array_reported_again_is_fingerprinted_once() -> None:
    probe, writer, sums = probe_of()
    probe.step(STEP, TOKENS)
    same, scores = rows(1, 2, 3), rows(4, 5)
    probe.op("0.o_partial", same, 0, "m")
    probe.op("0.o_proj", same, 0, "one rank")
    probe.op("logits", scores, 0, "l")
    probe.op("logits_penalised", scores, 0, "p")
    probe.sampled((), ())
    prints = writer.given[0].fingerprints
    assert sums.calls == 2
    assert prints[:, 1].tolist() == prints[:, 2].tolist() == [1, 2, 3]
    assert prints[:, 3].tolist() == prints[:, 4].tolist() == [0, 4, 5]
    assert writer.given[0].kernels[1:5] == ("m", "one rank", "l", "p")


def test_an_array_is_not_taken_for_one_of_another_step() -> None:
    probe, writer, sums = probe_of()
    same = rows(1, 2, 3)
    for factor in (1, 2):
        probe.step(STEP, TOKENS)
        # the engine reuses its memory, and here even the object
        same[:] = rows(1, 2, 3) * factor
        probe.op("0.o_partial", same, 0, "m")
        probe.sampled((), ())
    assert sums.calls == 2
    assert [given.fingerprints[:, 1].tolist() for given in writer.given] == [[1, 2, 3], [2, 4, 6]]


def test_structures_are_fingerprinted_as_words() -> None:
    probe, writer, _ = probe_of()
    drawn = np.zeros(
        2, [("token", np.int64), ("logprob", np.float64), ("seed", np.int64), ("counter", np.int64)]
    )
    drawn["token"], drawn["seed"] = (1, 2), (10, 20)
    probe.step(STEP, TOKENS)
    probe.op("sampled", drawn, 0, "s")
    probe.sampled((), ())
    assert writer.given[0].fingerprints[:, 5].tolist() == [0, 11, 22]


def test_an_output_with_other_rows_is_refused() -> None:
    probe, _, _ = probe_of()
    probe.step(STEP, TOKENS)
    with pytest.raises(ValueError, match="embedding: expected 3 rows, got 2"):
        probe.op("embedding", rows(1, 2), 0, "e")
    with pytest.raises(ValueError, match="logits: expected 2 rows, got 3"):
        probe.op("logits", rows(1, 2, 3), 0, "l")
    with pytest.raises(KeyError):
        probe.op("1.attn", rows(1, 2, 3), 0, "a")


def test_the_kernel_is_the_fingerprint_unless_another_is_given() -> None:
    from detrec.kernels.cpu.fingerprint import fingerprint

    writer = Steps()
    probe = TraceProbe(writer, OPS)
    x = np.random.default_rng(3).standard_normal((3, 5)).astype(np.float32)
    probe.step(STEP, TOKENS)
    probe.op("embedding", x, 0, "e")
    probe.sampled((), ())
    expected = np.zeros(3, np.uint64)
    fingerprint(x, expected)
    assert_same_bits(writer.given[0].fingerprints[:, 0].copy(), expected)


def test_ranks_that_share_a_row_record_it_in_sum() -> None:
    shares = Share(8, (Span(0, 0, 4),)), Share(8, (Span(0, 4, 4),))
    x = np.random.default_rng(3).standard_normal((3, 8)).astype(np.float32)
    given = []
    for part, share in ((x, None), (x[:, :4], shares[0]), (x[:, 4:], shares[1])):
        writer = Steps()
        probe = TraceProbe(writer, OPS, shares={"0.o_proj": share} if share else {})
        probe.step(STEP, TOKENS)
        # the same array, whole: it is another fingerprint
        probe.op("0.o_partial", part, 0, "m")
        probe.op("0.o_proj", part, 0, "r")
        probe.sampled((), ())
        given.append(writer.given[0].fingerprints)
    whole, left, right = given
    assert_same_bits(summed(np.stack([left[:, 2], right[:, 2]], axis=1)), whole[:, 2].copy())
    assert (left[:, 1] != left[:, 2]).all()


def test_floats_are_sketched_where_they_were_computed() -> None:
    writer = Steps(PARTS)
    probe = TraceProbe(writer, OPS)
    probe.step(STEP, TOKENS)
    probe.op("embedding", rows(3, 4, 5), 0, "e")
    probe.op("logits", rows(6, 7), 0, "l")
    probe.op("sampled", np.zeros((2, 1), np.int64), 0, "s")
    probe.sampled((), ())
    sketches = writer.given[0].sketches
    assert sketches is not None
    assert sketches.shape == (3, len(OPS), PARTS)
    assert_same_bits(sketches[:, 0, 0], np.array([3, 4, 5], np.float32))
    assert_same_bits(sketches[1:, 3, 0], np.array([6, 7], np.float32))
    # what does not sample, was not computed or is no float has none
    assert np.isnan(sketches[0, 3]).all()
    assert np.isnan(sketches[:, [1, 2, 4, 5]]).all()


def test_nothing_is_sketched_where_nobody_keeps_it() -> None:
    probe, writer, _ = probe_of()
    probe.step(STEP, TOKENS)
    probe.sampled((), ())
    assert writer.given[0].sketches is None


@pytest.mark.parametrize("few", [2, 16, 17])
def test_outputs_that_last_are_fingerprinted_as_those_that_do_not(few: int) -> None:
    """Of 2 and 16 rows some at a time, of 17 one by one: neighbours, strangers between, what is left over."""
    names = ("embedding", *(f"{layer}.{op}" for layer in range(2) for op in ("a", "b", "c", "d", "e", "f")))
    ops, rng, given = (*names, "logits", "sampled"), np.random.default_rng(2), []
    step = Step(0, (Slice("a", 0, few, Kind.PREFILL, True),))
    outputs = {name: rng.standard_normal((few, 7)).astype(np.float32) for name in names}
    # rows that do not follow each other
    outputs["1.b"] = rng.standard_normal((few, 7)).astype(np.float32)[:, :5]
    outputs |= {"logits": rows(1), "sampled": np.ones((1, 2), np.int64)}
    for lasting in (False, True):
        writer = Steps()
        probe = TraceProbe(writer, ops, lasting=lasting)
        # the order of the trace, and once more in another one
        for order in (ops, ops, ops[::-1]):
            probe.step(step, list(range(few)))
            for name in order:
                probe.op(name, outputs[name], 0, f"kernel of {name}")
            probe.sampled((), ())
        given.append(writer.given)
    for alone, together in zip(*given, strict=True):
        assert_same_bits(together.fingerprints, alone.fingerprints)
        assert together.kernels == alone.kernels == tuple(f"kernel of {name}" for name in ops)


# more than a layer takes: an engine that needs an array for longer would not give the same fingerprints
KEPT = 20


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an engine on the CPU computed is overwritten as early as it may be."""
    begin, empty, given = Workspace.begin, Workspace.empty, deque[np.ndarray]()

    def begin_anew(self: Workspace, nbytes: int) -> None:
        given.clear()
        begin(self, nbytes)

    def take(self: Workspace, *shape_and_dtype: Any) -> np.ndarray:
        given.append(empty(self, *shape_and_dtype))
        if len(given) > KEPT:
            given.popleft().view(np.uint8)[...] = 0xFF
        return given[-1]

    monkeypatch.setattr(Workspace, "begin", begin_anew)
    monkeypatch.setattr(Workspace, "empty", take)


@pytest.mark.parametrize("level", ["op", "layer"])
def test_an_engine_keeps_its_outputs_for_as_long_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgetful: None, level: str
) -> None:
    requests = [{"id": name, "prompt": name * 3, "sampling": {"max_tokens": 5}} for name in "ab"]
    config = serve_config({"model": "builtin:qwen2-tiny", "requests": requests, "record": {"level": level}})
    prints = []
    for lasting in (True, False):
        if not lasting:
            monkeypatch.setattr(BuiltinEngine, "lasting", False)
        record(config, str(tmp_path / f"{lasting}.zarr"))
        trace = TraceReader(tmp_path / f"{lasting}.zarr")
        prints.append(trace.fingerprints(0, trace.n_rows))
    assert_same_bits(*prints)
