"""A Hugging Face model directory."""

import json
import shutil

import numpy as np
import pytest

from detrec.engines.builtin.bfloat16 import narrowed, widened
from detrec.engines.builtin.hf_config import from_hf
from detrec.engines.builtin.hf_directory import DirectoryCheckpoint
from detrec.errors import ModelError
from tests.bits import assert_same_bits
from tests.engines.builtin.model_files import QWEN2, write_safetensors


def weights():
    random = np.random.default_rng(5)
    return {
        name: random.standard_normal(shape).astype(np.float32)
        for name, shape in from_hf(QWEN2).shapes().items()
    }


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "tiny"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(QWEN2))
    write_safetensors(path / "model.safetensors", weights())
    return path


def shard(directory):
    """The same weights in two files and an index."""
    tensors = weights()
    (directory / "model.safetensors").unlink()
    files = {name: f"model-{1 + i % 2}-of-2.safetensors" for i, name in enumerate(tensors)}
    for file in set(files.values()):
        write_safetensors(directory / file, {name: tensors[name] for name in tensors if files[name] == file})
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


def test_one_file_gives_every_tensor(directory):
    checkpoint = DirectoryCheckpoint(directory)
    for name, array in weights().items():
        assert_same_bits(checkpoint.tensor(name), array)
        assert_same_bits(checkpoint.tensor(name, "bfloat16"), narrowed(array))


def test_shards_give_the_same(directory):
    shard(directory)
    checkpoint = DirectoryCheckpoint(directory)
    for name, array in weights().items():
        assert_same_bits(checkpoint.tensor(name), array)


def test_bfloat16_storage_is_kept_or_widened(directory):
    bits = {name: narrowed(array) for name, array in weights().items()}
    write_safetensors(directory / "model.safetensors", bits)
    checkpoint = DirectoryCheckpoint(directory)
    name = "model.layers.1.mlp.up_proj.weight"
    assert_same_bits(checkpoint.tensor(name, "bfloat16"), bits[name])
    assert_same_bits(checkpoint.tensor(name), widened(bits[name]))


def test_eos_ids_of_generation_config_count(directory):
    (directory / "generation_config.json").write_text('{"eos_token_id": [3, 9]}')
    assert DirectoryCheckpoint(directory).config.eos_token_ids == (3, 9)


def test_leftovers_that_change_nothing_are_ignored(directory):
    extra = {"lm_head.weight": np.ones((40, 32), np.float32)}
    extra["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
    write_safetensors(directory / "model.safetensors", {**weights(), **extra})
    assert DirectoryCheckpoint(directory).config.tie_word_embeddings


def test_the_digest_is_the_contents(directory, tmp_path):
    digest = DirectoryCheckpoint(directory).digest()
    moved = shutil.copytree(directory, tmp_path / "moved")
    assert DirectoryCheckpoint(moved).digest() == digest
    (directory / "config.json").write_text(json.dumps({**QWEN2, "rms_norm_eps": 1e-5}))
    assert DirectoryCheckpoint(directory).digest() != digest
    data = bytearray((moved / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (moved / "model.safetensors").write_bytes(data)
    assert DirectoryCheckpoint(moved).digest() != digest


def refused(directory, message):
    with pytest.raises(ModelError, match=message) as caught:
        DirectoryCheckpoint(directory)
    return caught.value.hint


def test_without_config_json_the_hint_names_a_gguf_file(directory):
    (directory / "config.json").unlink()
    assert refused(directory, "has no config.json") == "name a Hugging Face model directory"
    (directory / "a.gguf").touch()
    assert refused(directory, "has no config.json") == f"name the file: {directory / 'a.gguf'}"


def test_a_config_that_is_not_json_is_refused(directory):
    (directory / "config.json").write_text("{")
    refused(directory, "config.json: not JSON")
    (directory / "config.json").write_text("[]")
    refused(directory, "config.json: expected a mapping, got list")


def test_a_directory_without_weights_is_refused(directory):
    (directory / "model.safetensors").unlink()
    assert refused(directory, "has neither model.safetensors nor") == "only safetensors weights are read"


def test_a_missing_shard_is_refused(directory):
    shard(directory)
    (directory / "model-2-of-2.safetensors").unlink()
    refused(directory, "index.json: names model-2-of-2.safetensors, which is not there")


def test_an_index_that_leaves_the_directory_is_refused(directory):
    shard(directory)
    write_safetensors(directory.parent / "x.safetensors", {})
    (directory / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../x.safetensors"}}')
    refused(directory, "names x.safetensors, which is not there")


def test_a_tensor_in_two_shards_is_refused(directory):
    shard(directory)
    shutil.copy(directory / "model-1-of-2.safetensors", directory / "model-2-of-2.safetensors")
    refused(directory, "tensor .* is also in model-1-of-2.safetensors")


def test_a_missing_tensor_is_refused(directory):
    tensors = weights()
    del tensors["model.layers.1.self_attn.q_proj.bias"]
    write_safetensors(directory / "model.safetensors", tensors)
    refused(directory, "lacks 1 tensor, the first is model.layers.1.self_attn.q_proj.bias")


def test_a_tensor_of_another_shape_is_refused(directory):
    write_safetensors(
        directory / "model.safetensors", {**weights(), "model.norm.weight": np.ones(31, np.float32)}
    )
    refused(directory, r"model.norm.weight: the configuration says \[32\], the file \[31\]")


def test_a_tensor_that_would_go_unused_is_refused(directory):
    extra = {"model.layers.0.self_attn.o_proj.bias": np.ones(32, np.float32)}
    write_safetensors(directory / "model.safetensors", {**weights(), **extra})
    refused(directory, "o_proj.bias: no part of a qwen2 decoder")


def test_a_tensor_it_lacks_is_a_mistake_in_code(directory):
    with pytest.raises(ValueError, match=r"no tensor 'lm_head.weight'"):
        DirectoryCheckpoint(directory).tensor("lm_head.weight")
