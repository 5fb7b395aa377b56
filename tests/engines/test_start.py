"""What takes long at the start of an engine is announced before it is waited for."""

from detrec.kernels.cpu import compiling
from tests.engines.small import request, started


def said_at_a_start() -> list[str]:
    """Notes, and what progress is made with, in order."""
    said: list[str] = []
    start = {"notify": said.append, "progress": lambda what, done, total: said.append(what)}
    started([request("a", [1, 2, 3])], start=start)
    return said


def test_kernels_that_are_not_compiled_yet_are_announced_before_weights_are_drawn_by_them(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(compiling, "_places", {str(tmp_path)})
    first, *work = said_at_a_start()
    assert first == "compiling kernels for this machine: about a minute, once"
    assert work
    assert first not in work


def test_kernels_that_are_compiled_are_not_mentioned():
    # the second start finds what the first has compiled
    started([request("a", [1, 2, 3])])
    assert not [text for text in said_at_a_start() if text.startswith("compiling")]
