"""Known causes of divergence, injected into the real code path.

A fault runs another kernel, another boundary or another seed than it should, from a given step on; it
never touches a fingerprint. It computes the right result beside the wrong one, so it knows, and says,
where the first bit changed.
"""

import difflib
from collections.abc import Callable, Sequence
from typing import Any

from detrec.engines.faults.attention_orders import AttentionBackend, HitOrder, SplitKvByBatch
from detrec.engines.faults.attention_tiles import PartialChunk, TileByLength, TileByLongest
from detrec.engines.faults.base import Fault
from detrec.engines.faults.bitflip import BitFlip
from detrec.engines.faults.cache import MisplacedWrite, PhantomRow, WrongBlock
from detrec.engines.faults.chunk import UnalignedChunk
from detrec.engines.faults.collectives import ArrivalOrder, RanksOfReplay, ReduceBySize
from detrec.engines.faults.drawing import OffsetDrift, Row0Seed, SamplerByBatch, StaleLogprobs
from detrec.engines.faults.eviction import EarlyEviction
from detrec.engines.faults.inputs import ChangedPrompt, SamplingDefaults
from detrec.engines.faults.needed import NEEDED
from detrec.engines.faults.norms import NormPadding, NormRowsPerProgram
from detrec.engines.faults.numerics import SiluByTanh, WrongRopeBase
from detrec.engines.faults.one_rank import OnOneRank
from detrec.engines.faults.races import RacingMatmul
from detrec.engines.faults.racing import PenaltyRace, RenormRace
from detrec.engines.faults.scheduling import GreedyChunk, ResumeByPrefill
from detrec.engines.faults.seed import SeedDrift
from detrec.engines.faults.split_k import SplitKByBatch
from detrec.engines.faults.thresholds import ThresholdsAtOnce
from detrec.engines.faults.tiles import AutotunedMatmul
from detrec.engines.faults.weights import WeightBitFlip
from detrec.errors import ConfigError

_ALL: tuple[type[Fault], ...] = (
    # what an op's arithmetic does
    SplitKByBatch,
    AutotunedMatmul,
    RacingMatmul,
    TileByLongest,
    AttentionBackend,
    TileByLength,
    SplitKvByBatch,
    HitOrder,
    PartialChunk,
    NormRowsPerProgram,
    NormPadding,
    SiluByTanh,
    WrongRopeBase,
    # what ranks do together
    ArrivalOrder,
    ReduceBySize,
    RanksOfReplay,
    ThresholdsAtOnce,
    # what memory does
    BitFlip,
    WeightBitFlip,
    # what a schedule, a state or a draw does
    UnalignedChunk,
    GreedyChunk,
    ResumeByPrefill,
    WrongBlock,
    MisplacedWrite,
    PhantomRow,
    EarlyEviction,
    SeedDrift,
    Row0Seed,
    OffsetDrift,
    SamplerByBatch,
    StaleLogprobs,
    PenaltyRace,
    RenormRace,
    # what a run is asked
    ChangedPrompt,
    SamplingDefaults,
)
FAULTS: dict[str, type[Fault]] = {fault.name: fault for fault in _ALL}

_MOST = (1 << 31) - 1
# a distance of none is no fault
_BOUNDS = {"by": (1, _MOST)}


def arm(text: str, op_names: Sequence[str] | None, notify: Callable[[str], None]) -> Fault:
    """The fault that `NAME[:key=value,...]` asks for. Raises ConfigError naming what is not known.

    `op_names` None: what ops there are is not known here, and any will do.
    """
    name, _, tail = text.partition(":")
    if name in NEEDED:
        raise ConfigError(
            f"--fault {text}: needs {NEEDED[name].needs}, which the built-in engine does not have on a CPU",
            hint="`detrec faults` lists what can be injected",
        )
    if name not in FAULTS:
        # a word of a name is far from it by letters
        parts = [known for known in FAULTS if name and name in known]
        near = difflib.get_close_matches(name, FAULTS, n=1) or parts
        raise ConfigError(
            f"--fault {text}: unknown fault {name!r}",
            hint=f"did you mean {near[0]}?" if near else f"known faults: {', '.join(FAULTS)}",
        )
    cls = FAULTS[name]
    kinds = {
        key: kind for key, kind in cls.__init__.__annotations__.items() if key not in ("notify", "return")
    } | ({"rank": int} if cls.one_rank else {})
    values: dict[str, Any] = {}
    for pair in filter(None, tail.split(",")):
        key, equals, value = pair.partition("=")
        if key not in kinds or not equals:
            raise ConfigError(
                f"--fault {text}: {pair!r} is not a parameter", hint=f"parameters: {', '.join(kinds)}"
            )
        if key in values:
            raise ConfigError(f"--fault {text}: {key} is given twice", hint="a fault acts at one place")
        try:
            values[key] = kinds[key](value)
        except ValueError:
            raise ConfigError(f"--fault {text}: {key}: expected a whole number, got {value!r}") from None
        least, most = (_BOUNDS | cls.bounds).get(key, (0, _MOST))
        if kinds[key] is int and not least <= values[key] <= most:
            raise ConfigError(f"--fault {text}: {key}: expected {least} to {most}, got {value}")
    rank, told = values.pop("rank", None), list[str]()
    fault = cls(notify if rank is None else told.append, **values)
    layer = getattr(fault, "layer", None)
    op = getattr(fault, "op", None) if layer is None else f"{layer}.{cls.acts_on[0]}"
    if op is not None:
        _check_op(text, op, cls.acts_on, op_names)
    return fault if rank is None else OnOneRank(fault, rank, told, notify)


def check_ranks(fault: Fault, size: int) -> None:
    """Raise ConfigError for a fault that an engine of `size` ranks cannot have."""
    if isinstance(fault, OnOneRank):
        fault.check_ranks(size)
    elif size > 1 and not fault.least_ranks:
        name = f", or name the rank: {fault.name}:rank={size - 1}" if fault.one_rank else ""
        raise ConfigError(
            f"--fault {fault.name}: acts on one rank, got engine.tensor_parallel_size: {size}",
            hint=f"--set engine.tensor_parallel_size=1{name}",
        )
    if size < fault.least_ranks:
        raise ConfigError(
            f"--fault {fault.name}: needs {fault.least_ranks} ranks or more, "
            f"got engine.tensor_parallel_size: {size}",
            hint=f"--set engine.tensor_parallel_size={1 << (fault.least_ranks - 1).bit_length()}",
        )


def _check_op(text: str, op: str, acts_on: Sequence[str], op_names: Sequence[str] | None) -> None:
    if op_names is not None and op not in op_names:
        near = difflib.get_close_matches(op, op_names, n=1)
        raise ConfigError(f"--fault {text}: no op {op!r}", hint=f"did you mean {near[0]}?" if near else "")
    if acts_on and op.rpartition(".")[2] not in acts_on:
        raise ConfigError(
            f"--fault {text}: cannot act on {op}", hint=f"it acts on {', '.join(acts_on)}, of any layer"
        )
