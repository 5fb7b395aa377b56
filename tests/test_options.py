"""Options that contradict each other, are empty or would be ignored: refused, and what is there stays."""

import shlex
import shutil
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from detrec import options
from detrec.cli import app
from detrec.examples import EXAMPLES
from detrec.replayer.replay import MODES
from tests.command import ROOT, detrec

COMMANDS = typer.main.get_command(app).commands
REFUSED = [
    ("record serve.yaml --level ''", "--level", "it is empty"),
    ("record serve.yaml --fault ''", "--fault", "it is empty"),
    ("replay RUN --keep-tensors ''", "--keep-tensors", "it is empty"),
    ("replay RUN --by ''", "--by", "it is empty"),
    ("report RUN --at ' '", "--at", "it is empty"),
    ("report RUN --tensors ''", "--tensors", "it is empty"),
    ("report RUN -o ''", "--output", "it is empty"),
    ("report RUN --json -o x.html", "-o x.html", "writes no file"),
    ("report RUN --json --overwrite", "--overwrite", "writes no file"),
    ("replay RUN --overwrite", "--overwrite", "nothing is kept without -o"),
    ("replay RUN --mode tokns", "--mode tokns", "did you mean tokens?"),
    ("replay RUN --by bit", "--by bit", "within tolerance"),
    ("replay RUN --set record.output=x.zarr", "--set record.output", "-o"),
    ("replay RUN --set record.level=layer", "--set record.level", "--level"),
    ("replay RUN --set record={}", "--set record", "-o"),
    ("replay RUN --set requestsx=1", "unknown key 'requestsx'", "did you mean requests?"),
    ("explore RUN --mode foo", "--mode", "no OTHER is named"),
    ("explore RUN --set engine.seed=1", "--set", "no OTHER is named"),
    ("explore RUN --fault bitflip", "--fault", "no OTHER is named"),
    ("explore RUN RUN --mode foo", "--mode foo", "detrec replay --help"),
    ("explore RUN RUN --set engine.seed", "--set engine.seed", "key=value"),
    ("explore RUN RUN --fault bitflop", "--fault bitflop", "did you mean bitflip?"),
    ("explore RUN RUN --mode ''", "--mode", "it is empty"),
    ("report RUN -o NAME.html", "NAME.html", "too long"),
    ("report RUN -o RUN/x.html", "lies in", "a trace"),
    ("replay RUN -o RUN/x.zarr", "lies in", "a trace"),
    ("replay RUN --keep-tensors RUN/x", "lies in", "a trace"),
    ("replay RUN --keep-tensors serve.yaml/x", "--keep-tensors", "is a file"),
    ("report RUN --at greedy:99999999999999999999999", "--at", "nothing was computed there"),
    ("report RUN --tensors /nonexistent", "--tensors /nonexistent", "No such file"),
]


@pytest.mark.parametrize(("line", "what", "more"), REFUSED, ids=[line for line, *_ in REFUSED])
def test_what_would_be_ignored_or_lost_is_refused(line, what, more, run, tmp_path):
    name = "x" * 300
    words = shlex.split(
        line.replace("RUN", str(run)).replace("NAME", name).replace("serve.yaml", str(ROOT / "serve.yaml"))
    )
    before = sorted(path for path in run.rglob("*"))
    done = detrec(*words, cwd=tmp_path)
    error, hint = done.stderr.splitlines()
    assert (done.code, done.stdout) == (2, "")
    assert what.replace("NAME", name) in error
    assert more in error or more in hint
    assert "[Errno" not in error
    assert not list(tmp_path.iterdir())
    assert sorted(path for path in run.rglob("*")) == before


def test_a_replay_does_not_overwrite_what_it_replays(run, tmp_path):
    path = tmp_path / "run.zarr"
    shutil.copytree(run, path)
    (tmp_path / "link.zarr").symlink_to(path)
    for name in ("run.zarr", "link.zarr", f"file://{path}", f"{tmp_path}/./run.zarr/"):
        done = detrec("replay", "run.zarr", "-o", name, "--overwrite", cwd=tmp_path)
        assert (done.code, "is the recording itself" in done.stderr) == (2, True), done
    assert detrec("verify", path).code == 0


def test_the_shell_completes_to_the_modes_there_are():
    assert options.MODES == MODES


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("detrec rep", ["replay", "report"]),
        ("detrec replay --mode t", ["tokens"]),
        ("detrec record --level l", ["layer"]),
        ("detrec replay --fault weight_b", ["weight_bitflip"]),
        ("detrec replay --keep", ["--keep-tensors"]),
    ],
)
def test_the_shell_completes_commands_options_and_their_values(words, expected):
    program = "import sys; sys.argv = ['detrec']; from detrec.main import main; main()"
    environment = {
        "_DETREC_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == (expected, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_ends_with_lines_that_parse_and_the_exit_codes(command):
    done = CliRunner().invoke(app, [command, "-h"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert " Exit codes: 0 " in done.stdout
    for line in EXAMPLES[command]:
        assert line in done.stdout
        program, name, *words = shlex.split(line)
        assert (program, name in COMMANDS) == ("detrec", True)
        COMMANDS[name].make_context(name, words)
