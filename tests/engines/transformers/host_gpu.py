"""transformers on a GPU that is host memory: torch's CPU kernels, detrec's in Triton's interpreter."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.engines.builtin import host_device


@contextmanager
def host_gpu() -> Iterator[None]:
    """Inside, `device: gpu` of transformers is the host."""
    with host_device.host_gpu(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("detrec.engines.transformers.model.torch_place", lambda device: "cpu")
        patch.setattr(
            "detrec.engines.transformers.engine.Device",
            lambda framework, name, stream: host_device.HostDevice(framework, name),
        )
        patch.setattr("detrec.kernels.arrays.current_stream", lambda framework, device: 0)
        yield
