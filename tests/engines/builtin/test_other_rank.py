"""Ranks as processes: they end when the engine does, however it ends, and what goes wrong is told once."""

import gc
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from detrec.config import ServeConfig, serve_config
from detrec.engines.builtin import ranks as starting
from detrec.engines.builtin.ranks import Ranks
from detrec.engines.start import start_engine
from detrec.errors import EngineError, RankLost
from detrec.kernels.rendezvous import _born
from tests.engines.small import prompt, request
from tests.kernels.ranks import open_files

IMPORT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "


def config(size: int = 2, tokens: int = 4) -> ServeConfig:
    engine = {"max_model_len": 128, "tensor_parallel_size": size}
    requests = [request("a", prompt(1, 9), max_tokens=tokens, ignore_eos=True)]
    return serve_config({"model": "builtin:qwen2-tiny", "engine": engine, "requests": requests})


def others(parent: int = 0) -> list[int]:
    """The processes of ranks that `parent`, or this one, has started and that still run."""
    children = Path(f"/proc/{parent or os.getpid()}/task/{parent or os.getpid()}/children")
    pids = [int(pid) for pid in children.read_text().split()]
    # other tests of this process may have left something else
    return [pid for pid in pids if b"sys.path[:]" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_ranks_run_and_end_with_their_engine():
    engine = start_engine(config())
    assert len(others()) == 1
    with closing(engine):
        steps = [step for step, _ in engine.run(engine.own_scheduler())]
    assert len(steps) == 4
    assert not others()


def test_an_engine_that_is_broken_off_and_forgotten_leaves_no_process():
    engine = start_engine(config(tokens=90))
    for step, _ in engine.run(engine.own_scheduler()):
        if step.index == 2:
            break
    assert others()
    del engine
    gc.collect()
    assert not others()


def boot(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let the other ranks' processes run `script`."""
    monkeypatch.setattr(starting, "_BOOT", IMPORT + script)


BUG = "an error of detrec's own: please report it"
TAKES_PART = (
    "from detrec.engines.builtin import other_rank as o; "
    "from detrec.errors import ConfigError; "
    "o._take_part = lambda meeting: {}; o.main(*sys.argv[2:])"
)


@pytest.mark.parametrize(
    ("does", "message", "hint"),
    [
        ("1 // 0", r"rank 1: ZeroDivisionError: integer division or modulo by zero \(<string>:1\)", BUG),
        ("(_ for _ in ()).throw(ConfigError('too wide', hint='less'))", "rank 1: too wide", "less"),
        ("sys.exit(3)", r"rank 1: SystemExit: 3 \(<string>:1\)", BUG),
    ],
)
def test_what_a_rank_raises_is_raised_by_rank_0(does, message, hint, monkeypatch, capfd):
    boot(monkeypatch, TAKES_PART.format(does))
    with pytest.raises(RankLost, match=f"^{message}$") as lost:
        start_engine(config())
    assert lost.value.hint == hint
    assert not others()
    assert capfd.readouterr().err == ""


def test_a_rank_that_cannot_begin_is_named(monkeypatch):
    boot(monkeypatch, "sys.exit(3)")
    with pytest.raises(RankLost, match=r"rank 1 \(process \d+\) died"):
        start_engine(config())
    assert not others()


def test_a_rank_that_hangs_is_named_when_the_limit_is_over(monkeypatch):
    monkeypatch.setattr(starting, "_END_S", 0.1)
    engine = start_engine(config(tokens=90))
    (other,) = others()
    with closing(engine):
        steps = engine.run(engine.own_scheduler())
        next(steps)
        engine._ranks.meeting.timeout_s = 0.5
        os.kill(other, signal.SIGSTOP)
        with pytest.raises(RankLost, match=r"rank 1 did not come within 0\.5 s"):
            list(steps)
    assert not others()


def test_ranks_end_when_the_process_that_started_them_is_killed():
    script = (
        "from tests.engines.builtin.test_other_rank import config; "
        "from detrec.engines.builtin.ranks import Ranks; import time; "
        "ranks = Ranks.start(3); print('met', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == "met\n"
        children = others(parent.pid)
        assert len(children) == 2
        parent.kill()
    late = time.monotonic() + 60
    # whoever inherits them may not ask how they ended
    while any(_born(child) for child in children) and time.monotonic() < late:
        time.sleep(0.05)
    assert not [child for child in children if _born(child)]


def test_ranks_that_are_not_all_there_leave_none(monkeypatch):
    monkeypatch.setattr(starting, "LIMIT_S", 1.0)
    boot(monkeypatch, "import time; time.sleep(600)")
    files = open_files()
    with pytest.raises(EngineError, match="rank 1 did not come within 1 s"):
        Ranks.start(3)
    assert not others()
    assert open_files() == files


def test_another_rank_does_not_load_the_framework():
    engine = start_engine(config())
    with closing(engine):
        (other,) = others()
        for _ in engine.run(engine.own_scheduler()):
            break
        loaded = Path(f"/proc/{other}/maps").read_text()
    assert "numba" in loaded
    assert "libpaddle" not in loaded
