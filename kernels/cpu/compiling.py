"""How CPU kernels are compiled: the options that could move a bit, and a cache that sees every source.

numba keys its cache by the file of the function alone, so a kernel would outlive a change to what it calls.
Here the cache is a folder named by a digest of all of this folder's sources: change one, and all are
compiled anew. It lies under NUMBA_CACHE_DIR if that is set, else under the user's cache folder; one that
was not used for a month is removed when another is made.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from detrec.kernels import old_caches

# GNU OpenMP waits for a late thread by spinning for milliseconds, on the very core that thread needs when
# another process is busy: a call of 20 us was seen to take 8 ms. A short spin costs nothing on an idle
# machine. Read when libgomp is loaded, at the first parallel kernel; what the user set stays.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def _cache_folder() -> str:
    sources = hashlib.blake2b(digest_size=8)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        sources.update(path.name.encode() + path.read_bytes())
    name = f"kernels-{sources.hexdigest()}"
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    for base in (numba.config.CACHE_DIR, os.path.join(home, "detrec"), tempfile.gettempdir()):
        folder = os.path.join(base, name) if base else ""
        try:
            old_caches.use(folder)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return numba.config.CACHE_DIR or ""


_FOLDER = _cache_folder()
_places: set[str] = set()
"""Where numba keeps the kernels that were imported: below the folder, by where their sources lie."""


def _compile(function: Callable[..., Any], **options: bool) -> Any:
    theirs = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = _FOLDER
    try:
        kernel = numba.njit(cache=True, fastmath=False, error_model="numpy", nogil=True, **options)(function)
    finally:
        numba.config.CACHE_DIR = theirs
    _places.add(kernel.stats.cache_path)
    return kernel


def compiled_before() -> bool:
    """Has any kernel that was imported been compiled on this machine, from where it lies, yet?"""
    # numba compiles anew what another checkout or environment of the same sources has compiled
    return any(next(Path(place).glob("*.nbc"), None) for place in _places)


SHARE = 1 << 18
"""From so many elements on an elementwise kernel shares its rows: below, a launch costs more."""


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a serial kernel, or a part of one."""
    return _compile(function)


def shared(function: Callable[..., Any]) -> Any:
    """Compile a kernel that shares its work among threads: they decide who computes an element, never how."""
    return _compile(function, parallel=True)
