"""Sums over ranks: their order, whoever comes when; what is refused; what happens to those who wait in vain.

Each test is a few processes, `rank_cases.py`: with the GPUs there are, else in Triton's interpreter over
memory that they share.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kernels.gpu.device import FLOATS
from tests.kernels.gpu.rank_sums import differing, parts_of, summed
from tests.kernels.gpu.rank_trouble import LIMIT_S

ROOT = Path(__file__).parents[3]


def ranks_do(cases: str, world: int) -> list[Any]:
    """What each rank found, by case."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.kernels.gpu.rank_cases", cases, str(world)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    found: list[Any] = json.loads(done.stdout)
    return found


def assert_nothing_wrong(found: list[Any]) -> None:
    wrong = {(rank, case): each["wrong"] for rank, cases in enumerate(found) for case, each in cases.items()}
    assert wrong == {place: [] for place in wrong}


@pytest.mark.parametrize(
    ("world", "cases"),
    [(2, "sums:8,gathers:3,rows:3,nans,groups:3"), (3, "sums:7,gathers:2,rows:2"), (5, "sums:3")],
)
def test_sums_and_gathers_are_those_of_the_host(world, cases):
    assert_nothing_wrong(ranks_do(cases, world))


@pytest.mark.parametrize("order", ["ranks", "tree"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_parts_tell_one_order_of_ranks_from_another(dtype, order):
    """Negative control: if this fails, the tests above can pass whatever the order."""
    parts = parts_of(1, (1000,), dtype, 4)
    assert differing(summed(parts, order, dtype), summed(parts[1:] + parts[:1], order, dtype)) > 10


def test_a_group_says_what_it_does_not_sum():
    said = ranks_do("refusals", 2)[0]["refusals"]
    assert said.pop("size").partition(" bytes, ")[2].startswith("the group was made for ")
    assert said == {
        "dtype": "all_reduce: x is int64, expected one of float32, bfloat16, float16",
        "shape": "all_reduce: x is [4, 8] and out [4, 9], expected as many elements",
        "order": "all_reduce: order is 'arrival', expected one of ranks, tree",
        "cast": "all_reduce: x is float16 and out float32, expected one dtype",
        "overlap": "all_reduce: out overlaps x, expected memory of its own",
        "strided": "all_reduce: x is not contiguous: strides [8, 1]",
        "closed": "all_reduce: the group is closed",
    }


@pytest.mark.parametrize(
    ("case", "said", "limit"),
    [
        ("absences", r"rank [01]: nothing came from rank 2 for 1 s", LIMIT_S),
        ("deaths", r"rank 2 \(process \d+\) died", 60),
    ],
)
def test_nobody_waits_for_ever(case, said, limit):
    """The last of three ranks is late, or is killed: the others give up once, not once a sum."""
    for found in ranks_do(case, 3)[:2]:
        assert re.fullmatch(said, found[case]["said"])
        # ten more sums, which would have taken ten times the limit
        assert found[case]["then"] < 5 * limit


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("world", "cases"),
    [
        (2, "sums:500,gathers:100,rows:64,nans,groups:20,graphs:1000"),
        (3, "sums:30,gathers:5,rows:4"),
        (4, "sums:30,gathers:5,graphs:10"),
        (5, "sums:20"),
        (8, "sums:10,gathers:3"),
    ],
)
def test_many_are_those_of_the_host(world, cases):
    assert_nothing_wrong(ranks_do(cases, world))
