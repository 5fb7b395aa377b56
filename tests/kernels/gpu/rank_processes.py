"""Ranks as processes for tests of DeviceGroup: on the GPUs there are, else in host memory with the
interpreter.

`python -m tests.kernels.gpu.rank_cases` forks them from a process that has imported what is slow to import
and has not touched a GPU.
"""

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from detrec.kernels import cuda, device_group
from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.device_group import DeviceGroup
from detrec.kernels.launch import INTERPRETED
from detrec.kernels.rendezvous import Rendezvous
from tests.engines.builtin.host_device import HostDevice, HostStream
from tests.kernels.gpu.device import fresh

Body = Callable[[DeviceGroup, Device], Any]


class HostPeers:
    """PeerMemory of processes without a GPU."""

    def __init__(self, rendezvous: Rendezvous, nbytes: int) -> None:
        self._block = rendezvous.block(nbytes * rendezvous.world_size)
        self._block[nbytes * rendezvous.rank :][:nbytes] = 0xFF
        self.addresses = [self._block.ctypes.data + nbytes * rank for rank in range(rendezvous.world_size)]

    def close(self) -> None:
        pass


class _HostDevice(HostDevice):
    def __init__(self) -> None:
        super().__init__("paddle", "cpu")

    def empty(self, shape: tuple[int, ...], dtype: str) -> DeviceArray:
        return fresh(shape, dtype)


def device_of(rank: int) -> Device:
    """The GPU of a rank, several to one where they must."""
    if not INTERPRETED:
        return Device("torch", f"gpu:{rank % cuda.device_count()}")
    cuda.pinned = lambda nbytes: np.zeros(nbytes, np.uint8)
    cuda.set_device = lambda index: None
    cuda.Stream = HostStream
    device_group.PeerMemory = HostPeers
    return _HostDevice()


def _rank(
    name: str, rank: int, world: int, body: Body, max_bytes: int, limit_s: float, answer: Connection
) -> None:
    try:
        rendezvous = Rendezvous.join(name, rank, world, 120)
        group = DeviceGroup(rendezvous, device_of(rank), max_bytes, limit_s)
        answer.send((True, body(group, group._device)))
        rendezvous.close()
    except BaseException:
        answer.send((False, traceback.format_exc()))
    finally:
        answer.close()
        sys.stdout.flush()


def run_ranks(
    world: int, body: Body, *, max_bytes: int, limit_s: float, dies: int | None = None, timeout_s: float = 120
) -> list[Any]:
    """What `body` gives in each of `world` processes, in rank order; all are ended after `timeout_s`.

    RuntimeError with their tracebacks where one raises, dies (but rank `dies`, which must) or is late.
    """
    fork = multiprocessing.get_context("fork")
    name = Rendezvous.create(world)
    ends: list[Connection] = []
    ranks = []
    for rank in range(world):
        end, answer = fork.Pipe(duplex=False)
        work = fork.Process(target=_rank, args=(name, rank, world, body, max_bytes, limit_s, answer))
        work.start()
        answer.close()
        ends.append(end)
        ranks.append(work)
    answers: dict[int, Any] = {}
    deadline = time.monotonic() + timeout_s
    try:
        while len(answers) < world and (left := deadline - time.monotonic()) > 0:
            for end in wait([end for rank, end in enumerate(ends) if rank not in answers], left):
                rank = ends.index(end)  # type: ignore[arg-type]
                try:
                    answers[rank] = end.recv()  # type: ignore[union-attr]
                except EOFError:
                    answers[rank] = (rank == dies, "it died")
    finally:
        for work in ranks:
            work.join(5)
            if work.is_alive():
                os.kill(work.pid, 9)
                work.join()
    wrong = [f"rank {rank}: {answers.get(rank, (False, 'late'))[1]}" for rank in range(world)
             if not answers.get(rank, (False,))[0]]  # fmt: skip
    if wrong:
        raise RuntimeError("\n".join(wrong))
    return [answers[rank][1] for rank in range(world)]
