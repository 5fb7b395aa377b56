"""Running detrec as a user does: the command, in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
READ_BY_IMPORTS = ("NUMBA_", "OMP_", "PYTHON", "TRITON_")
# Paddle and detrec set these where they are not set, and who has imported them would hand them on
SET_BY_IMPORTS = {"OMP_NUM_THREADS", "GOMP_SPINCOUNT", "CUSTOM_DEVICE_ROOT"} - set(os.environ)


@dataclass(frozen=True)
class Ran:
    """What a command printed, and how it ended."""

    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """stdout, which must be one JSON object and nothing else."""
        return json.loads(self.stdout)


def detrec(*args: object, cwd: Path = ROOT, **environment: str) -> Ran:
    """Run `detrec ARGS`; no traceback is ever right."""
    command = [sys.executable, "-m", "detrec", *map(str, args)]
    done = subprocess.run(
        command, cwd=cwd, env=_with(environment), capture_output=True, text=True, check=False
    )
    return _checked(Ran(done.returncode, done.stdout, done.stderr))


def soon(*args: object, cwd: Path = ROOT, dies: tuple[int, float] | None = None, **environment: str) -> Ran:
    """The same without a second of imports, which tests/nursery.py has done; for commands that run an engine.

    `dies` is when, as tests/mortal.py has it.
    """
    if any(name.startswith(READ_BY_IMPORTS) for name in environment):
        return detrec(*args, cwd=cwd, **environment)
    nursery = _nursery()
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        line = [str(cwd), _with(environment), str(out), str(err), [*map(str, args)], dies]
        nursery.stdin.write(json.dumps(line) + "\n")
        nursery.stdin.flush()
        code = nursery.stdout.readline()
        assert code, f"tests.nursery has ended: {nursery.poll()}"
        return _checked(Ran(int(code), out.read_text(), err.read_text()))


def _with(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in SET_BY_IMPORTS} | environment


def _checked(ran: Ran) -> Ran:
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran


@cache
def _nursery() -> subprocess.Popen[str]:
    """The process that forks, which ends with this one."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.nursery"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
