"""A rank above 0: a process that does what rank 0 does, step by step, until rank 0 leaves.

It prints nothing: what goes wrong is rank 0's to tell. Loads little before it has come to the meeting place,
where it is waited for.
"""

import math
import os
import signal
import sys
import threading
import time
from contextlib import nullcontext

from detrec.engines.base import Step
from detrec.errors import DetrecError, RankLost
from detrec.kernels.rendezvous import Rendezvous

_LOOK_S = 0.5
_BUG = "an error of detrec's own: please report it"


def main(name: str, rank: str, size: str) -> None:
    """Be rank `rank` of the `size` that meet at `name`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    meeting = Rendezvous.join(name, int(rank), int(size), math.inf)
    try:
        _take_part(meeting)
    except RankLost:
        # rank 0 has left, or will say who was lost
        pass
    except DetrecError as error:
        meeting.abort(f"rank {rank}: {error}", error.hint)
        sys.exit(2)
    except BaseException as error:
        meeting.abort(f"rank {rank}: {type(error).__name__}: {error} ({_where(error)})", _BUG)
        sys.exit(2)
    meeting.close()


def _take_part(meeting: Rendezvous) -> None:
    from detrec.engines.builtin.engine import BuiltinEngine
    from detrec.engines.builtin.model import op_names
    from detrec.engines.builtin.ranks import Ranks, Run, Work
    from detrec.engines.builtin.weights import open_checkpoint
    from detrec.engines.faults import arm

    ranks = Ranks(meeting)
    work: Work = ranks.told()
    checkpoint = open_checkpoint(work.config.model)
    fault = arm(work.fault, tuple(op_names(checkpoint.config)), lambda text: None) if work.fault else None
    engine = BuiltinEngine(
        work.config,
        checkpoint,
        work.requests,
        forced=work.forced,
        fault=fault,
        instruments=work.instruments,
        ranks=ranks,
    )
    while True:
        run = ranks.told()
        if not isinstance(run, Run):
            run(engine)
            continue
        scheduler = engine.follow(_Nothing()) if run.following else engine.own_scheduler()
        with run.probe(engine) if run.probe else nullcontext() as probe:
            for _ in engine.run(scheduler, probe, run.names, until=run.until):
                pass


class _Nothing:
    """The plan of a rank above 0: rank 0's is followed."""

    def next_step(self) -> Step | None:
        return None


def _end_with(parent: int) -> None:
    """End as soon as the process that started this one has, wherever this one is."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(2)


def _where(error: BaseException) -> str:
    """The line that raised."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else ""
