"""Where the files of a trace lie: a local directory, or any fsspec URL.

Keys are relative, with slashes. A local write is a new file renamed over the old one, so that a reader and a
kill -9 see the one or the other. Every failure of the medium is a TraceError.
"""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from detrec.errors import TraceError
from detrec.recorder.claim import Claim, claim, is_claimed

PARTIAL = ".partial"
"""Ends the name of a file that was being written when its recorder died."""


class Store(Protocol):
    """The files of one trace."""

    name: str
    """What messages call the trace."""

    patches_in_place: bool
    """Whether `patch` writes the new bytes alone."""

    @property
    def place(self) -> str:
        """Equal for two stores of the same files, however they were named."""
        ...

    def exists(self) -> bool:
        """Is anything there, trace or not?"""
        ...

    def is_claimed(self) -> bool:
        """Is a recorder of this machine seen to be at work there?"""
        ...

    def require_place(self) -> None:
        """Raise TraceError where no trace can be made there, as far as that shows beforehand."""
        ...

    def create(self, files: Mapping[str, bytes], *, replace: bool = False) -> None:
        """Make a new trace of `files`, the last of which makes it one, and claim it.

        TraceError where anything is there already; with `replace`, only where somebody has claimed it.
        """
        ...

    def release(self) -> None:
        """Nothing more will be written."""
        ...

    def read(self, key: str) -> bytes | None:
        """The bytes of a file, None where there is none."""
        ...

    def parts(self, key: str, ranges: Sequence[tuple[int, int]]) -> bytes | None:
        """Bytes [start, stop) of each range of a file, joined, fewer where it ends before that; None where
        there is no file.
        """
        ...

    def size(self, key: str) -> int | None:
        """How many bytes a file has, None where there is none."""
        ...

    def write(self, key: str, data: bytes) -> None:
        """Write a whole file."""
        ...

    def patch(self, key: str, data: memoryview, ranges: Sequence[tuple[int, int]]) -> None:
        """Make the file hold `data`, of which only the bytes [start, stop) of each range are new."""
        ...

    def delete(self, key: str) -> None:
        """Delete a file; it need not be there."""
        ...

    def keys(self) -> Iterator[str]:
        """Every file there is."""
        ...


_HINTS = {
    "read": "check that the trace is there and that you may read it",
    "written": "name another place with -o, or make room and give yourself the right to write there",
}


@contextmanager
def told(name: str, doing: str) -> Iterator[None]:
    """A failure of the medium while `name` is "read" or "written" is a TraceError."""
    try:
        yield
    except OSError as error:
        text = f"{name}: cannot be {doing}: {error.strerror or error}"
        raise TraceError(text, hint=_HINTS[doing]) from error


