"""What README.md and ARCHITECTURE.md say of Python, of arrays and of files is so."""

import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import fields

import pytest

from detrec.config import SamplingParams
from detrec.recorder.requests import REQUEST_ARRAYS
from detrec.recorder.schema import growing_arrays
from tests.command import ROOT

README, ARCHITECTURE = ((ROOT / name).read_text() for name in ("README.md", "ARCHITECTURE.md"))
# one a sampling parameter, told of in one line
PARAMETERS = {f"requests/{field.name}" for field in fields(SamplingParams)}


def blocks(language: str) -> list[str]:
    """The README's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_every_array_of_a_trace_is_in_the_architecture_and_no_other():
    lines = [line.split("|")[1] for line in ARCHITECTURE.splitlines() if re.match(r"\| `\w+/", line)]
    told = {name for line in lines for name in re.findall(r"`(\w+/[\w<>]+)`", line)}
    arrays = {*growing_arrays(ops=3, ranks=1, sketch_parts=4), *REQUEST_ARRAYS} - PARAMETERS
    assert {name.replace("<rank>", "0") for name in told} == arrays


def test_files_that_the_architecture_names_are_there():
    named = re.findall(r"`([\w/]+/[\w/]+\.py)`", ARCHITECTURE)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_python_of_the_readme_runs(tmp_path):
    shutil.copy(ROOT / "serve.yaml", tmp_path)
    scripts = blocks("python")
    assert len(scripts) == 2
    # the second reads what the first recorded
    for script in scripts:
        command = [sys.executable, "-W", "ignore", "-c", script]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"(\S+ +[0-9a-f]{16}\n){66}", done.stdout)


@pytest.mark.parametrize("block", blocks("toml"))
def test_the_entry_point_of_the_readme_is_the_examples(block):
    project = tomllib.loads((ROOT / "examples" / "adapter" / "pyproject.toml").read_text())["project"]
    assert tomllib.loads(block)["project"]["entry-points"] == project["entry-points"]
