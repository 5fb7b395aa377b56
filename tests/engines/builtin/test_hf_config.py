"""config.json as a ModelConfig, and what is refused."""

import pytest

from detrec.engines.builtin.hf_config import from_hf
from detrec.errors import ModelError
from tests.engines.builtin.model_files import QWEN2

LLAMA = {**QWEN2, "model_type": "llama"}
LLAMA3_SCALING = {
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192.0,
}


def test_reads_the_sizes():
    config = from_hf({**QWEN2, "rope_theta": 1e6, "bos_token_id": 1})
    assert (config.vocab_size, config.hidden_size, config.intermediate_size, config.num_layers) == (
        40,
        32,
        64,
        2,
    )
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (4, 2, 8)
    assert (config.rms_norm_eps, config.rope_theta, config.rope_scaling) == (1e-6, 1e6, None)
    assert (config.max_position_embeddings, config.tie_word_embeddings) == (128, True)
    assert (config.eos_token_ids, config.bos_token_id) == ((3,), 1)


@pytest.mark.parametrize(
    ("architecture", "bias", "norm"), [("qwen2", 1, 0), ("qwen3", 0, 1), ("llama", 0, 0)]
)
def test_the_architecture_says_what_attention_has(architecture, bias, norm):
    config = from_hf({**QWEN2, "model_type": architecture})
    assert (config.qkv_bias, config.qk_norm) == (bool(bias), bool(norm))


def test_an_explicit_head_dim_need_not_divide_the_hidden_size():
    assert from_hf({**QWEN2, "head_dim": 48}).head_dim == 48


def test_eos_ids_of_generation_config_are_added():
    config = from_hf({**QWEN2, "eos_token_id": 5}, {"eos_token_id": [7, 5]})
    assert config.eos_token_ids == (5, 7)


@pytest.mark.parametrize(
    "rope",
    [
        pytest.param(
            {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3_SCALING}}, id="two keys"
        ),
        pytest.param(
            {"rope_theta": 5e5, "rope_scaling": {"type": "llama3", **LLAMA3_SCALING}}, id="old type"
        ),
        pytest.param(
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3_SCALING}},
            id="transformers 5",
        ),
    ],
)
def test_every_spelling_of_rope_reads_the_same(rope):
    config = from_hf({**LLAMA, **rope})
    assert config.rope_theta == 5e5
    assert config.rope_scaling == {"rope_type": "llama3", **LLAMA3_SCALING}


@pytest.mark.parametrize(
    "default", [{"rope_scaling": None}, {"rope_parameters": {"rope_type": "default", "rope_theta": 9.0}}]
)
def test_the_default_rope_is_no_scaling(default):
    assert from_hf({**QWEN2, **default}).rope_scaling is None


def test_qwens_unused_window_is_fine():
    assert from_hf({**QWEN2, "sliding_window": 4096, "use_sliding_window": False}).architecture == "qwen2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mistral"}, "model_type: expected one of qwen2, qwen3, llama, got 'mistral'"),
        ({"model_type": None}, "model_type: expected one of qwen2, qwen3, llama, got nothing"),
        ({"model_type": "llama", "attention_bias": True}, "attention_bias: expected False, got True"),
        ({"model_type": "llama", "mlp_bias": True}, "mlp_bias: expected False, got True"),
        ({"model_type": "llama", "sliding_window": 64}, "sliding_window: expected none, got 64"),
        ({"use_sliding_window": True}, "use_sliding_window: expected False, got True"),
        (
            {"layer_types": ["full_attention", "sliding_attention"]},
            "layer_types: expected full_attention only, got",
        ),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config: expected none, got"),
        ({"hidden_act": "gelu"}, "hidden_act: expected 'silu', got 'gelu'"),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
            "rope_type: expected one of default, linear, llama3",
        ),
        ({"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "rope_type: expected one of .* got 'dynamic'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor: expected a positive number, got nothing"),
        (
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            "partial_rotary_factor: expected 1",
        ),
        ({"rope_scaling": 3}, "rope_scaling: expected a mapping, got 3"),
        ({"hidden_size": None}, "hidden_size: expected a whole number of at least 1, got nothing"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: expected a whole number of at least 1, got 0"),
        ({"vocab_size": "40"}, "vocab_size: expected a whole number of at least 1, got '40'"),
        ({"num_key_value_heads": 3}, "key-value heads: expected a divisor of the 4 heads, got 3"),
        ({"head_dim": 7}, "head_dim: expected an even number, got 7"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps: expected a positive number, got 'small'"),
        ({"eos_token_id": "</s>"}, "eos_token_id: expected token ids, got '</s>'"),
        ({"eos_token_id": 40}, "eos_token_id: expected ids under the vocabulary's 40, got 40"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings: expected true or false, got 'yes'"),
    ],
)
def test_refuses_what_it_would_not_compute(change, message):
    with pytest.raises(ModelError, match=r"here.json: .*" + message.replace("(", r"\(")) as caught:
        from_hf({**QWEN2, **change}, where="here.json")
    assert caught.value.hint
