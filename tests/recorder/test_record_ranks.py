"""A run on several ranks, recorded: the same bytes again, and a whole beginning when a rank is killed."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from detrec.config import ServeConfig, serve_config
from detrec.engines.base import OpKind
from detrec.engines.start import start_engine
from detrec.errors import RankLost
from detrec.kernels.share import summed
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import record, run_recorded
from detrec.recorder.verify import verify
from tests.engines.rank_threads import ranks_as_threads
from tests.recorder.held import content


def config(ranks: int, max_tokens: int = 6, **engine: object) -> ServeConfig:
    settings = {"max_model_len": 256, "tensor_parallel_size": ranks, **engine}
    requests = [
        {
            "id": name,
            "prompt_token_ids": [3, 1, 4, 1, seed],
            "sampling": {"seed": seed, "max_tokens": max_tokens, "ignore_eos": True},
        }
        for seed, name in enumerate("ab")
    ]
    return serve_config({"model": "builtin:qwen2-tiny", "engine": settings, "requests": requests})


@pytest.fixture
def threads() -> Iterator[None]:
    with ranks_as_threads():
        yield


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording on two ranks."""
    path = tmp_path_factory.mktemp("ranks") / "two.zarr"
    with ranks_as_threads():
        record(config(2), str(path))
    return path


def test_two_recordings_have_the_same_bytes(two: Path, tmp_path: Path) -> None:
    record(config(2), str(tmp_path / "again.zarr"))
    assert content(tmp_path / "again.zarr") == content(two)
    assert verify(two).status == "complete"


def test_each_rank_records_what_it_holds(two: Path) -> None:
    trace = TraceReader(two)
    prints = np.stack([trace.fingerprints(0, trace.n_rows, rank) for rank in range(2)], axis=2)
    drawn = prints[:, trace.ops.index("sampled"), 0] != 0
    for column, (op, kind) in enumerate(zip(trace.ops, trace.kinds, strict=True)):
        cells = prints[drawn if op.startswith(("log", "sampled")) else slice(None), column]
        assert cells.all(), op
        assert (cells[:, 0] == cells[:, 1]).all() == (kind is OpKind.REPLICATED), op


def test_what_is_cut_adds_up_to_what_one_rank_computes(tmp_path: Path, threads: None) -> None:
    traces = []
    for ranks in (1, 2):
        path = tmp_path / f"{ranks}.zarr"
        record(config(ranks, reduction="tp_invariant"), str(path))
        traces.append(TraceReader(path))
    one, two = traces
    whole = one.fingerprints(0, one.n_rows)
    both = np.stack([two.fingerprints(0, two.n_rows, rank) for rank in range(2)], axis=2)
    for column, (op, kind) in enumerate(zip(two.ops, two.kinds, strict=True)):
        found = summed(both[:, column]) if kind is OpKind.CUT else both[:, column, 0]
        assert (found == whole[:, column]).all() == (kind is not OpKind.PARTIAL), op


def ranks_of_this_process() -> Iterator[int]:
    """The processes of ranks that this one has started."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # the name, in brackets, may hold anything
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid() and b"other_rank" in (entry / "cmdline").read_bytes():
                yield int(entry.name)


def test_a_killed_rank_leaves_what_all_ranks_had_written(tmp_path: Path) -> None:
    path, setup = tmp_path / "run.zarr", config(2, max_tokens=200)
    engine = start_engine(setup)
    (rank,) = ranks_of_this_process()

    def kill(phase: str, done: int, total: int) -> None:
        if phase == "run" and done == 150:
            os.kill(rank, signal.SIGKILL)

    with pytest.raises(RankLost, match="rank 1"):
        run_recorded(engine, engine.own_scheduler(), setup, str(path), progress=kill)
    trace = TraceReader(path)
    assert trace.status == "failed"
    assert "rank 1" in trace.reason
    assert 0 < trace.n_steps <= 76
    assert verify(path).steps == trace.n_steps
    assert trace.fingerprints(0, trace.n_rows, 1)[:, 0].all()


def test_an_interrupted_run_keeps_every_step_of_every_rank(tmp_path: Path) -> None:
    path, setup = tmp_path / "run.zarr", config(2, max_tokens=200)
    engine = start_engine(setup)

    def interrupt(phase: str, done: int, total: int) -> None:
        if phase == "run" and done == 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_recorded(engine, engine.own_scheduler(), setup, str(path), progress=interrupt)
    assert not list(ranks_of_this_process())
    assert TraceReader(path).n_steps == 50
    assert verify(path).status == "failed"
