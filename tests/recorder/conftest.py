"""Small chunks, so that a short run fills several of them."""

import pytest

from detrec.recorder import schema


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of eight rows for growing arrays, of sixteen for fingerprints."""
    groups = {group: (8, columns) for group, (_, columns) in schema._GROUPS.items()}
    monkeypatch.setattr(schema, "_GROUPS", groups)
    monkeypatch.setattr(schema, "_MAX_CHUNK_ROWS", 16)
    monkeypatch.setattr(schema, "_MIN_CHUNK_ROWS", 16)
