"""Compiling is told of where it takes long, and once."""

import numba
import pytest

from detrec.kernels import compile_time


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch):
    """What was told, in a process that has not been told of anything."""
    told: list[str] = []
    monkeypatch.setattr(compile_time, "_listeners", [])
    compile_time.tell_if_long(lambda: told.append("long"))
    (listener,) = compile_time._listeners
    yield told
    compile_time.event.unregister("numba:compile", listener)


def compile_two() -> None:
    """One kernel that another calls."""
    inner = numba.njit(lambda x: x + 1.0)
    outer = numba.njit(lambda x: inner(x) * 2.0)
    assert outer(1.0) == 4.0


def test_what_takes_long_is_told_once(monkeypatch, said):
    monkeypatch.setattr(compile_time, "PATIENCE_S", 0.0)
    compile_time.tell_if_long(lambda: said.append("twice"))
    compile_two()
    compile_two()
    assert said == ["long"]


def test_what_takes_long_in_all_is_told(monkeypatch, said):
    clock = iter(range(1000))
    monkeypatch.setattr(compile_time.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(compile_time, "PATIENCE_S", 8.0)
    compile_two()
    assert said == []
    compile_two()
    assert said == ["long"]


def test_what_is_compiled_at_once_is_not_told(said, monkeypatch):
    monkeypatch.setattr(compile_time, "PATIENCE_S", 1e9)
    compile_two()
    assert said == []
