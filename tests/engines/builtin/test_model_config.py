"""RoPE frequencies, and the tensors that a configuration asks for."""

import numpy as np
import pytest

from detrec.engines.builtin.hf_config import from_hf
from detrec.engines.builtin.model_config import scaled
from tests.engines.builtin.model_files import QWEN2


def test_frequencies_fall_from_one_by_powers_of_theta():
    config = from_hf({**QWEN2, "rope_theta": 10000.0})
    assert config.inv_freq().tolist() == [1.0, 0.1, 0.01, 0.001]


def test_linear_scaling_divides_every_frequency():
    config = from_hf({**QWEN2, "rope_theta": 16.0, "rope_scaling": {"rope_type": "linear", "factor": 4.0}})
    assert config.inv_freq().tolist() == [1 / 4, 1 / 8, 1 / 16, 1 / 32]


def test_llama3_scaling_keeps_short_waves_and_stretches_long_ones():
    # wavelengths of 8192 tokens over: 2 * high, halfway between low and high, low / 2
    turns = np.array([8.0, 2.5, 0.5])
    frequencies = turns * 2 * np.pi / 8192
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    out = scaled(frequencies, {"rope_type": "llama3", "original_max_position_embeddings": 8192.0, **scaling})
    expected = frequencies * [1, 0.5 + 0.5 / 8, 1 / 8]
    assert np.abs(out / expected - 1).max() < 1e-15


def test_given_factors_divide_one_frequency_each():
    out = scaled(np.array([1.0, 0.5]), {"rope_type": "factors", "factors": (1.0, 8.0)})
    assert out.tolist() == [1.0, 0.0625]


def test_an_unknown_scaling_is_a_mistake_in_code():
    with pytest.raises(ValueError, match="got 'yarn'"):
        scaled(np.ones(2), {"rope_type": "yarn"})


def test_a_tied_qwen2_has_biases_and_no_head():
    shapes = from_hf(QWEN2).shapes()
    assert len(shapes) == 2 + 2 * 12
    assert shapes["model.layers.1.self_attn.k_proj.weight"] == (16, 32)
    assert shapes["model.layers.1.self_attn.k_proj.bias"] == (16,)
    assert shapes["model.layers.0.mlp.down_proj.weight"] == (32, 64)
    assert "lm_head.weight" not in shapes


def test_an_untied_qwen3_has_head_norms_and_a_head():
    config = {**QWEN2, "model_type": "qwen3", "head_dim": 16, "tie_word_embeddings": False}
    shapes = from_hf(config).shapes()
    assert len(shapes) == 3 + 2 * 11
    assert shapes["model.layers.1.self_attn.q_norm.weight"] == (16,)
    assert shapes["model.layers.1.self_attn.o_proj.weight"] == (32, 64)
    assert shapes["lm_head.weight"] == (40, 32)
