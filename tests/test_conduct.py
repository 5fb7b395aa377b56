"""However the command is called: streams that are closed or full, other encodings, signals."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from detrec import interrupt
from tests.command import ROOT, detrec

COMMAND = f"{shlex.quote(sys.executable)} -m detrec"
# what is printed reaches a closed or full stream only when it is flushed
BUFFERED = {**os.environ, "PYTHONUNBUFFERED": "", "PYTHONPATH": str(ROOT)}
full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")


def shell(line: str, cwd: Path = ROOT, **environment: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a line of `detrec`; no traceback is ever right."""
    done = subprocess.run(
        ["bash", "-c", line.replace("detrec ", f"{COMMAND} ", 1)],
        cwd=cwd,
        env={**BUFFERED, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("arguments", ["--help", "record --help", "--version"])
def test_a_reader_that_leaves_a_help_early_is_no_divergence(arguments):
    assert shell(f"detrec {arguments} | true; exit ${{PIPESTATUS[0]}}") == (0, "", "")


@full
@pytest.mark.parametrize("arguments", ["--help", "--version", "faults"])
def test_what_cannot_be_printed_is_said_and_is_no_verdict(arguments):
    code, _, stderr = shell(f"detrec {arguments} > /dev/full")
    assert (code, stderr.splitlines()[0].endswith("No space left on device")) == (2, True)


@full
def test_an_error_that_cannot_be_told_is_no_verdict(tmp_path):
    assert shell(f"detrec info {tmp_path}/none.zarr 2> /dev/full") == (2, "", "")
    assert shell(f"detrec info {tmp_path}/none.zarr 2>&-") == (2, "", "")


def test_a_recording_goes_on_when_nobody_reads_its_notes(tmp_path):
    path = tmp_path / "run.zarr"
    code, stdout, _ = shell(f"detrec record serve.yaml -o {path} --fault bitflip 2> >(true)")
    assert (code, stdout.startswith(f"recorded {path}")) == (0, True)


def test_closed_streams_are_no_files_of_the_trace(tmp_path, run):
    path = tmp_path / "run.zarr"
    assert shell(f"detrec record serve.yaml -o {path} <&- >&- 2>&-")[0] == 0
    assert detrec("verify", path).code == 0
    assert shell(f"detrec replay {run} --no-diagnose <&-")[0] == 0
    code, _, stderr = shell(f"detrec explore {run} <&-")
    assert (code, "needs a terminal" in stderr) == (2, True)


def test_a_path_that_the_terminal_cannot_show_is_escaped(tmp_path, run):
    link = tmp_path / "ü\x1b[31m\n.zarr"
    link.symlink_to(run)
    done = detrec("info", link, PYTHONIOENCODING="ascii")
    assert (done.code, done.stdout.startswith(f"{tmp_path}/\\xfc\\x1b[31m\\n.zarr: complete")) == (0, True)
    done = detrec("info", f"{link}x", PYTHONIOENCODING="utf-8")
    assert done.stderr.splitlines()[0] == f"detrec: error: {tmp_path}/ü\\x1b[31m\\n.zarrx: no such trace"


def test_a_full_disk_is_said_and_what_was_committed_is_kept(tmp_path):
    path = tmp_path / "run.zarr"
    code, stdout, stderr = shell(f"ulimit -f 400; detrec record serve.yaml -o {path}")
    note, error, hint = stderr.splitlines()
    assert (code, stdout, hint.startswith("hint: ")) == (2, "", True)
    assert error == f"detrec: error: {path}: cannot be written: File too large"
    assert note.endswith("what was committed before can be read")
    assert detrec("verify", path).code == 0
    assert [each.name for each in tmp_path.iterdir()] == ["run.zarr"]


def test_a_working_folder_that_is_gone_is_said(tmp_path, run):
    line = "mkdir gone && cd gone && rmdir ../gone && "
    for arguments in ("info x.zarr", f"record {ROOT}/serve.yaml -o x.zarr", f"report {run} -o x.html"):
        code, _, stderr = shell(f"{line} detrec {arguments}", cwd=tmp_path)
        assert (code, len(stderr.splitlines())) == (2, 2), stderr
    assert shell(f"{line} detrec info {run}", cwd=tmp_path)[0] == 0


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_who_ends_a_replay_leaves_no_scratch(run, tmp_path, name):
    # a shell that runs tests in the background has SIGINT ignored, by what they start too
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    command = [sys.executable, "-m", "detrec", "replay", str(run), "--repeat", "1000"]
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}, stderr=subprocess.PIPE, text=True
    ) as replay:
        for number, handler in before.items():
            signal.signal(number, handler)
        while not list(tmp_path.glob("*/replayed.zarr")) and replay.poll() is None:
            time.sleep(0.01)
        replay.send_signal(getattr(signal, name))
        _, stderr = replay.communicate(timeout=30)
    assert (replay.returncode, stderr) == (2, "detrec: interrupted\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("told", [False, True])
def test_an_object_that_an_interruption_left_half_made_says_nothing(monkeypatch, capsys, told):
    class Half:
        def __del__(self):
            raise AttributeError("no attribute")

    monkeypatch.setattr(sys, "unraisablehook", interrupt.heed)
    monkeypatch.setattr(interrupt, "ending", threading.Event())
    if told:
        with pytest.raises(KeyboardInterrupt):
            interrupt._end(signal.SIGTERM, None)
    Half()
    assert ("no attribute" in capsys.readouterr().err) is not told
