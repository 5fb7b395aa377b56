"""How likely a drawn token was, and by how much it was ahead: of a step's logits, where they are.

On a GPU nothing but 32 bytes a row is brought to the host, behind the forward pass: to bring the logits would
take longer than many a step.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from detrec.kernels import cuda
from detrec.kernels.cpu.sample import SAMPLE_DTYPE
from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray

# the dtypes of temperature, top_k, top_p, min_p, seed and counter, all of which are 0
_GREEDY = ("float32", "int32", "float32", "float32", "uint64", "uint64")

Score = tuple[float, float]
"""Log probability of a token, and that less the log probability of the likeliest other one: nats."""


class Draws(Protocol):
    """Takes the logits of one step after another."""

    def take(self, logits: Any, samples: np.ndarray) -> None:
        """These are the step's, float32 [drawn, V], of which `samples` (int [S]) are rows that sample."""
        ...

    def scores(self, tokens: Sequence[int]) -> list[Score]:
        """Of the token that was drawn for each row that samples; the step is over."""
        ...


class HostDraws:
    """Draws of logits that are numpy arrays."""

    def take(self, logits: np.ndarray, samples: np.ndarray) -> None:
        """Keep the rows that sample."""
        self._logits = logits[samples]

    def scores(self, tokens: Sequence[int]) -> list[Score]:
        """In float64."""
        return [_score(row, token) for row, token in zip(self._logits, tokens, strict=True)]


class DeviceDraws:
    """Draws of DeviceArrays, computed in the stream of `device`, in which the model runs too.

    The token is the likeliest, as greedy decoding has it, and the lowest of equals.
    """

    def __init__(self, device: Device, vocabulary: int) -> None:
        # they load Triton, which an engine on the CPU has no use for
        from detrec.kernels.gpu.sample import sample, scratch_bytes
        from detrec.kernels.gpu.softmax import log_softmax

        self._device, self._vocabulary, self._arrived = device, vocabulary, cuda.Event()
        self._sample, self._log_softmax, self._scratch_bytes = sample, log_softmax, scratch_bytes
        self._room = 0
        self._samples = np.zeros(0, np.intp)

    def take(self, logits: DeviceArray, samples: np.ndarray) -> None:
        """Queue the work and the copy of its result."""
        from detrec.kernels.launch import on_stream

        rows, stream = len(logits), self._device.stream
        if rows > self._room:
            self._make_room(rows)
        self._samples = samples
        logprobs = self._logprobs[:rows]
        zeros = (DeviceArray(self._zeros.address, kind, (rows,), (), self._zeros.owner) for kind in _GREEDY)
        with on_stream(stream.handle):
            self._log_softmax(logits, logprobs)
            self._sample(*(logprobs, *zeros, self._drawn[:rows], self._scratch))
        stream.copy_to_host(self._host[:rows].view(np.int64), self._drawn[:rows].reshape(4 * rows))
        self._arrived.record(stream)

    def scores(self, tokens: Sequence[int]) -> list[Score]:
        """Waits until the step's are here."""
        self._arrived.wait()
        drawn = self._host[self._samples]
        assert len(drawn) == len(tokens), "a token for each row that samples"
        return [(float(row["logprob"]), float(row["margin"])) for row in drawn]

    def _make_room(self, rows: int) -> None:
        """Nothing of the step before is on its way: `scores` has waited for it."""
        device = self._device
        self._logprobs = device.empty((rows, self._vocabulary), "float32")
        self._drawn = device.empty((rows, 4), "int64")
        self._scratch = device.empty((self._scratch_bytes(rows, self._vocabulary),), "uint8")
        self._zeros = device.zeros((8 * rows,), "uint8")
        self._host = cuda.pinned(SAMPLE_DTYPE.itemsize * rows).view(SAMPLE_DTYPE)
        self._room = rows


def _score(logits: np.ndarray, token: int) -> Score:
    wide = logits.astype(np.float64)
    total = wide.max() + np.log(np.exp(wide - wide.max()).sum())
    first, second = float(wide[token] - total), float(np.delete(wide, token).max() - total)
    return first, first - second
