"""What a trace must hold of the run that it was made from."""

import json
from pathlib import Path

import numpy as np

from detrec.recorder.reader import TraceReader
from tests.bits import assert_same_bits
from tests.recorder.runs import MANIFEST, OPS, REQUESTS, Run, files_of

URL = "memory://traces/run.zarr"


def assert_holds(reader: TraceReader, run: Run, steps: int) -> None:
    """The reader gives the first `steps` steps of the run, and no more."""
    played = run.played[:steps]
    assert (reader.n_steps, reader.requests, reader.ops) == (steps, REQUESTS, OPS)
    assert reader.manifest == MANIFEST
    assert list(reader.steps()) == [one.step for one in played]
    assert [reader.finished(one.step.index) for one in played] == [tuple(one.finished) for one in played]
    assert [reader.kernels_of(one.step.index) for one in played] == [one.kernels for one in played]
    assert reader.step_seconds.tolist() == [one.seconds for one in played]
    assert reader.column("steps/padded_rows").tolist() == [one.padded_rows for one in played]
    assert reader.column("steps/graph_bucket").tolist() == [one.graph_bucket for one in played]
    rows = [
        (one.step.index, part.request, position)
        for one in played
        for part in one.step.slices
        for position in range(part.start, part.stop)
    ]
    names = [REQUESTS[index].id for index in reader.row_request]
    assert list(zip(reader.row_step, names, reader.row_position, strict=True)) == rows
    assert reader.row_token.tolist() == [token for one in played for token in one.tokens]
    assert reader.row_token.dtype == np.int32
    samples = reader.samples()
    drawn = [(one.step.index, sample) for one in played for sample in one.samples]
    assert reader.n_samples == len(drawn)
    assert samples.step.tolist() == [step for step, _ in drawn]
    assert [REQUESTS[index].id for index in samples.request] == [sample.request for _, sample in drawn]
    for name in ("position", "token", "taken", "logprob", "margin", "seed", "counter", "finish"):
        assert getattr(samples, name).tolist() == [getattr(sample, name) for _, sample in drawn], name
    for rank in range(run.ranks if played else 0):
        whole = np.concatenate([one.fingerprints[rank] for one in played])
        assert_same_bits(reader.fingerprints(0, reader.n_rows, rank), whole)
        for start, stop in ((0, 0), (3, 4), (15, 17), (16, 32), (reader.n_rows // 2, reader.n_rows)):
            if stop > reader.n_rows:
                continue
            assert_same_bits(reader.fingerprints(start, stop, rank), whole[start:stop])


def content(path: Path) -> dict[str, object]:
    """All that recordings of one run share: every byte but the uuid, wall times and their digests."""
    files = {key: data for key, data in files_of(path) if not key.startswith("steps/seconds/c/")}
    attributes = json.loads(files.pop("zarr.json"))["attributes"]
    for changing in ("uuid", "digest"):
        del attributes[changing]
    attributes["digests"] = {
        k: v for k, v in attributes["digests"].items() if not k.startswith("steps/seconds/c/")
    }
    # a string keeps the order of keys
    return {**files, "root": json.dumps(attributes)}
