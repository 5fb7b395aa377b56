"""What is read of FastDeploy's configuration, and what is refused."""

import json
from types import SimpleNamespace as Config

import pytest

from detrec.config import serve_config
from detrec.engines.fastdeploy.offline import foreseen_holes
from detrec.engines.fastdeploy.support import manifest_of, read, refusals, setup_of

ON = {"FD_DETERMINISTIC_MODE": "1"}


def fd_config(**changes):
    """An FDConfig that can be recorded, with dotted changes (`a__b=1`)."""
    config = Config(
        model_config=Config(architectures=["Qwen3ForCausalLM"], hidden_size=64, dtype="bfloat16"),
        parallel_config=Config(tensor_parallel_size=2, data_parallel_size=1, use_ep=False),
        scheduler_config=Config(
            enable_overlap_schedule=False, splitwise_role="mixed", max_num_batched_tokens=128
        ),
        cache_config=Config(enable_prefix_caching=False, total_block_num=9, block_size=64),
        graph_opt_config=Config(use_cudagraph=False),
        speculative_config=Config(method=None),
        quant_config=None,
        enable_mm_runtime=False,
    )
    for path, value in changes.items():
        *above, name = path.split("__")
        setattr(read(config, ".".join(above)) if above else config, name, value)
    return config


def test_a_plain_configuration_can_be_recorded():
    assert refusals(fd_config()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scheduler_config__enable_overlap_schedule": True}, "enable_overlap_schedule"),
        ({"speculative_config__method": "mtp"}, "speculative decoding"),
        ({"model_config__runner_type": "pooling"}, "pooling"),
        ({"enable_mm_runtime": True}, "multimodal"),
        ({"parallel_config__use_ep": True}, "expert parallelism"),
        ({"parallel_config__data_parallel_size": 2}, "data parallelism"),
        ({"scheduler_config__splitwise_role": "decode"}, "splitwise"),
    ],
)
def test_what_cannot_be_recorded_is_refused_by_its_name(changes, said):
    (reason,) = refusals(fd_config(**changes))
    assert said in reason


def test_a_configuration_of_another_version_reads_as_its_defaults():
    assert refusals(Config()) == []
    assert setup_of(Config(), {}).use_cudagraph is False


def test_holes_of_a_worker_are_in_its_manifest():
    quantised = fd_config(
        model_config__architectures=["Qwen2ForCausalLM"], quant_config=Config(kv_cache_quant_type="int8")
    )
    manifest = manifest_of(quantised, ON)
    assert [hole.partition(":")[0] for hole in manifest["holes"]] == ["qkv-bias", "kv-cache"]
    assert json.loads(json.dumps(manifest)) == manifest
    assert manifest_of(fd_config(), {})["holes"][0].startswith("mode-off")


def test_a_serve_yaml_foresees_what_the_worker_will_say(tmp_path):
    model = {"architectures": ["Qwen2ForCausalLM"], "hidden_size": 3584, "torch_dtype": "bfloat16"}
    (tmp_path / "config.json").write_text(json.dumps(model))
    engine = {"name": "fastdeploy", "tensor_parallel_size": 4, "max_num_batched_tokens": 8192}
    config = serve_config({"model": str(tmp_path), "engine": engine, "requests": [{"prompt": "x"}]})
    names = [hole.partition(":")[0] for hole in foreseen_holes(config, {})]
    # detrec turns graphs off unless it is told otherwise
    assert names == ["qkv-bias", "prefix-caching", "all-reduce-buffer", "all-reduce-order"]
    assert foreseen_holes(config, {"FD_CUSTOM_AR_MAX_SIZE_MB": "64"})[2].startswith("all-reduce-order")
