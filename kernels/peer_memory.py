"""GPU memory that the ranks of one host write to directly, through CUDA's IPC handles.

Such memory must be cudaMalloc's own: a framework's allocator cuts its tensors out of larger pieces, whose
handle would share the piece.
"""

import weakref

from detrec.errors import EngineError
from detrec.kernels import cuda
from detrec.kernels.rendezvous import Rendezvous


class PeerMemory:
    """`nbytes` of every rank's GPU, each byte 0xFF, at `addresses` by rank as this process sees them.

    Every rank is a process and must call, with the same `nbytes`; memory is this thread's current device's,
    and is given back with this object, or by `close`. EngineError where a GPU cannot reach another's memory.
    """

    def __init__(self, rendezvous: Rendezvous, nbytes: int) -> None:
        self._rendezvous = rendezvous
        self._own = cuda.allocate(nbytes)
        cuda.fill(self._own, 0xFF, nbytes)
        cuda.synchronize()
        told = rendezvous.exchange(nbytes.to_bytes(8, "little") + cuda.share(self._own))
        sizes = [int.from_bytes(each[:8], "little") for each in told]
        if set(sizes) != {nbytes}:
            raise EngineError(f"the ranks have memory of different sizes for each other: {sizes}")
        self._opened: list[int] = []
        self.addresses = [self._open(rank, each[8:]) for rank, each in enumerate(told)]
        self._release = weakref.finalize(self, _release, self._own, self._opened)
        self._release.atexit = False
        # nobody writes to memory that is not ready yet
        rendezvous.barrier()

    def _open(self, rank: int, handle: bytes) -> int:
        if rank == self._rendezvous.rank:
            return self._own
        try:
            self._opened.append(cuda.open_shared(handle))
        except EngineError as error:
            raise EngineError(
                f"rank {self._rendezvous.rank}: the GPU memory of rank {rank} cannot be reached: {error}",
                hint="ranks need GPUs of one host that can write to each other: nvidia-smi topo -p2p w",
            ) from error
        return self._opened[-1]

    def close(self) -> None:
        """Give the memory back, once no rank uses it: all must call."""
        cuda.synchronize()
        self._rendezvous.barrier()
        self._release()


def _release(own: int, opened: list[int]) -> None:
    for address in opened:
        cuda.close_shared(address)
    cuda.free(own)
