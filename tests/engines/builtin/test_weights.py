"""Which checkpoint a model's name opens."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from detrec.engines.builtin.hf_config import from_hf
from detrec.engines.builtin.safetensors import stored_tensors
from detrec.engines.builtin.weights import file_digest, open_checkpoint, tensor_digests
from detrec.errors import ModelError
from tests.engines.builtin.model_files import QWEN2, gguf_bytes, write_safetensors


def refused(model, message):
    with pytest.raises(ModelError, match=message) as caught:
        open_checkpoint(str(model))
    return caught.value.hint


def test_builtin_names_open_seeded_models():
    assert open_checkpoint("builtin:qwen2-tiny").config.num_layers == 4
    assert (
        refused("builtin:lama-tiny", "builtin:lama-tiny: no such built-in")
        == "did you mean builtin:llama-tiny?"
    )


def test_a_file_is_read_as_gguf_and_a_directory_as_hugging_faces(tmp_path):
    refused(tmp_path, "has no config.json")
    (tmp_path / "config.json").write_text(json.dumps(QWEN2))
    refused(tmp_path, r"has neither model.safetensors")
    (tmp_path / "a.gguf").write_bytes(gguf_bytes({"general.architecture": "gemma"}, {}))
    refused(tmp_path / "a.gguf", r"general.architecture")


def test_what_is_not_there_gets_the_nearest_name(tmp_path):
    (tmp_path / "smollm2.gguf").touch()
    hint = refused(tmp_path / "smolm2.gguf", "no such file or directory")
    assert hint == f"did you mean {tmp_path / 'smollm2.gguf'}?"
    assert refused(tmp_path / "qwen2-tiny", "no such file") == "did you mean builtin:qwen2-tiny?"
    assert "builtin:qwen2-0.5b" in refused(tmp_path / "none" / "xyz", "no such file")


def test_an_unreadable_file_is_refused_without_a_traceback(tmp_path, monkeypatch):
    path = tmp_path / "a.gguf"
    path.touch()

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", denied)
    refused(path, r"a.gguf: cannot be read: Permission denied")


def test_the_digest_sees_order_names_and_every_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr("detrec.engines.builtin.weights._CHUNK", 4)
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"abcdefghij")
    second.write_bytes(b"abcdefghiJ")
    digests = {
        file_digest({"a": first}),
        file_digest({"a": second}),
        file_digest({"b": first}),
        file_digest({"a": first, "b": second}),
        file_digest({"a": second, "b": first}),
    }
    assert len(digests) == 5
    assert file_digest({"b": second, "a": first}) == file_digest({"a": first, "b": second})


def test_digests_are_these_on_every_machine(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes(range(256)) * 100)
    assert file_digest({"x": path}) == "3e0ba9742bbde4260c7221160f186393"


def one_tensor_changed(path: Path, change: Callable[[], object]) -> set[str]:
    """The tensors whose digests are others after `change`."""
    before = tensor_digests(open_checkpoint(str(path)))
    change()
    after = tensor_digests(open_checkpoint(str(path)))
    assert before.keys() == after.keys() == set(open_checkpoint(str(path)).config.shapes())
    assert all(len(digest) == 16 for digest in before.values())
    return {name for name in before if before[name] != after[name]}


def qwen2_directory(path: Path, dtype: type) -> Path:
    (path / "config.json").write_text(json.dumps(QWEN2))
    shapes = from_hf(QWEN2, None, where="config.json").shapes()
    generator = np.random.default_rng(0)
    tensors = {name: generator.integers(0, 255, shape).astype(dtype) for name, shape in shapes.items()}
    write_safetensors(path / "model.safetensors", tensors)
    return path / "model.safetensors"


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint16])
def test_one_bit_of_a_file_changes_the_digest_of_one_tensor(tmp_path, dtype):
    weights = qwen2_directory(tmp_path, dtype)
    name = "model.layers.1.mlp.up_proj.weight"
    tensor = stored_tensors(weights)[name]

    def flip() -> None:
        data = bytearray(weights.read_bytes())
        data[tensor.start + 77] ^= 4
        weights.write_bytes(data)

    assert one_tensor_changed(tmp_path, flip) == {name}
    assert one_tensor_changed(tmp_path, lambda: None) == set()


def test_a_large_checkpoint_is_digested_when_that_is_asked_for(tmp_path):
    qwen2_directory(tmp_path, np.uint16)
    checkpoint = open_checkpoint(str(tmp_path))
    size = sum(2 * math.prod(shape) for shape in checkpoint.config.shapes().values())
    assert tensor_digests(checkpoint, size - 1) == {}
    assert tensor_digests(checkpoint, size) == tensor_digests(checkpoint) != {}


def test_weights_made_from_a_seed_have_no_digests_of_their_own():
    assert tensor_digests(open_checkpoint("builtin:qwen2-7b")) == {}
