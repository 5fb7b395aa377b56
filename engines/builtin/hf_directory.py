"""A Hugging Face model directory: config.json, *.safetensors in one file or many, tokenizer.json."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from detrec.engines.builtin.bfloat16 import stored
from detrec.engines.builtin.hf_config import from_hf
from detrec.engines.builtin.safetensors import Stored, stored_tensors
from detrec.engines.builtin.tokenizer import Tokenizer
from detrec.engines.builtin.tokenizer_files import directory_tokenizer
from detrec.engines.builtin.weights import check_tensors, file_digest
from detrec.errors import ModelError

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_CONFIGS = ("config.json", "generation_config.json")


class DirectoryCheckpoint:
    """Weights are read when they are asked for. Raises ModelError; see `open_checkpoint`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        config, generation = (read_json(path / name) for name in _CONFIGS)
        if config is None:
            raise ModelError(f"{path}: has no config.json", hint=_instead(path))
        self.config = from_hf(config, generation, where=str(path / "config.json"))
        self._shards = _shards(path)
        self._tensors: dict[str, Stored] = {}
        for shard in self._shards:
            for name, tensor in stored_tensors(shard).items():
                if name in self._tensors:
                    raise ModelError(f"{shard}: tensor {name} is also in {self._tensors[name].path.name}")
                self._tensors[name] = tensor
        # old Llama files keep the frequencies, some tied models a second embedding: no one reads them
        ignored = [name for name in self._tensors if name.endswith("rotary_emb.inv_freq")]
        if self.config.tie_word_embeddings:
            ignored.append("lm_head.weight")
        shapes = {name: tensor.shape for name, tensor in self._tensors.items()}
        check_tensors(str(path), self.config, shapes, ignored)

    def tensor(self, name: str, dtype: str = "float32") -> np.ndarray:
        """A tensor as "float32", or as "bfloat16" bits in uint16; read-only where it needs no conversion."""
        if name not in self._tensors:
            raise ValueError(f"{self._path}: no tensor {name!r}")
        return stored(self._tensors[name].read(), dtype)

    def stored(self, name: str) -> np.ndarray:
        """The bytes of a tensor as the file has them, mapped."""
        return self._tensors[name].raw()

    def stores_plainly(self, name: str) -> bool:
        """Always: that is the format."""
        return True

    @cached_property
    def _digest(self) -> str:
        files = {path.name: path for path in self._shards}
        return file_digest(
            files | {name: self._path / name for name in _CONFIGS if (self._path / name).is_file()}
        )

    def digest(self) -> str:
        """128 bits, in hex, of the bytes of configuration and weight files, wherever the directory lies."""
        return self._digest

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return directory_tokenizer(self._path)

    def tokenizer(self) -> Tokenizer:
        """Read once from tokenizer.json."""
        return self._tokenizer


def read_json(path: Path) -> dict[str, Any] | None:
    """The mapping in a JSON file, None where there is no such file."""
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: not JSON: {error}", hint="is the download complete?") from None
    if not isinstance(data, dict):
        raise ModelError(f"{path}: expected a mapping, got {type(data).__name__}")
    return data


def _shards(path: Path) -> list[Path]:
    """The weight files: those that the index names, else the single one."""
    index = read_json(path / _INDEX)
    if index is None:
        if not (path / _SINGLE).is_file():
            raise ModelError(
                f"{path}: has neither {_SINGLE} nor {_INDEX}", hint="only safetensors weights are read"
            )
        return [path / _SINGLE]
    names = index.get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ModelError(f"{path / _INDEX}: weight_map: expected tensor names to file names")
    shards = [path / name for name in sorted(set(names.values()))]
    for shard in shards:
        if shard.parent != path or not shard.is_file():
            raise ModelError(
                f"{path / _INDEX}: names {shard.name}, which is not there", hint="is the download complete?"
            )
    return shards


def _instead(path: Path) -> str:
    files = sorted(path.glob("*.gguf"))
    return f"name the file: {files[0]}" if files else "name a Hugging Face model directory"
