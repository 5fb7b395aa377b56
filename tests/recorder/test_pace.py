"""Steps, rows or seconds ask for a commit, and a commit that would wait is put off once."""

import pytest

from detrec.recorder.pace import Pace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in its only element."""
    now = [100.0]
    monkeypatch.setattr("detrec.recorder.pace.time.monotonic", lambda: now[0])
    return now


def test_steps_and_rows_do_not_wait(clock: list[float]) -> None:
    for rows in ([1, 1, 1], [9, 1]):
        pace = Pace(3, 10, 1e9)
        for count in rows:
            assert not pace.due(settled=False)
            pace.add(count)
        assert pace.due(settled=False)
        pace.begin()
        pace.end()
        assert not pace.due()


def test_time_alone_waits_for_what_is_not_there_yet_but_not_for_ever(clock: list[float]) -> None:
    pace = Pace(100, 100, 0.2)
    clock[0] += 0.21
    assert pace.due()
    assert not pace.due(settled=False)
    clock[0] += 0.2
    assert pace.due(settled=False)


def test_a_slow_commit_makes_the_next_one_late(clock: list[float]) -> None:
    pace = Pace(100, 100, 0.2, patience=19)
    pace.begin()
    clock[0] += 0.5
    pace.end()
    clock[0] += 9.4
    assert not pace.due()
    clock[0] += 0.2
    assert pace.due()
