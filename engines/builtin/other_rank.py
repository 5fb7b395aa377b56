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
    from detrec.engines.builtin.ranks import Ranks
    from detrec.engines.builtin.start import engine_of

    ranks = Ranks(meeting)
    engine = engine_of(ranks, ranks.told())
    while True:
        ranks.told()(engine)


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
