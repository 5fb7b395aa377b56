"""Where the files of a trace lie: a local directory, or any fsspec URL.

Keys are relative, with slashes. A local write is a new file renamed over the old one, so that a reader and a
kill -9 see the one or the other. Every failure of the medium is a TraceError.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from detrec.errors import TraceError

PARTIAL = ".partial"
"""Ends the name of a file that was being written when its recorder died."""


class Store(Protocol):
    """The files of one trace."""

    name: str
    """What messages call the trace."""

    patches_in_place: bool
    """Whether `patch` writes the new bytes alone."""

    def exists(self) -> bool:
        """Is anything there, trace or not?"""
        ...

    def create(self, files: Mapping[str, bytes]) -> None:
        """Put a new trace of `files` in place of whatever is there; the last of them makes it a trace."""
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
def _told(name: str, doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        text = f"{name}: cannot be {doing}: {error.strerror or error}"
        raise TraceError(text, hint=_HINTS[doing]) from error


class LocalStore:
    """A directory. `create` builds it beside its place and renames it, so it is there whole or not at all."""

    patches_in_place = True

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        self._root = os.path.realpath(path)

    def exists(self) -> bool:
        return os.path.lexists(self._root)

    def create(self, files: Mapping[str, bytes]) -> None:
        parent, name = os.path.split(self._root)
        if not os.path.isdir(parent):
            raise TraceError(f"{self.name}: {parent} is not a directory", hint="create it first")
        final, fresh = self._root, os.path.join(parent, f".{name}.{uuid4().hex}{PARTIAL}")
        old = f"{fresh}.old"
        with _told(self.name, "written"):
            try:
                os.mkdir(fresh)
                self._root = fresh
                for key, data in files.items():
                    self.write(key, data)
                if os.path.lexists(final):
                    os.rename(final, old)
                os.rename(fresh, final)
            except BaseException:
                shutil.rmtree(fresh, ignore_errors=True)
                if os.path.lexists(old):
                    os.rename(old, final)
                raise
            finally:
                self._root = final
            if os.path.lexists(old):
                shutil.rmtree(old)

    def read(self, key: str) -> bytes | None:
        with _told(self.name, "read"):
            try:
                with open(f"{self._root}/{key}", "rb", buffering=0) as file:
                    return file.read()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def parts(self, key: str, ranges: Sequence[tuple[int, int]]) -> bytes | None:
        with _told(self.name, "read"):
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
        with _told(self.name, "read"):
            try:
                return os.stat(f"{self._root}/{key}").st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write(self, key: str, data: bytes) -> None:
        path = f"{self._root}/{key}"
        with _told(self.name, "written"):
            file = _open_for_writing(path + PARTIAL, os.O_TRUNC)
            try:
                _write_all(file, memoryview(data), 0)
            finally:
                os.close(file)
            os.rename(path + PARTIAL, path)

    def patch(self, key: str, data: memoryview, ranges: Sequence[tuple[int, int]]) -> None:
        with _told(self.name, "written"):
            file = _open_for_writing(f"{self._root}/{key}", 0)
            try:
                os.ftruncate(file, len(data))
                for start, stop in ranges:
                    _write_all(file, data[start:stop], start)
            finally:
                os.close(file)

    def delete(self, key: str) -> None:
        with _told(self.name, "written"):
            Path(f"{self._root}/{key}").unlink(missing_ok=True)

    def keys(self) -> Iterator[str]:
        for folder, _, names in os.walk(self._root):
            below = os.path.relpath(folder, self._root).replace(os.sep, "/")
            for name in names:
                yield name if below == "." else f"{below}/{name}"


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


class RemoteStore:
    """A URL. There is no rename: a recorder killed inside `create` leaves files that are not yet a trace."""

    patches_in_place = False

    def __init__(self, url: str, filesystem: Any, root: str) -> None:
        self.name = url
        self._files = filesystem
        self._root = root.rstrip("/")

    def exists(self) -> bool:
        with _told(self.name, "read"):
            return bool(self._files.exists(self._root))

    def create(self, files: Mapping[str, bytes]) -> None:
        with _told(self.name, "written"):
            if self._files.exists(self._root):
                self._files.rm(self._root, recursive=True)
        for key, data in files.items():
            self.write(key, data)

    def read(self, key: str) -> bytes | None:
        with _told(self.name, "read"):
            try:
                return bytes(self._files.cat_file(f"{self._root}/{key}"))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def parts(self, key: str, ranges: Sequence[tuple[int, int]]) -> bytes | None:
        # to ask again takes longer than a few hundred kilobytes more
        data = self.read(key)
        return None if data is None else b"".join(data[start:stop] for start, stop in ranges)

    def size(self, key: str) -> int | None:
        with _told(self.name, "read"):
            try:
                return int(self._files.size(f"{self._root}/{key}"))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write(self, key: str, data: bytes) -> None:
        with _told(self.name, "written"):
            self._files.pipe_file(f"{self._root}/{key}", data)

    def patch(self, key: str, data: memoryview, ranges: Sequence[tuple[int, int]]) -> None:
        self.write(key, bytes(data))

    def delete(self, key: str) -> None:
        with _told(self.name, "written"):
            if self._files.exists(f"{self._root}/{key}"):
                self._files.rm_file(f"{self._root}/{key}")

    def keys(self) -> Iterator[str]:
        with _told(self.name, "read"):
            for path in self._files.find(self._root):
                yield path[len(self._root) + 1 :]


def open_store(path: str | Path) -> Store:
    """The store behind a path or URL; nothing is read yet. TraceError for a protocol that cannot be had."""
    url = str(path)
    if not url:
        raise TraceError("the path of a trace is empty", hint="name one, such as run.zarr")
    if url.startswith("file://"):
        return LocalStore(url.removeprefix("file://"))
    if "://" not in url and "::" not in url:
        return LocalStore(url)
    try:
        import fsspec  # type: ignore[import-untyped]

        filesystem, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise TraceError(f"{url}: {error}", hint="pip install fsspec, and what this protocol needs") from None
    except ValueError as error:
        raise TraceError(f"{url}: {error}") from None
    return RemoteStore(url, filesystem, str(root))
