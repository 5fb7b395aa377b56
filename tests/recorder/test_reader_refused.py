"""What is no trace, or not all of one, is not read as if it were."""

from pathlib import Path

import pytest

from detrec.errors import TraceCorrupt, TraceError, TraceVersion
from detrec.recorder import digests
from detrec.recorder.reader import TraceReader
from tests.recorder.runs import Run


def test_a_missing_chunk_never_reads_as_zeros(tmp_path: Path, small_chunks: None) -> None:
    Run().record(tmp_path / "run.zarr")
    (tmp_path / "run.zarr/fingerprints/0/c/1/0").unlink()
    reader = TraceReader(tmp_path / "run.zarr")
    assert len(reader.fingerprints(0, 16)) == 16
    with pytest.raises(TraceCorrupt, match="fingerprints/0/c/1/0: is missing"):
        reader.fingerprints(0, 17)


def test_a_changed_chunk_is_not_believed(tmp_path: Path, small_chunks: None) -> None:
    Run().record(tmp_path / "run.zarr")
    for key in ("fingerprints/0/c/1/0", "rows/token/c/0", "requests/arrival/c/0"):
        file = tmp_path / "run.zarr" / key
        data = bytearray(file.read_bytes())
        data[3] ^= 1
        file.write_bytes(data)
    reader = TraceReader(tmp_path / "run.zarr")
    with pytest.raises(TraceCorrupt, match="fingerprints/0/c/1/0"):
        reader.fingerprints(20, 21)
    with pytest.raises(TraceCorrupt, match="rows/token/c/0"):
        _ = reader.row_token
    with pytest.raises(TraceCorrupt, match="requests/arrival/c/0"):
        _ = reader.requests


def test_what_is_not_a_trace_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no such trace"):
        TraceReader(tmp_path / "run.zarr")
    with pytest.raises(TraceError, match="it has no zarr"):
        TraceReader(tmp_path)
    (tmp_path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    with pytest.raises(TraceError, match="not detrec's"):
        TraceReader(tmp_path)


def test_another_version_is_named_with_the_way_out(tmp_path: Path) -> None:
    Run().record(tmp_path / "run.zarr")
    (tmp_path / "run.zarr/zarr.json").write_bytes(digests.root_bytes({"format_version": 99}))
    with pytest.raises(TraceVersion, match="trace format 99, this detrec reads 1") as raised:
        TraceReader(tmp_path / "run.zarr")
    assert "detrec that recorded it" in raised.value.hint


def test_rows_that_are_not_there_are_a_callers_mistake(tmp_path: Path) -> None:
    Run().record(tmp_path / "run.zarr")
    reader = TraceReader(tmp_path / "run.zarr")
    for rows in ((0, reader.n_rows + 1), (-1, 2), (3, 2)):
        with pytest.raises(ValueError, match="are not among"):
            reader.fingerprints(*rows)
    with pytest.raises(ValueError, match="are not among"):
        reader.fingerprints(0, 1, rank=1)
