"""`detrec report` as a user runs it."""

import json
from pathlib import Path

import pytest

from detrec.errors import ConfigError
from detrec.story.tell import exit_code, tell
from tests.command import detrec
from tests.replayer.survey.traces import written

CHANGES = [("r1", 3, "0.attn")]
CAUSE = {"class": "race", "rule": "repeats", "summary": "it races", "evidence": []}


@pytest.fixture
def runs(tmp_path: Path) -> tuple[str, str]:
    return written(tmp_path / "a.zarr"), written(tmp_path / "b.zarr", changes=CHANGES)


def test_the_command_writes_a_report_and_exits_as_diff_does(runs: tuple[str, str], tmp_path: Path):
    file = tmp_path / "report.html"
    done = detrec("report", *runs, "-o", file)
    assert (done.code, done.stdout.splitlines()[0][: len(str(file))]) == (1, str(file))
    assert "diverged: first at step 1, request r1, position 3, layer 0, op attn" in done.stdout
    assert "<!DOCTYPE html>" in file.read_text()
    again = detrec("report", *runs, "-o", file)
    assert again.code == 2
    assert "exists already" in again.stderr


def test_the_facts_alone_are_one_json_object_and_no_file(runs: tuple[str, str], tmp_path: Path):
    done = detrec("report", *runs, "--json", cwd=tmp_path)
    found, compared = done.json(), detrec("diff", *runs, "--json").json()
    assert done.code == 1
    assert {key: found[key] for key in compared if key != "seconds"} == {
        key: value for key, value in compared.items() if key != "seconds"
    }
    assert not list(tmp_path.glob("report*"))


def test_a_trace_that_is_not_there_is_an_error(runs: tuple[str, str], tmp_path: Path):
    done = detrec("report", runs[0], tmp_path / "no.zarr", "-o", tmp_path / "x.html")
    assert done.code == 2
    assert "no such trace" in done.stderr
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize("two", [False, True], ids=["one run", "two runs"])
def test_a_corrupt_trace_is_told_in_the_first_line_and_is_not_well(
    runs: tuple[str, str], tmp_path: Path, two: bool
):
    other = runs[1] if two else None
    chunk = Path(runs[0], "fingerprints/0/c/0/0")
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"\xff")
    found = tell(runs[0], other, None)
    assert exit_code(found) == 2
    assert found["headline"].startswith("could not tell: " if two else "one run: 4 steps, ")
    assert "fingerprints/0/c/0/0: its bytes are not those that were recorded" in found["headline"]


def test_the_cause_that_a_replay_found_is_told(runs: tuple[str, str], tmp_path: Path):
    first = tell(*runs, None)["first"]
    (tmp_path / "cause.json").write_text(json.dumps({"first": first, "cause": CAUSE}))
    found = tell(*runs, None, cause=str(tmp_path / "cause.json"))
    assert found["cause"] == CAUSE


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        ("[1]", "holds no cause"),
        ('{"first": null, "cause": null}', "holds no cause"),
        (json.dumps({"first": None, "cause": CAUSE}), "another divergence"),
    ],
)
def test_the_cause_of_something_else_is_refused(
    runs: tuple[str, str], tmp_path: Path, content: str | None, says: str
):
    if content is not None:
        (tmp_path / "cause.json").write_text(content)
    with pytest.raises(ConfigError, match=says):
        tell(*runs, None, cause=str(tmp_path / "cause.json"))


def test_a_place_or_a_folder_that_is_not_there_is_refused(runs: tuple[str, str], tmp_path: Path):
    assert tell(*runs, None, at="r0:7")["row"]["position"] == 7
    with pytest.raises(ConfigError, match="--at r9"):
        tell(*runs, None, at="r9")
    with pytest.raises(ConfigError, match=r"--tensors .*holds no tensors"):
        tell(*runs, None, tensors=str(tmp_path))
