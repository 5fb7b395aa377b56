"""What `explore` is told of how OTHER was made: all that `replay` takes, and nothing else."""

import pytest

from detrec.engines.faults import FAULTS
from detrec.errors import ConfigError
from detrec.opening import made_other


@pytest.mark.parametrize("fault", [*FAULTS, "bitflip:op=7.qkv,step=2"])
def test_other_can_be_made_with_every_fault(fault: str) -> None:
    assert made_other("other.zarr", None, None, fault).fault == fault


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("tile_by_longest:layer=x", "expected a whole number"),
        ("split_k_by_batch:op=0.attn", "cannot act on 0.attn"),
        ("nothing", "unknown fault"),
    ],
)
def test_a_fault_that_no_replay_takes_is_refused(fault: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made_other("other.zarr", None, None, fault)
