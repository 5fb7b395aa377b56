"""The kernel for a Hopper GPU has the bits of the one for any."""

import pytest

from detrec.kernels.gpu import attention_prefill
from detrec.kernels.launch import INTERPRETED, triton
from tests.bits import assert_same_bits
from tests.kernels.gpu.paged import attend, decode, paged

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def hopper():
    if INTERPRETED or triton.runtime.driver.active.get_current_target().arch != 90:
        pytest.skip("needs a Hopper GPU")


@pytest.fixture
def kernel(monkeypatch):
    """Chooses: `kernel(True)` is the one for a Hopper."""

    def choose(special: bool) -> None:
        monkeypatch.setattr(attention_prefill, "SPECIALISED", special)
        attention_prefill._hopper_tiles.cache_clear()

    yield choose
    monkeypatch.undo()
    attention_prefill._hopper_tiles.cache_clear()


# a group of 1, 7 and 40: a row of 128 lines, and rows that tiles cut
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim", "dtype"),
    [(28, 4, 128, "bfloat16"), (28, 4, 128, "float16"), (2, 2, 64, "float16"), (40, 1, 96, "bfloat16")],
)
def test_has_the_bits_of_the_kernel_for_any_gpu(heads, kv_heads, dim, dtype, kernel):
    memory = paged([1500, 80], dtype, heads, kv_heads, dim)
    rows = [(0, 1499), *((0, p) for p in range(1499)), *memory.every_row(1)]
    kernel(False)
    expected = attend(memory, rows)
    kernel(True)
    assert_same_bits(attend(memory, rows), expected)


def test_a_short_slice_after_a_prefix_has_the_bits_of_decode(kernel):
    memory = paged([1500], "bfloat16", 7, 1, 128)
    rows = [(0, p) for p in range(1017, 1040)]
    kernel(True)
    assert_same_bits(attend(memory, rows), decode(memory, rows))
