"""A .gguf file as a checkpoint."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from detrec.engines.builtin.gguf_checkpoint import GgufCheckpoint
from detrec.engines.builtin.hf_config import from_hf
from detrec.errors import ModelError
from tests.bits import assert_same_bits
from tests.engines.builtin.model_files import QWEN2, gguf_bytes

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "model.layers.1.input_layernorm.weight": "blk.1.attn_norm.weight",
    "model.layers.1.post_attention_layernorm.weight": "blk.1.ffn_norm.weight",
}
PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    if name in NAMES:
        return NAMES[name]
    index, part = name.removeprefix("model.layers.").split(".", 1)
    stem, kind = part.rsplit(".", 1)
    return f"blk.{index}.{PARTS[stem]}.{kind}"


def interleaved(weight, heads):
    """What the converter does to q and k of the llama architecture (GGUF specification, "LLaMA")."""
    return weight.reshape(heads, 2, len(weight) // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def metadata(arch, **more):
    return {
        "general.architecture": arch,
        f"{arch}.embedding_length": 32,
        f"{arch}.feed_forward_length": 64,
        f"{arch}.block_count": 2,
        f"{arch}.context_length": 128,
        f"{arch}.attention.head_count": 4,
        f"{arch}.attention.head_count_kv": 2,
        f"{arch}.attention.layer_norm_rms_epsilon": 2.0**-20,
        f"{arch}.rope.freq_base": 1000.0,
        "tokenizer.ggml.eos_token_id": 3,
        **more,
    }


def weights(config):
    random = np.random.default_rng(5)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in config.shapes().items()}


def stored(arch, tensors):
    heads = {"q_proj.weight": 4, "k_proj.weight": 2}
    out = {}
    for name, array in tensors.items():
        count = next((count for end, count in heads.items() if name.endswith(end)), 0)
        array = interleaved(array, count) if count and arch == "llama" else array
        out[gguf_name(name)] = (array.shape, 0, array.tobytes())
    return out


@pytest.fixture
def write(tmp_path):
    def written(arch="qwen2", drop="", tensors=None, **more):
        config = from_hf({**QWEN2, "model_type": arch})
        entries = {**stored(arch, weights(config)), **(tensors or {})}
        entries.pop(drop, None)
        path = tmp_path / "tiny.gguf"
        path.write_bytes(
            gguf_bytes({k: v for k, v in metadata(arch, **more).items() if v is not None}, entries)
        )
        return path

    return written


@pytest.mark.parametrize("arch", ["qwen2", "qwen3", "llama"])
def test_every_tensor_comes_back_by_its_hugging_face_name(write, arch):
    checkpoint = GgufCheckpoint(write(arch))
    expected = weights(from_hf({**QWEN2, "model_type": arch}))
    assert list(checkpoint.config.shapes()) == list(expected)
    for name, array in expected.items():
        assert_same_bits(checkpoint.tensor(name), array)


def test_stored_bytes_are_those_of_the_file(write):
    checkpoint, tensors = GgufCheckpoint(write("llama")), weights(from_hf({**QWEN2, "model_type": "llama"}))
    for name in ("model.layers.1.self_attn.q_proj.weight", "model.norm.weight"):
        _, _, data = stored("llama", tensors)[gguf_name(name)]
        assert checkpoint.stored(name).tobytes() == data


def test_interleaving_moves_rows():
    """Negative control of the test above: it could not tell permuted rows from others if this failed."""
    weight = weights(from_hf({**QWEN2, "model_type": "llama"}))["model.layers.0.self_attn.q_proj.weight"]
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(interleaved(weight, 4), weight)


def test_the_configuration_is_that_of_the_metadata(write):
    config = GgufCheckpoint(
        write("qwen3", **{"tokenizer.ggml.eot_token_id": 5, "tokenizer.ggml.bos_token_id": 1})
    ).config
    assert (config.architecture, config.qk_norm, config.qkv_bias) == ("qwen3", True, False)
    assert (config.vocab_size, config.head_dim, config.num_kv_heads, config.num_layers) == (40, 8, 2, 2)
    assert (config.rope_theta, config.rms_norm_eps, config.max_position_embeddings) == (1000.0, 2.0**-20, 128)
    assert (config.eos_token_ids, config.bos_token_id, config.tie_word_embeddings) == ((3, 5), 1, True)


def test_an_output_tensor_unties_the_head(write):
    head = np.ones((40, 32), np.float32)
    checkpoint = GgufCheckpoint(write(tensors={"output.weight": (head.shape, 0, head.tobytes())}))
    assert not checkpoint.config.tie_word_embeddings
    assert_same_bits(checkpoint.tensor("lm_head.weight"), head)


def test_rope_factors_divide_the_frequencies(write):
    factors = np.array([1, 1, 2, 8], np.float32)
    path = write("llama", tensors={"rope_freqs.weight": ((4,), 0, factors.tobytes())})
    plain = GgufCheckpoint(write("llama")).config.inv_freq()
    path = write("llama", tensors={"rope_freqs.weight": ((4,), 0, factors.tobytes())})
    assert GgufCheckpoint(path).config.inv_freq().tolist() == (plain / factors).tolist()


def test_linear_rope_scaling_is_read(write):
    path = write(**{"qwen2.rope.scaling.type": "linear", "qwen2.rope.scaling.factor": 4.0})
    assert GgufCheckpoint(path).config.rope_scaling == {"rope_type": "linear", "factor": 4.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"general.architecture": "gemma"},
            "general.architecture: expected one of qwen2, qwen3, llama, got 'gemma'",
        ),
        (
            {"qwen2.block_count": None},
            "qwen2.block_count: expected a whole number of at least 1, got nothing",
        ),
        ({"qwen2.rope.scaling.type": "yarn"}, "qwen2.rope.scaling.type: expected none or linear, got 'yarn'"),
        ({"qwen2.expert_count": 8}, "qwen2.expert_count: expected none, got 8"),
        ({"qwen2.attention.sliding_window": 64}, "qwen2.attention.sliding_window: expected none, got 64"),
        ({"qwen2.rope.dimension_count": 4}, "qwen2.rope.dimension_count: expected the head's 8, got 4"),
        ({"split.count": 2}, "split.count: expected one file, got 2"),
        ({"drop": "token_embd.weight"}, "has no token_embd.weight"),
        (
            {"drop": "blk.1.ffn_up.weight"},
            "lacks 1 tensor, the first is model.layers.1.mlp.up_proj.weight",
        ),
        (
            {"qwen2.feed_forward_length": 32},
            r"gate_proj.weight: the configuration says \[32, 32\], the file \[64, 32\]",
        ),
        (
            {"tensors": {"blk.0.extra.weight": ((4,), 0, bytes(16))}},
            "blk.0.extra.weight: no part of a qwen2 decoder",
        ),
    ],
)
def test_refuses_what_it_would_not_compute(write, change, message):
    with pytest.raises(ModelError, match=message) as caught:
        GgufCheckpoint(write(**change))
    assert caught.value.hint


def test_a_file_cut_in_its_last_tensor_is_refused_at_once(write):
    path = write()
    path.write_bytes(path.read_bytes()[:-64])
    with pytest.raises(ModelError, match=r"tensor output_norm.weight .* the file has"):
        GgufCheckpoint(path)


def test_the_digest_is_the_contents(write, tmp_path):
    path = write()
    digest = GgufCheckpoint(path).digest()
    moved = shutil.copy(path, tmp_path / "other.gguf")
    assert GgufCheckpoint(moved).digest() == digest
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    assert GgufCheckpoint(path).digest() != digest


def test_a_tensor_it_lacks_is_a_mistake_in_code(write):
    with pytest.raises(ValueError, match=r"no tensor 'lm_head.weight'"):
        GgufCheckpoint(write()).tensor("lm_head.weight")


@pytest.mark.model
def test_smollm2_gives_the_weights_of_the_gguf_package():
    path = os.environ.get("DETREC_SMOLLM2")
    if not path:
        pytest.skip("DETREC_SMOLLM2 is not set: give it the path of SmolLM2's .gguf")
    gguf = pytest.importorskip("gguf")
    checkpoint = GgufCheckpoint(Path(path))
    reference = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    for name in checkpoint.config.shapes():
        tensor = reference[gguf_name(name)]
        expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        actual = checkpoint.tensor(name)
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            actual = interleaved(actual, len(actual) // 64)
        assert_same_bits(actual, expected)
