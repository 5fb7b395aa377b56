"""Blocks of shared memory: zeros, seen by all, and gone with the last who has them."""

import os
import subprocess
import sys

import pytest

from detrec.errors import EngineError
from detrec.kernels import shared_memory


def test_a_block_is_zeros_that_all_see():
    name = shared_memory.make(100)
    one, other = shared_memory.attach(name), shared_memory.attach(name)
    assert not one.any()
    one[7] = 9
    assert other[7] == 9
    shared_memory.let_go(name)


def test_who_has_a_block_keeps_it_when_it_is_let_go():
    name = shared_memory.make(100)
    block = shared_memory.attach(name)
    shared_memory.let_go(name)
    block[99] = 1
    assert block[99] == 1
    with pytest.raises(EngineError, match="no such shared memory"):
        shared_memory.attach(name)


def test_a_block_has_no_file_that_could_be_left_behind():
    script = (
        "import os, signal; from detrec.kernels import shared_memory as s; name = s.make(1 << 20); "
        "print(name, os.readlink(name), flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -9
    name, file = done.stdout.split(maxsplit=1)
    assert name.startswith("/proc/"), done.stderr
    # what lies in a folder has its path there
    assert file.startswith("/memfd:")
    with pytest.raises(EngineError, match="no such shared memory"):
        shared_memory.attach(name)


def test_more_memory_than_there_can_be_is_an_error():
    name = shared_memory.make(1 << 60)
    with pytest.raises(EngineError, match="cannot be mapped as shared memory"):
        shared_memory.attach(name)
    shared_memory.let_go(name)


def test_a_system_without_such_memory_is_an_error(monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    with pytest.raises(EngineError, match="which this system does not have"):
        shared_memory.make(100)
