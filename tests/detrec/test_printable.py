"""What is said in one line and in good grammar."""

import pytest

from detrec.printable import counted


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (2500, "2,500 rows")]
)
def test_one_is_no_plural(number, said):
    assert counted(number, "row") == said


def test_a_plural_that_an_s_does_not_make_is_given():
    assert [counted(number, "sketch", "sketches") for number in (1, 2)] == ["1 sketch", "2 sketches"]
