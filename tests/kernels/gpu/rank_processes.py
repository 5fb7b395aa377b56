"""Ranks as processes for tests of GPUs' ranks, forked from one that has imported what takes long to import.

They have the GPUs there are, else memory that they share and Triton's interpreter.
"""

import multiprocessing
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from detrec.kernels import cuda, device_group
from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.launch import INTERPRETED
from detrec.kernels.rendezvous import Rendezvous
from tests.engines.builtin.host_device import HostDevice, HostStream
from tests.kernels.gpu.device import fresh, use


class HostPeers:
    """PeerMemory of processes without a GPU."""

    def __init__(self, rendezvous: Rendezvous, nbytes: int) -> None:
        self._block = rendezvous.block(nbytes * rendezvous.world_size)
        self._block[nbytes * rendezvous.rank :][:nbytes] = 0xFF
        rendezvous.barrier()
        self.addresses = [self._block.ctypes.data + nbytes * rank for rank in range(rendezvous.world_size)]

    def leave(self) -> None:
        pass

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
        return use(Device("torch", f"gpu:{rank % cuda.device_count()}"))
    cuda.pinned = lambda nbytes: np.zeros(nbytes, np.uint8)
    cuda.set_device = lambda index: None
    cuda.Stream = HostStream
    device_group.PeerMemory = HostPeers
    return _HostDevice()


def _rank(name: str, rank: int, world: int, work: Callable[[Rendezvous], Any], answer: Connection) -> None:
    try:
        meeting = Rendezvous.join(name, rank, world, 120)
        answer.send((True, work(meeting)))
        meeting.close()
    except BaseException:
        answer.send((False, traceback.format_exc()))
    finally:
        answer.close()


def in_processes(
    world: int, work: Callable[[Rendezvous], Any], *, dies: int | None = None, timeout_s: float = 120
) -> list[Any]:
    """What `work` gives in each of `world` processes, in rank order; all are ended after `timeout_s`.

    RuntimeError with their tracebacks where one raises, dies (but rank `dies`, which must) or is late.
    """
    fork = multiprocessing.get_context("fork")
    name = Rendezvous.create(world)
    ends: list[Any] = []
    ranks = []
    for rank in range(world):
        end, answer = fork.Pipe(duplex=False)
        ranks.append(fork.Process(target=_rank, args=(name, rank, world, work, answer)))
        ranks[-1].start()
        answer.close()
        ends.append(end)
    answers: dict[int, Any] = {}
    deadline = time.monotonic() + timeout_s
    try:
        while len(answers) < world and (left := deadline - time.monotonic()) > 0:
            for end in wait([end for rank, end in enumerate(ends) if rank not in answers], left):
                rank = ends.index(end)
                try:
                    answers[rank] = end.recv()
                except EOFError:
                    answers[rank] = (rank == dies, "it died")
    finally:
        for process in ranks:
            process.join(5 if len(answers) == world else 0)
            if process.is_alive():
                process.kill()
                process.join()
    failed = {rank: answers.get(rank, (False, "it is late")) for rank in range(world)}
    wrong = [f"rank {rank}: {said}" for rank, (well, said) in failed.items() if not well]
    if wrong:
        raise RuntimeError("\n".join(wrong))
    return [answers[rank][1] for rank in range(world)]
