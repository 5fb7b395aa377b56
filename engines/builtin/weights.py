"""A model on disk, or made from a seed: its configuration, its tensors by name, and its tokenizer."""

import difflib
import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from detrec.engines.builtin.model_config import ModelConfig
from detrec.engines.builtin.tokenizer import Tokenizer
from detrec.errors import ModelError
from detrec.kernels.cpu.flipped_bit import byte_digest
from detrec.printable import counted

_CHUNK = 16 << 20

MOST_DIGESTED = 2 << 30
"""Bytes of a checkpoint whose tensors are digested one by one unless more are asked for: about a second."""


class Checkpoint(Protocol):
    """Tensors carry Hugging Face's names and shapes, whatever the file calls them."""

    config: ModelConfig

    def tensor(self, name: str, dtype: str = "float32") -> np.ndarray:
        """A tensor as "float32", or as "bfloat16" bits in uint16; made anew by every call.

        ValueError for a name that `config.shapes()` lacks.
        """
        ...

    def stored(self, name: str) -> np.ndarray | None:
        """The bytes of a tensor as they are stored, uint8 [n]; None where it is made and not stored."""
        ...

    def stores_plainly(self, name: str) -> bool:
        """Whether the stored bytes of a tensor are its elements, in the model's order and nothing else."""
        ...

    def digest(self) -> str:
        """128 bits, in hex, of configuration and weights: two checkpoints with one digest are one model."""
        ...

    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer. ModelError where it has none that can be read."""
        ...


def open_checkpoint(model: str) -> Checkpoint:
    """`builtin:NAME`, a directory with config.json and *.safetensors, or a .gguf file.

    Weights are read when they are asked for. Raises ModelError for what is not there, not whole, or not a
    model that the built-in engine runs.
    """
    if model.startswith("builtin:"):
        from detrec.engines.builtin.seeded import SeededCheckpoint

        return SeededCheckpoint(model.removeprefix("builtin:"))
    path = Path(model)
    try:
        if path.is_dir():
            from detrec.engines.builtin.hf_directory import DirectoryCheckpoint

            return DirectoryCheckpoint(path)
        if path.is_file():
            from detrec.engines.builtin.gguf_checkpoint import GgufCheckpoint

            return GgufCheckpoint(path)
    except OSError as error:
        raise ModelError(f"{model}: cannot be read: {error.strerror or error}") from None
    raise ModelError(f"{model}: no such file or directory", hint=_near(path))


def _near(path: Path) -> str:
    from detrec.engines.builtin.seeded import NAMES

    present = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, present, n=1)
    if near:
        return f"did you mean {path.parent / near[0]}?"
    builtin = difflib.get_close_matches(path.name, NAMES, n=1)
    if builtin:
        return f"did you mean builtin:{builtin[0]}?"
    return f"name a directory, a .gguf file, or one of builtin:{', builtin:'.join(NAMES)}"


def check_tensors(
    where: str, config: ModelConfig, found: Mapping[str, tuple[int, ...]], ignored: Iterable[str] = ()
) -> None:
    """Refuse a checkpoint that lacks a tensor, has one of another shape, or has one that would go unused.

    `found` maps names to shapes; `ignored` are names that may be there and change nothing.
    """
    shapes = config.shapes()
    absent = [name for name in shapes if name not in found]
    if absent:
        raise ModelError(
            f"{where}: lacks {counted(len(absent), 'tensor')}, the first is {absent[0]}",
            hint="is the download complete?",
        )
    for name, shape in shapes.items():
        if found[name] != shape:
            raise ModelError(
                f"{where}: {name}: the configuration says {list(shape)}, the file {list(found[name])}",
                hint="do configuration and weights belong together?",
            )
    unused = sorted(set(found) - set(shapes) - set(ignored))
    if unused:
        raise ModelError(
            f"{where}: {unused[0]}: no part of a {config.architecture} decoder; {len(unused)} such tensors",
            hint="the built-in engine would leave them out and compute something else",
        )


def file_digest(files: Mapping[str, Path]) -> str:
    """One digest of named files; about 1 GB/s a core, on all cores: seconds for a model of several GB.

    blake2b over the blake2b of every 16 MiB: chunks are hashed in parallel, the result knows nothing of it.
    """
    whole = hashlib.blake2b(digest_size=16)
    with ThreadPoolExecutor() as pool:
        for name, path in sorted(files.items()):
            size = path.stat().st_size
            whole.update(f"{name}\0{size}\0".encode())
            for part in pool.map(lambda start, path=path: _chunk_digest(path, start), range(0, size, _CHUNK)):
                whole.update(part)
    return whole.hexdigest()


def tensor_digests(checkpoint: Checkpoint, most: int = MOST_DIGESTED) -> dict[str, str]:
    """By name, 64 bits in hex of every tensor's stored bytes: which tensor it is that changed, and which bit.

    Empty for a checkpoint of more than `most` bytes; and for one that is made from a seed, whose whole
    `digest` fixes every bit of it.
    """
    names = tuple(checkpoint.config.shapes())
    tensors = {name: data for name in names if (data := checkpoint.stored(name)) is not None}
    if not tensors or sum(data.nbytes for data in tensors.values()) > most:
        return {}

    def digest(data: np.ndarray) -> str:
        return f"{byte_digest(data):016x}"

    with ThreadPoolExecutor() as pool:
        return dict(zip(tensors, pool.map(digest, tensors.values()), strict=True))


def _chunk_digest(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return hashlib.blake2b(file.read(_CHUNK), digest_size=32).digest()
