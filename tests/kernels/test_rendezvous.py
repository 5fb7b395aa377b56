"""A meeting place: who comes, what is told, and what is heard of a rank that is gone."""

import signal
import subprocess
import sys
import time

import pytest

from detrec.errors import RankLost
from detrec.kernels import rendezvous
from detrec.kernels.rendezvous import MAX_RANKS, Rendezvous
from tests.kernels.ranks import in_ranks, open_files

_PEER = """
import sys, time
from detrec.kernels.rendezvous import Rendezvous
meeting = Rendezvous.join(sys.argv[1], 1, 2, 120)
meeting.exchange(b"here")
time.sleep(60)
"""


def _peer(name: str, script: str = _PEER, stdin: int | None = None) -> subprocess.Popen:
    peer = subprocess.Popen([sys.executable, "-c", script, name], stdin=stdin)
    Rendezvous.expect(name, 1, peer.pid)
    return peer


# 16384: exactly one round. 16385: one byte in a second.
@pytest.mark.parametrize("length", [0, 1, 16384, 16385, 100_000])
@pytest.mark.parametrize("world_size", [1, 2, 3, MAX_RANKS])
def test_what_all_ranks_give_comes_in_their_order(world_size, length):
    given = [bytes([65 + rank]) * (length * rank) for rank in range(world_size)]
    for got in in_ranks(world_size, lambda meeting: meeting.exchange(given[meeting.rank])):
        assert got == given


def test_rounds_are_not_mixed_up_by_ranks_that_run_ahead():
    def work(meeting: Rendezvous) -> list[list[bytes]]:
        got = []
        for turn in range(200):
            if turn % 3 == meeting.rank:
                time.sleep(0.0005)
            got.append(meeting.exchange(b"%d of %d" % (turn, meeting.rank)))
        return got

    expected = [[b"%d of %d" % (turn, rank) for rank in range(3)] for turn in range(200)]
    assert in_ranks(3, work) == [expected] * 3


def test_memory_of_all_ranks():
    def work(meeting: Rendezvous) -> list[int]:
        block = meeting.block(64)
        block[meeting.rank] = meeting.rank + 1
        meeting.barrier()
        return block[:4].tolist()

    assert in_ranks(3, work) == [[1, 2, 3, 0]] * 3


def test_a_rank_that_never_comes_is_named():
    files = open_files()
    name = Rendezvous.create(3)
    with pytest.raises(RankLost, match=r"rank 1 did not come within 0\.2 s"):
        Rendezvous.join(name, 0, 3, 0.2)
    assert open_files() == files


def test_a_rank_that_dies_before_it_comes_is_named():
    name = Rendezvous.create(2)
    peer = _peer(name, "raise SystemExit(3)")
    peer.wait()
    with pytest.raises(RankLost, match=rf"rank 1 \(process {peer.pid}\) died"):
        Rendezvous.join(name, 0, 2, 120)


def test_a_rank_that_is_dead_when_it_is_told_of_is_named():
    name = Rendezvous.create(2)
    with subprocess.Popen([sys.executable, "-c", ""]) as peer:
        peer.wait()
    Rendezvous.expect(name, 1, peer.pid)
    with pytest.raises(RankLost, match=rf"rank 1 \(process {peer.pid}\) died"):
        Rendezvous.join(name, 0, 2, 120)


_LAST_WORD = """
import sys
from detrec.kernels.rendezvous import Rendezvous
meeting = Rendezvous.join(sys.argv[1], 1, 2, 120)
sys.stdin.readline()
meeting.abort("rank 1: out of paper")
"""


def test_a_rank_that_says_why_and_dies_while_another_looks_is_heard(monkeypatch):
    name, born = Rendezvous.create(2), rendezvous._born
    with _peer(name, _LAST_WORD, subprocess.PIPE) as peer:
        meeting = Rendezvous.join(name, 0, 2, 120)

        def too_late(pid: int) -> int:
            if pid == peer.pid:
                peer.communicate(b"\n")
            return born(pid)

        monkeypatch.setattr(rendezvous, "_born", too_late)
        with pytest.raises(RankLost, match="rank 1: out of paper"):
            meeting.check()
        meeting.close()


