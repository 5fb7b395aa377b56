"""Digests of a trace's files, and the root metadata that carries them and its own.

The root zarr.json opens with its digest at a fixed place, taken over the file's bytes with zeros there; every
other file is listed in it. So a flipped bit in any file is found, in white space and in the digests too.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from detrec.errors import TraceCorrupt, TraceError, TraceVersion
from detrec.recorder.schema import FORMAT_VERSION
from detrec.recorder.store import LocalStore, Store

DIGEST_BYTES = 16
_ZEROS = "0" * (2 * DIGEST_BYTES)
_OPENING = b'{"zarr_format": 3, "node_type": "group", "attributes": {"digest": "'
_BODY = len(_OPENING) + len(_ZEROS)


def new_hash() -> "hashlib.blake2b":
    """blake2b of 16 bytes, yet to be fed."""
    return hashlib.blake2b(digest_size=DIGEST_BYTES)


def digest(data: bytes) -> str:
    """32 hexadecimal digits of `data`."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def root_bytes(attributes: dict[str, Any]) -> bytes:
    """The root zarr.json with `attributes`, its own digest filled in. ValueError where they are not JSON."""
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"digest": _ZEROS, **attributes}}
    data = json.dumps(group, allow_nan=False).encode()
    assert data.startswith(_OPENING)
    return _OPENING + digest(data).encode() + data[_BODY:]


def _is_sealed(data: bytes) -> bool:
    own = data[len(_OPENING) : _BODY]
    return digest(_OPENING + _ZEROS.encode() + data[_BODY:]).encode() == own


def read_root(store: Store) -> dict[str, Any]:
    """The attributes of a trace's root.

    Raises TraceError where there is no trace, TraceCorrupt where its bytes are not those that were recorded,
    TraceVersion where another detrec wrote it.
    """
    data = store.read("zarr.json")
    if data is None:
        if not store.exists():
            raise TraceError(f"{store.name}: no such trace", hint="detrec record makes one")
        raise TraceError(f"{store.name}: not a trace: it has no zarr.json")
    if data.startswith(_OPENING) and not _is_sealed(data):
        raise TraceCorrupt(f"{store.name}: zarr.json: its bytes are not those that were recorded")
    try:
        attributes = json.loads(data)["attributes"]
        version = attributes["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        if b'"format_version"' in data:
            raise TraceCorrupt(
                f"{store.name}: zarr.json: its bytes are not those that were recorded"
            ) from None
        raise TraceError(f"{store.name}: not a trace: its zarr.json is not detrec's") from None
    if version != FORMAT_VERSION:
        raise TraceVersion(
            f"{store.name}: trace format {version}, this detrec reads {FORMAT_VERSION}",
            hint="read it with the detrec that recorded it, or record it again with this one",
        )
    if not data.startswith(_OPENING):
        raise TraceCorrupt(f"{store.name}: zarr.json: its bytes are not those that were recorded")
    return dict(attributes)


def looks_like_a_trace(store: Store) -> bool:
    """Does it carry detrec's root, of whatever version or state? What does not is never deleted."""
    data = store.read("zarr.json")
    return data is not None and data.startswith(_OPENING) and b'"format_version"' in data


def require_outside(path: str | Path) -> None:
    """Raise TraceError where a local `path` lies in a trace: one more file would make that corrupt."""
    if "://" in str(path) and not str(path).startswith("file://"):
        return
    for parent in Path(os.path.realpath(str(path).removeprefix("file://"))).parents:
        if looks_like_a_trace(LocalStore(parent)):
            raise TraceError(
                f"{path}: lies in {parent}, a trace, which would be corrupt with it",
                hint="name a place outside",
            )
