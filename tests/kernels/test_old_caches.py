"""Caches of kernels that were not used for a month go when another is made, and nothing else does."""

import os
import time

import pytest

from detrec.kernels import old_caches

NEW, OTHER = "kernels-" + "1" * 16, "kernels-" + "2" * 16


def cache(place, name, days):
    """A cache that was used `days` ago."""
    folder = place / name
    (folder / "cpu_1").mkdir(parents=True)
    (folder / "cpu_1" / "add.nbc").write_bytes(b"code")
    then = time.time() - days * 86400
    os.utime(folder, (then, then))
    return folder


@pytest.mark.parametrize(("days", "stays"), [(0, True), (29, True), (31, False)])
def test_a_cache_goes_when_it_was_not_used_for_a_month(tmp_path, days, stays):
    other = cache(tmp_path, OTHER, days)
    old_caches.use(str(tmp_path / NEW))
    assert other.exists() is stays
    assert (tmp_path / NEW).is_dir()
    assert len(list(tmp_path.iterdir())) == 1 + stays


def test_nothing_goes_while_no_cache_is_made(tmp_path):
    cache(tmp_path, NEW, 40)
    other = cache(tmp_path, OTHER, 40)
    old_caches.use(str(tmp_path / NEW))
    assert other.exists()


def test_use_renews_a_cache(tmp_path):
    used = cache(tmp_path, OTHER, 40)
    old_caches.use(str(used))
    old_caches.use(str(tmp_path / NEW))
    assert (used / "cpu_1" / "add.nbc").exists()


def test_what_is_no_cache_of_ours_stays(tmp_path):
    away = cache(tmp_path / "away", OTHER, 40)
    place = tmp_path / "place"
    others = [cache(place, name, 40) for name in ("kernels", "kernels-mine", "kernels-" + "3" * 17)]
    (place / OTHER).symlink_to(away)
    (place / ("kernels-" + "4" * 16)).write_text("a file")
    os.utime(place / ("kernels-" + "4" * 16), (0, 0))
    old_caches.use(str(place / NEW))
    assert all(each.exists() for each in [*others, away, place / OTHER, place / ("kernels-" + "4" * 16)])


def test_one_that_somebody_begins_to_use_meanwhile_stays(tmp_path, monkeypatch):
    other = cache(tmp_path, OTHER, 40)
    rename = type(other).rename

    def used_then_renamed(path, target):
        monkeypatch.setattr(type(other), "rename", rename)
        os.utime(path)
        return rename(path, target)

    monkeypatch.setattr(type(other), "rename", used_then_renamed)
    old_caches.use(str(tmp_path / NEW))
    assert (other / "cpu_1" / "add.nbc").exists()


def test_what_a_removal_left_that_was_ended_goes_too(tmp_path):
    cache(tmp_path, f"{OTHER}.removed-77", 40)
    old_caches.use(str(tmp_path / NEW))
    assert [path.name for path in tmp_path.iterdir()] == [NEW]


def test_another_process_may_win(tmp_path, monkeypatch):
    other = cache(tmp_path, OTHER, 40)

    def lost(path, target):
        raise FileNotFoundError(path)

    monkeypatch.setattr(type(other), "rename", lost)
    old_caches.use(str(tmp_path / NEW))
    assert (tmp_path / NEW).is_dir()
