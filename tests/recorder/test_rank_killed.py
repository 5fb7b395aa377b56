"""Of ranks that write one trace any may be killed at any moment."""

import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

from detrec.errors import DetrecError
from detrec.recorder.reader import TraceReader
from detrec.recorder.verify import examine
from tests.recorder.endings import forker
from tests.recorder.held import assert_holds
from tests.recorder.runs import Run

RANKS = """
import os, sys, time
from detrec.recorder.rank_writer import RankWriter
from tests.recorder.runs import Run, open_writer, shrink, write_step
shrink()
run = Run(length=60, ranks=2)
def play(writer, rank):
    for played in run.played:
        write_step(writer, played, rank)
        time.sleep(0.002)
        if (played.step.index, rank) == (50, victim):
            # whoever kills it is late: it must not have ended before
            time.sleep(60)
for line in sys.stdin:
    path, victim, seconds = line.split()
    victim = int(victim)
    writer = open_writer(path, ranks=2, commit_steps=3, rank_seconds=float(seconds))
    ranks = []
    for rank in (0, 1):
        child = os.fork()
        if not child:
            try:
                if rank == 0:
                    with writer:
                        play(writer, 0)
                else:
                    with RankWriter(path, 1, uuid=writer.uuid, flush_steps=2) as other:
                        play(other, 1)
            finally:
                os._exit(0)
        ranks.append(child)
    print(*ranks, flush=True)
    for child in ranks:
        os.waitpid(child, 0)
    print("dead", flush=True)
"""


def wait_for(path: Path, steps: int, seconds: float = 60) -> None:
    """Until so many steps are committed, if they ever are."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(DetrecError):
            trace = TraceReader(path)
            if trace.n_steps >= steps or trace.status != "recording":
                return
        time.sleep(0.003)


def test_a_rank_killed_at_any_moment_leaves_a_sound_trace(tmp_path: Path, small_chunks: None) -> None:
    path, run, moments = tmp_path / "run.zarr", Run(length=60, ranks=2), random.Random(7)
    ends = []
    with forker(RANKS) as ranks:
        for trial in range(12):
            shutil.rmtree(path, ignore_errors=True)
            victim = trial % 3
            # rank 0 need not wait for a rank that is dead
            processes = ranks.fork(f"{path} {victim} {0.05 if victim == 1 else 60}")
            if victim < 2:
                wait_for(path, (0, 3, 12, 30)[trial // 3])
                time.sleep(moments.uniform(0, 0.005))
                os.kill(processes[victim], signal.SIGKILL)
            ranks.wait()
            reader = TraceReader(path)
            assert_holds(reader, run, reader.n_steps)
            assert examine(path).problems == ()
            ends.append((victim, reader.status, reader.n_steps))
    # nobody killed; rank 0 killed; rank 1 killed and rank 0 living to say so
    assert {end[1:] for end in ends if end[0] == 2} == {("complete", 60)}
    middle = {(victim, status) for victim, status, steps in ends if 0 < steps < 60}
    assert {(0, "recording"), (1, "failed")} <= middle, ends
