"""Ranks as threads of this process: a meeting place costs nothing then, and a test can see all of them."""

import gc
import os
import threading
from collections.abc import Callable
from typing import Any

from detrec.kernels.rendezvous import Rendezvous


def open_files() -> int:
    """How many files this process has open, without those of garbage that other tests have left."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def in_ranks(world_size: int, work: Callable[[Rendezvous], Any], timeout_s: float = 120.0) -> list[Any]:
    """What `work` gave in each rank; raises what the first rank that failed raised."""
    name = Rendezvous.create(world_size)
    results: list[Any] = [None] * world_size
    errors: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            meeting = Rendezvous.join(name, rank, world_size, timeout_s)
            try:
                results[rank] = work(meeting)
            except BaseException as error:
                errors.append(error)
                meeting.abort(f"rank {rank}: {error}")
            meeting.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
