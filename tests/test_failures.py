"""Whatever a failing test prints, the log ends with its name."""

import subprocess
import sys

import pytest

from tests.command import ROOT
from tests.failures import ROOM, last_line

FAILING = """
import pytest

@pytest.fixture
def broken():
    raise ValueError("no")

@pytest.mark.parametrize("size", [1, 2])
def test_fails(size):
    assert not "long text " * 100

def test_is_not_reached(broken):
    pass

def test_passes():
    pass
"""


@pytest.mark.parametrize("workers", [[], ["-n", "1"]], ids=["alone", "xdist"])
def test_the_last_line_of_a_run_names_what_failed(tmp_path, workers):
    (tmp_path / "test_it.py").write_text(FAILING)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        *workers,
        "-p",
        "tests.failures",
        "-p",
        "no:cacheprovider",
    ]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), "-c", "/dev/null", str(tmp_path)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    *_, summary, last = done.stdout.splitlines()
    assert done.returncode == 1, done.stderr
    assert summary.startswith("2 failed, 1 passed, 1 error in ")
    assert last == (
        "failed: test_it.py::test_fails[1], test_it.py::test_fails[2], test_it.py::test_is_not_reached"
    )


def test_more_than_there_is_room_for_is_counted():
    names = [f"tests/tui/test_panes.py::test_{'x' * 50}_{number}" for number in range(9)]
    line = last_line(names)
    assert line.startswith("failed: tui/test_panes.py::test_xxx")
    assert line.endswith("_1, and 7 more")
    assert len(line) < ROOM + len(", and 7 more")
    assert len(last_line(["tests/" + "y" * 500])) < ROOM + 10


def test_what_fails_twice_is_named_once():
    assert last_line(["tests/a.py::b", "tests/a.py::b"]) == "failed: a.py::b"
