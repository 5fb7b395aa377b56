"""Running detrec as a user does: the command, in a process of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


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
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)
