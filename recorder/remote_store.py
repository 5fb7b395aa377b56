"""A trace behind any fsspec URL."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detrec.recorder.store import refuse_taken, told


class RemoteStore:
    """A URL. There is no rename: a recorder killed inside `create` leaves files that are not yet a trace."""

    patches_in_place = False

    def __init__(self, url: str, filesystem: Any, root: str) -> None:
        self.name = url
        self._files = filesystem
        self._root = root.rstrip("/")

    def exists(self) -> bool:
        with told(self.name, "read"):
            return bool(self._files.exists(self._root))

    @property
    def place(self) -> str:
        return str(self._files.unstrip_protocol(self._root))

    def is_claimed(self) -> bool:
        return False

    def release(self) -> None:
        pass

    def require_place(self) -> None:
        # only to write tells whether one may
        pass

    def create(self, files: Mapping[str, bytes], *, replace: bool = False) -> None:
        refuse_taken(self.name, self.exists(), replace, False)
        with told(self.name, "written"):
            if self._files.exists(self._root):
                self._files.rm(self._root, recursive=True)
        for key, data in files.items():
            self.write(key, data)

    def read(self, key: str) -> bytes | None:
        with told(self.name, "read"):
            try:
                return bytes(self._files.cat_file(f"{self._root}/{key}"))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def parts(self, key: str, ranges: Sequence[tuple[int, int]]) -> bytes | None:
        # to ask again takes longer than a few hundred kilobytes more
        data = self.read(key)
        return None if data is None else b"".join(data[start:stop] for start, stop in ranges)

    def size(self, key: str) -> int | None:
        with told(self.name, "read"):
            try:
                return int(self._files.size(f"{self._root}/{key}"))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write(self, key: str, data: bytes) -> None:
        with told(self.name, "written"):
            self._files.pipe_file(f"{self._root}/{key}", data)

    def patch(self, key: str, data: memoryview, ranges: Sequence[tuple[int, int]]) -> None:
        self.write(key, bytes(data))

    def delete(self, key: str) -> None:
        with told(self.name, "written"):
            if self._files.exists(f"{self._root}/{key}"):
                self._files.rm_file(f"{self._root}/{key}")

    def keys(self) -> Iterator[str]:
        with told(self.name, "read"):
            for path in self._files.find(self._root):
                yield path[len(self._root) + 1 :]
