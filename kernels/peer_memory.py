"""GPU memory that the ranks of one host write to directly, through CUDA's IPC handles.

Such memory must be cudaMalloc's own: a framework's allocator cuts its tensors out of larger pieces, whose
handle would share the piece. It is not given back while another process has it open: what comes next may
have the same handle, by which the other would find what it had opened before.
"""

from detrec.errors import EngineError
from detrec.kernels import cuda
from detrec.kernels.rendezvous import Rendezvous

# of groups that this process has left: the others of them have ended when it makes another
_left: list[int] = []


class PeerMemory:
    """`nbytes` of every rank's GPU, each byte 0xFF, at `addresses` by rank as this process sees them.

    Every rank is a process and must call, with the same `nbytes`; memory is this thread's current device's.
    EngineError where a GPU cannot reach another's memory.
    """

    def __init__(self, rendezvous: Rendezvous, nbytes: int) -> None:
        while _left:
            cuda.free(_left.pop())
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

    def leave(self) -> None:
        """Reach for the others' memory no more. This rank's is given back when they have ended."""
        self._close_opened()
        _left.append(self._own)

    def close(self) -> None:
        """Give the memory back: all must call, when their kernels that use it have run."""
        self._close_opened()
        self._rendezvous.barrier()
        cuda.free(self._own)

    def _close_opened(self) -> None:
        while self._opened:
            cuda.close_shared(self._opened.pop())
