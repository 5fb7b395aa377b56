"""What takes long at the start of an engine is announced before it is waited for."""

import pytest

from detrec.engines.builtin import start
from detrec.errors import EngineError
from tests.engines.small import request, started

REQUESTS = [request("a", [1, 2, 3])]


def test_kernels_that_are_not_compiled_yet_are_announced_before_the_engine_uses_them(monkeypatch):
    said: list[str] = []

    def build(*args, **kwargs):
        said.append("weights")
        raise EngineError("enough was seen")

    monkeypatch.setattr(start, "compiled_before", lambda: "weights" in said)
    monkeypatch.setattr(start, "BuiltinEngine", build)
    with pytest.raises(EngineError, match="enough was seen"):
        started(REQUESTS, start={"notify": said.append})
    assert said == ["compiling kernels for this machine: about a minute, once", "weights"]


def test_kernels_that_are_compiled_are_not_mentioned():
    # the second start finds what the first has compiled
    started(REQUESTS)
    said: list[str] = []
    started(REQUESTS, start={"notify": said.append})
    assert said == []


def test_kernels_that_another_setting_needs_are_mentioned_if_they_take_long(monkeypatch):
    started(REQUESTS)
    said: list[str] = []
    monkeypatch.setattr(start, "tell_if_long", lambda tell: tell())
    started(REQUESTS, start={"notify": said.append})
    assert said == ["compiling kernels that this machine has not had yet, once"]