class LocalStore:
    """A directory. `create` builds it beside its place and renames it, so it is there whole or not at all.

    What was written to once is not written to when it has been moved away or replaced meanwhile.
    """

    patches_in_place = True

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        try:
            self._root = os.path.realpath(path)
        # no working folder, or a name that no file can have
        except (OSError, ValueError) as error:
            what = error.strerror if isinstance(error, OSError) else error
            raise TraceError(f"{self.name}: is no path that can be had here: {what}") from None
        self._claim: Claim | None = None
        self._written: tuple[int, int] | None = None

    @property
    def place(self) -> str:
        found = self._identity()
        return self._root if found is None else f"{found}"

    def exists(self) -> bool:
        return os.path.lexists(self._root)

    def is_claimed(self) -> bool:
        return is_claimed(self._root)

    def release(self) -> None:
        if self._claim is not None:
            self._claim.release()

    def require_place(self) -> None:
        parent = os.path.dirname(self._root)
        if not os.path.isdir(parent):
            raise TraceError(f"{self.name}: {parent} is not a directory", hint="create it first")
        with told(self.name, "written"):
            if not os.access(parent, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def create(self, files: Mapping[str, bytes], *, replace: bool = False) -> None:
        self.require_place()
        parent, name = os.path.split(self._root)
        final, fresh = self._root, os.path.join(parent, f".{name}.{uuid4().hex}{PARTIAL}")
        old = f"{fresh}.old"
        with told(self.name, "written"):
            try:
                os.mkdir(fresh)
                self._claim = claim(fresh)
                self._root = fresh
                for key, data in files.items():
                    self.write(key, data)
                refuse_taken(self.name, os.path.lexists(final), replace, is_claimed(final))
                if os.path.lexists(final):
                    os.rename(final, old)
                os.rename(fresh, final)
            except BaseException:
                self.release()
                shutil.rmtree(fresh, ignore_errors=True)
                if os.path.lexists(old):
                    os.rename(old, final)
                raise
            finally:
                self._root = final
            if os.path.lexists(old):
                shutil.rmtree(old)

    def read(self, key: str) -> bytes | None:
        with told(self.name, "read"):
            try:
                with open(f"{self._root}/{key}", "rb", buffering=0) as file:
                    return file.read()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def parts(self, key: str, ranges: Sequence[tuple[int, int]]) -> bytes | None:
        with told(self.name, "read"):
            try:
                with open(f"{self._root}/{key}", "rb", buffering=0) as file:
                    found = []
                    for start, stop in ranges:
                        file.seek(start)
                        found.append(file.read(stop - start))
                    return b"".join(found)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def size(self, key: str) -> int | None:
        with told(self.name, "read"):
            try:
                return os.stat(f"{self._root}/{key}").st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write(self, key: str, data: bytes) -> None:
        path = f"{self._root}/{key}"
        with told(self.name, "written"):
            self._require_same()
            file = _open_for_writing(path + PARTIAL, os.O_TRUNC)
            try:
                _write_all(file, memoryview(data), 0)
            finally:
                os.close(file)
            os.rename(path + PARTIAL, path)

    def patch(self, key: str, data: memoryview, ranges: Sequence[tuple[int, int]]) -> None:
        with told(self.name, "written"):
            self._require_same()
            file = _open_for_writing(f"{self._root}/{key}", 0)
            try:
                os.ftruncate(file, len(data))
                for start, stop in ranges:
                    _write_all(file, data[start:stop], start)
            finally:
                os.close(file)

    def delete(self, key: str) -> None:
        with told(self.name, "written"):
            Path(f"{self._root}/{key}").unlink(missing_ok=True)

    def keys(self) -> Iterator[str]:
        for folder, _, names in os.walk(self._root):
            below = os.path.relpath(folder, self._root).replace(os.sep, "/")
            for name in names:
                yield name if below == "." else f"{below}/{name}"

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._root)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _require_same(self) -> None:
        """Raise TraceError where another folder, or none, is in the place of the one that was written to."""
        found = self._identity()
        if self._written is None:
            self._written = found
        elif found != self._written:
            raise TraceError(
                f"{self.name}: was moved, deleted or replaced while it was recorded",
                hint="record it again, and leave it alone until it is done",
            )


def refuse_taken(name: str, exists: bool, replace: bool, claimed: bool) -> None:
    """Raise TraceError where nothing may be written to `name`."""
    if exists and not replace:
        raise TraceError(f"{name}: exists already", hint="--overwrite replaces it, -o names another place")
    if claimed:
        raise TraceError(
            f"{name}: another detrec is recording there just now", hint="wait for it, or name another place"
        )


def _open_for_writing(path: str, flags: int) -> int:
    flags |= os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0)
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return os.open(path, flags, 0o666)


def _write_all(file: int, data: memoryview, at: int) -> None:
    while len(data):
        count = os.pwrite(file, data, at)
        data, at = data[count:], at + count


def open_store(path: str | Path) -> Store:
    """The store behind a path or URL; nothing is read yet. TraceError for a protocol that cannot be had."""
    url = str(path)
    if not url:
        raise TraceError("the path of a trace is empty", hint="name one, such as run.zarr")
    if url.startswith("file://"):
        return LocalStore(url.removeprefix("file://"))
    if "://" not in url and "::" not in url:
        return LocalStore(url)
    from detrec.recorder.remote_store import RemoteStore

    try:
        import fsspec

        filesystem, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise TraceError(f"{url}: {error}", hint="pip install fsspec, and what this protocol needs") from None
    except ValueError as error:
        raise TraceError(f"{url}: {error}") from None
    return RemoteStore(url, filesystem, str(root))