# not waited for: its parent has not asked yet how it ended, so its pid is still there
@pytest.mark.parametrize("reaped", [False, True])
def test_a_rank_that_is_killed_is_named(reaped):
    name = Rendezvous.create(2)
    with _peer(name) as peer:
        meeting = Rendezvous.join(name, 0, 2, 120)
        assert meeting.exchange(b"too") == [b"too", b"here"]
        meeting.check()
        peer.send_signal(signal.SIGKILL)
        if reaped:
            peer.wait()
        with pytest.raises(RankLost, match=rf"rank 1 \(process {peer.pid}\) died"):
            meeting.barrier()
        meeting.close()


def test_a_rank_that_hangs_is_named_when_the_limit_is_over():
    name = Rendezvous.create(2)
    with _peer(name) as peer:
        meeting = Rendezvous.join(name, 0, 2, 120)
        meeting.exchange(b"too")
        meeting.timeout_s = 0.2
        with pytest.raises(RankLost, match=r"rank 1 did not come within 0\.2 s: rank 0 waited"):
            meeting.barrier()
        peer.kill()


def test_the_first_reason_to_give_up_is_what_all_hear():
    def work(meeting: Rendezvous) -> str:
        if meeting.rank == 2:
            meeting.abort("rank 2: out of paper")
            return ""
        try:
            meeting.barrier()
        except RankLost as error:
            # one that gives up because another did must not hide the other's reason
            meeting.abort(f"rank {meeting.rank}: {error}, so I too")
            time.sleep(0.1)
            with pytest.raises(RankLost) as second:
                meeting.check()
            return f"{error} / {second.value}"
        raise AssertionError("rank 2 was not missed")

    heard = "rank 2: out of paper"
    assert in_ranks(3, work) == [f"{heard} / {heard}", f"{heard} / {heard}", ""]


def test_to_wait_for_a_rank_that_has_left_is_an_error():
    def work(meeting: Rendezvous) -> None:
        if meeting.rank == 0:
            meeting.barrier()

    with pytest.raises(RankLost, match="rank 1 has ended: rank 0 still waits for it"):
        in_ranks(2, work)


def test_a_rank_that_has_left_is_not_missed():
    def work(meeting: Rendezvous) -> None:
        if meeting.rank == 0:
            time.sleep(0.1)
            meeting.check()

    in_ranks(2, work)


def test_ranks_hear_that_the_process_which_started_them_died():
    script = (
        "import os, sys, subprocess, time; from detrec.kernels.rendezvous import Rendezvous; "
        "name = Rendezvous.create(1); print(name, flush=True); sys.stdin.readline(); os.kill(os.getpid(), 9)"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, text=True) as parent:
        assert parent.stdin
        assert parent.stdout
        meeting = Rendezvous.join(parent.stdout.readline().strip(), 0, 1, 120)
        meeting.check()
        parent.communicate("\n")
    with pytest.raises(RankLost, match=rf"the process that started the ranks \({parent.pid}\) died"):
        meeting.check()


def test_a_rank_that_came_before_is_refused():
    name = Rendezvous.create(1)
    Rendezvous.join(name, 0, 1, 1)
    with pytest.raises(ValueError, match="rank 0 has joined before"):
        Rendezvous.join(name, 0, 1, 1)


@pytest.mark.parametrize(("rank", "world_size"), [(0, 3), (2, 2), (-1, 2)])
def test_a_rank_of_other_ranks_is_refused(rank, world_size):
    with pytest.raises(ValueError, match="the others are 2 ranks"):
        Rendezvous.join(Rendezvous.create(2), rank, world_size, 1)


@pytest.mark.parametrize("world_size", [0, 9])
def test_sizes_that_no_host_has_are_refused(world_size):
    with pytest.raises(ValueError, match="expected 1 to 8"):
        Rendezvous.create(world_size)


def test_a_closed_meeting_place_keeps_no_file_open():
    before = open_files()
    in_ranks(3, lambda meeting: meeting.block(1000) is None)
    assert open_files() == before


def test_who_leaves_late_does_not_take_the_next_meeting_place_away():
    meetings = []
    in_ranks(2, meetings.append)
    # it gets the descriptor that the first one has given back, and so its name
    name = Rendezvous.create(1)
    for meeting in meetings:
        meeting.close()
    Rendezvous.join(name, 0, 1, 5.0).close()
