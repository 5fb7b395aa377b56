"""The engine on a GPU that is host memory and Triton's interpreter: graphs, padding, and one wait a step."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from detrec.config import serve_config
from detrec.engines.builtin import seeded
from detrec.engines.builtin.gpu_runner import graph_rows
from detrec.kernels import cuda
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import record
from detrec.replayer.replay import replay
from tests.engines.builtin.host_device import host_gpu

pytest.importorskip("paddle")

# three requests that decode together, so that a graph of four rows has one of padding
REQUESTS = [
    {"prompt_token_ids": [1, 2, 3, 4, 5], "sampling": {"temperature": 0, "max_tokens": 4}},
    {"prompt_token_ids": [9, 8, 7], "sampling": {"temperature": 0.8, "top_p": 0.9, "max_tokens": 6}},
    {
        "prompt_token_ids": [5, 5, 6],
        "sampling": {"temperature": 0.7, "repetition_penalty": 1.3, "max_tokens": 4, "min_tokens": 2},
    },
]


@pytest.fixture(scope="module")
def nano():
    """`builtin:nano`: one layer, so that the interpreter runs it in a second or two."""
    with pytest.MonkeyPatch.context() as patch:
        nano = seeded._model("qwen2", 300, 32, 48, 1, (2, 1))
        patch.setitem(seeded._MODELS, "nano", nano)
        yield


def config(**engine):
    settings = {"device": "gpu", "max_model_len": 32, "max_num_seqs": 4, "block_size": 4, **engine}
    return serve_config({"model": "builtin:nano", "engine": settings, "requests": REQUESTS})


@pytest.fixture(scope="module")
def recorded(nano, tmp_path_factory):
    """A trace, and how often the engine waited for the device in it."""
    path = tmp_path_factory.mktemp("gpu") / "run.zarr"
    with host_gpu():
        before = cuda.waits()
        record(config(), str(path))
        return TraceReader(path), cuda.waits() - before


def test_decodes_run_as_graphs_with_padding(recorded):
    trace, _ = recorded
    # three rows are new at first, and worth a graph from their second step on; so is one row
    assert trace.column("steps/graph_bucket").tolist() == [0, 0, 4, 4, 0, 1]
    assert trace.column("steps/padded_rows").tolist() == [11, 3, 4, 4, 1, 1]
    assert np.diff([*trace.column("steps/row_start").tolist(), trace.n_rows]).tolist() == [11, 3, 3, 3, 1, 1]


def test_a_recorded_step_waits_once(recorded):
    trace, waits = recorded
    assert waits == trace.n_steps


def test_every_op_of_every_row_is_recorded(recorded):
    trace, _ = recorded
    prints = trace.fingerprints(0, trace.n_rows)
    drawn = np.zeros(trace.n_rows, bool)
    drawn[np.flatnonzero(prints[:, -1])] = True
    assert drawn.sum() == trace.n_samples
    assert (prints[:, :-4] != 0).all()
    assert (prints[drawn] != 0).all()


@pytest.mark.parametrize(
    ("mode", "override"),
    [
        ("schedule", "engine.use_cudagraph=false"),
        ("free", "engine.max_num_seqs=1"),
        ("free", "engine.block_size=16"),
    ],
)
def test_a_replay_is_identical(recorded, mode, override):
    trace, _ = recorded
    with host_gpu():
        again = replay(str(trace.path), mode=mode, overrides=[override])
    assert again.comparison.verdict == "identical"


def test_where_outputs_do_not_last_fingerprints_are_made_in_the_graph(recorded, monkeypatch):
    trace, _ = recorded
    monkeypatch.setattr("detrec.kernels.workspace.DeviceWorkspace.holds", lambda self, nbytes: False)
    with host_gpu():
        again = replay(str(trace.path))
    assert again.comparison.verdict == "identical"


def test_a_padding_row_that_reaches_a_block_is_seen(recorded, monkeypatch):
    """Negative control: were the padding row's slot 0 instead of none, a replay would not be identical."""
    trace, _ = recorded
    monkeypatch.setattr("detrec.engines.builtin.gpu_inputs.PADDING", 0)
    with host_gpu():
        again = replay(str(trace.path))
    assert again.comparison.verdict == "diverged"


def test_the_cpu_engine_says_the_same(recorded):
    trace, _ = recorded
    again = replay(str(trace.path), overrides=["engine.device=cpu"])
    # the interpreter's sums are not a GPU's: tokens, not bits
    assert again.comparison.tokens.equal
    keys = {difference.key for difference in again.comparison.manifest_diff}
    assert {"config.engine.device", "engine.device.kind", "engine.device.name"} <= keys


def test_more_bans_than_a_graph_has_room_for(nano, tmp_path):
    # alone at first, then beside one whose bans are more than a graph of one row expects, then that one alone
    bans = {"min_tokens": 6, "max_tokens": 6, "stop_token_ids": list(range(40)), "temperature": 0}
    requests = [
        {"prompt_token_ids": [1, 2], "sampling": {"temperature": 0, "max_tokens": 6}},
        {"prompt_token_ids": [3, 4], "arrival": 4, "sampling": bans},
    ]
    settings = {"device": "gpu", "max_model_len": 32, "max_num_seqs": 4, "block_size": 4}
    data = {"model": "builtin:nano", "engine": settings, "requests": requests}
    with host_gpu():
        on_gpu = record(serve_config(data), str(tmp_path / "gpu.zarr"))
    settings["device"] = "cpu"
    assert on_gpu.outputs == record(serve_config(data), str(tmp_path / "cpu.zarr")).outputs
    assert not set(on_gpu.outputs["r1"]) & set(range(40))


@pytest.mark.parametrize(("rows", "expected"), [(1, 1), (2, 2), (3, 4), (8, 8), (9, 16), (64, 64), (65, 72)])
def test_a_graph_has_room_for_its_rows(rows, expected):
    assert graph_rows(rows) == expected


@pytest.mark.parametrize("reduction", ["ranks", "tp_invariant"])
def test_two_ranks_go_on_with_the_tokens_of_one(reduction):
    """Sums, gathered logits and graphs of ranks that are processes, each with a GPU that is the host."""

    def ranks_do(size):
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "tests.engines.builtin.gpu_ranks",
            str(size),
            reduction,
        ]
        root = Path(__file__).parents[3]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout)

    assert ranks_do(2) == 2 * ranks_do(1)
