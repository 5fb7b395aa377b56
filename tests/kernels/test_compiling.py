"""Kernels that share rows among threads, and the folder their code is kept in."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from detrec.kernels.cpu import add, compiling, rms_norm, rope, silu_mul
from tests.bits import assert_same_bits
from tests.command import ROOT
from tests.kernels.lanes import rough

WEIGHT = rough(1, 96, seed=1)[0]
COS, SIN = (rough(64, 16, seed=seed) for seed in (2, 3))

CALLS = {
    "add": lambda x, out: add.add(x, x, out),
    "silu_mul": lambda x, out: silu_mul.silu_mul(x, out[:, : out.shape[1] // 2]),
    "rms_norm": lambda x, out: rms_norm.rms_norm(x, WEIGHT, 1e-6, out),
    "rope": lambda x, out: rope.rope(x, np.arange(len(x)) % 64, COS, SIN, out),
}


@pytest.mark.parametrize("name", CALLS)
def test_shared_rows_have_the_bits_of_rows_alone(name, monkeypatch):
    x = rough(61, 192)
    alone, shared = np.zeros_like(x), np.zeros_like(x)
    CALLS[name](x, alone)
    ran = []
    module = {"add": add, "silu_mul": silu_mul, "rms_norm": rms_norm, "rope": rope}[name]
    kernel = module._shared
    monkeypatch.setattr(module, "SHARE", 1)
    monkeypatch.setattr(module, "_shared", lambda *args: ran.append(name) or kernel(*args))
    CALLS[name](x, shared)
    assert ran == [name]
    assert_same_bits(alone, shared)


def test_a_shared_rope_still_refuses_a_position_outside_its_tables(monkeypatch):
    monkeypatch.setattr(rope, "SHARE", 1)
    x = rough(5, 32)
    with pytest.raises(ValueError, match="row 3 is at position 64"):
        rope.rope(x, np.array([0, 1, 2, 64, 5]), COS, SIN, np.empty_like(x))


def test_the_cache_is_named_by_every_source(tmp_path):
    code = "from detrec.kernels.cpu import compiling; print(compiling._cache_folder())"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "", "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    folder = found.stdout.strip()
    assert folder.startswith(f"{tmp_path}/kernels-")
    assert folder.rpartition("/")[2] == compiling._FOLDER.rpartition("/")[2]


def test_kernels_that_another_copy_of_the_sources_compiled_are_not_compiled_before(tmp_path):
    """Else the half minute that numba takes for this copy comes with no word."""
    code = (
        "import numpy as np; from detrec.kernels.cpu import add; "
        "from detrec.kernels.cpu.compiling import compiled_before; x = np.ones((1, 4), np.float32); "
        "print(compiled_before()); add.add(x, x, x); print(compiled_before())"
    )
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "detrec", copy / "detrec", symlinks=False, ignore=shutil.ignore_patterns("__py*"))
    said = []
    for root in (ROOT, copy, copy):
        environment = {"PATH": "", "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(root)}
        found = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        said.append(found.stdout.split())
    assert said == [["False", "True"], ["False", "True"], ["True", "True"]]


def test_an_old_cache_goes_when_these_sources_are_first_compiled(tmp_path):
    old = tmp_path / ("kernels-" + "0" * 16)
    old.mkdir()
    os.utime(old, (0, 0))
    code = "import detrec.kernels.cpu.compiling"
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert [path.name for path in tmp_path.iterdir()] == [compiling._FOLDER.rpartition("/")[2]]
