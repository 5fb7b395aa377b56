"""Sums over ranks: their order, whoever comes when; what is refused; what happens to those who wait in vain.

Each test is a few processes, `rank_cases.py`: with the GPUs there are, else in Triton's interpreter over memory
that they share.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


def ranks_do(case: str, world: int, number: int = 1) -> list[Any]:
    """What each rank found."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.kernels.gpu.rank_cases", case, str(world), str(number)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    found: list[Any] = json.loads(done.stdout)
    return found


def assert_nothing_wrong(found: list[Any]) -> None:
    assert [each["wrong"] for each in found] == [[]] * len(found)


@pytest.mark.parametrize(("world", "number"), [(2, 12), (3, 9), (8, 4)])
def test_sums_are_those_of_the_host(world, number):
    found = ranks_do("sums", world, number)
    assert_nothing_wrong(found)


def test_another_order_of_ranks_would_have_shown():
    """Negative control: the same parts added from the last rank to the first."""
    assert min(each["apart"] for each in ranks_do("sums", 4, 6)) > 0


def test_columns_are_gathered_side_by_side():
    assert_nothing_wrong(ranks_do("gathers", 3, 6))


def test_a_row_does_not_see_its_batch():
    assert_nothing_wrong(ranks_do("rows", 2, 5))


def test_a_group_says_what_it_does_not_sum():
    said, _ = ranks_do("refusals", 2)
    assert said == {
        "dtype": "all_reduce: x is int64, expected one of float32, bfloat16, float16",
        "size": said["size"],
        "shape": "all_reduce: x is [4, 8] and out [4, 9], expected as many elements",
        "order": "all_reduce: order is 'arrival', expected one of ranks, tree",
        "cast": "all_reduce: x is float16 and out float32, expected one dtype",
        "overlap": "all_reduce: out overlaps x, expected memory of its own",
        "strided": "all_reduce: x is not contiguous: strides [8, 1]",
        "closed": "all_reduce: the group is closed",
    }
    assert said["size"].endswith(" bytes, the group was made for 6144")


@pytest.mark.parametrize("case", ["absences", "deaths"])
def test_nobody_waits_for_ever(case):
    """The last of three ranks is late, or killed: the others give up once, not once a sum."""
    *others, _ = ranks_do(case, 3)
    for rank, each in enumerate(others):
        assert each["said"] == f"rank {rank}: nothing came from rank 2 for 0.5 s"
        assert each["waited"] < 6
        assert each["then"] < 0.5


@pytest.mark.gpu
@pytest.mark.parametrize(("world", "number"), [(2, 600), (3, 40), (4, 40), (5, 20), (8, 15)])
def test_many_sums_are_those_of_the_host(world, number):
    assert_nothing_wrong(ranks_do("sums", world, number))


@pytest.mark.gpu
@pytest.mark.parametrize(("world", "number"), [(2, 1000), (4, 20)])
def test_a_graph_is_replayed(world, number):
    assert_nothing_wrong(ranks_do("graphs", world, number))
