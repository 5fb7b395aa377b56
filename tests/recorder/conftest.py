"""Small chunks, so that a short run fills several of them."""

import pytest

from tests.recorder.runs import shrink


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of eight rows for growing arrays, of sixteen for fingerprints."""
    shrink(monkeypatch.setattr)
