"""The engine section of an engine that detrec did not write: its own arguments, kept as they are."""

import pytest

from detrec.config import load_config, serve_config
from detrec.engines.fastdeploy.offline import foreseen_holes
from detrec.errors import ConfigError
from tests.command import ROOT

ENGINE = {"name": "fastdeploy", "max_model_len": 512, "graph_optimization_config": {"use_cudagraph": False}}


def config(environ=None, requests=({"prompt": "x"},), **engine):
    data = {"model": "m", "engine": {**ENGINE, **engine}, "requests": list(requests)}
    return serve_config(data, environ=environ)


def test_arguments_are_the_other_engines():
    engine = config(made_up=1).engine
    # whether there is such an argument only the installed engine knows
    assert engine.arguments == {key: ENGINE[key] for key in ENGINE if key != "name"} | {"made_up": 1}
    assert (engine.deterministic, engine.split_kv_size) == (True, 16)


def test_a_config_survives_json_and_says_nothing_that_it_was_not_told():
    once = config()
    plain = once.to_json()
    assert set(plain["engine"]) == {*ENGINE, "deterministic", "split_kv_size"}
    assert serve_config(plain) == once


def test_the_variables_of_deterministic_mode_hold_for_it_too():
    assert config({"FD_DETERMINISTIC_MODE": "0"}).engine.deterministic is False
    with pytest.raises(ConfigError, match=r"contradicts engine\.split_kv_size: 16"):
        config({"FD_DETERMINISTIC_SPLIT_KV_SIZE": "32"}, split_kv_size=16)


def test_what_is_detrecs_own_is_checked():
    with pytest.raises(ConfigError, match="split_kv_size: expected a power of two, got 12"):
        config(split_kv_size=12)


def test_an_arrival_cannot_be_asked_of_it():
    with pytest.raises(
        ConfigError, match="request r1: arrival: fastdeploy counts no steps before it is asked"
    ):
        config(requests=[{"prompt": "x"}, {"prompt": "y", "arrival": 2}])


def test_transformers_has_device_and_dtype_and_requests_that_arrive_later():
    data = {
        "model": "m",
        "engine": {"name": "transformers", "dtype": "bfloat16", "page_size": 32},
        "requests": [{"prompt": "x", "arrival": 2}],
    }
    once = serve_config(data, environ={"FD_DETERMINISTIC_MODE": "1"})
    assert once.to_json()["engine"] == {**data["engine"], "device": "cpu"}
    assert once.engine.arguments == {"page_size": 32}
    with pytest.raises(ConfigError, match=r"dtype: expected one of .* got 'float8'"):
        serve_config({**data, "engine": {"name": "transformers", "dtype": "float8"}})


@pytest.mark.parametrize("key", ["arguments", "made_up"])
def test_the_built_in_engine_has_no_arguments_of_others(key):
    with pytest.raises(ConfigError, match=f"unknown key '{key}'"):
        serve_config({"model": "m", "engine": {key: {}}, "requests": [{"prompt": "x"}]})


def test_a_name_that_is_no_text():
    with pytest.raises(ConfigError, match="name: expected text"):
        serve_config({"model": "m", "engine": {"name": ["fastdeploy"]}, "requests": [{"prompt": "x"}]})


def test_the_example_has_no_holes_that_can_be_foreseen():
    config = load_config(ROOT / "examples" / "fastdeploy.yaml", environ={})
    assert config.engine.arguments["max_num_batched_tokens"] == 1024
    assert foreseen_holes(config, {}) == []


def test_a_model_that_is_no_path_is_a_name_that_the_engine_looks_up(tmp_path):
    data = {"model": "Qwen/Qwen3-8B", "engine": ENGINE, "requests": [{"prompt": "x"}]}
    assert serve_config(data, base=tmp_path).model == "Qwen/Qwen3-8B"
    (tmp_path / "Qwen" / "Qwen3-8B").mkdir(parents=True)
    assert serve_config(data, base=tmp_path).model == str(tmp_path / "Qwen" / "Qwen3-8B")


@pytest.mark.parametrize(
    ("engine", "variables"),
    [
        pytest.param({"tensor_parallel_size": "two"}, {}, id="a number"),
        pytest.param({"graph_optimization_config": 3}, {}, id="a mapping"),
        pytest.param({}, {"FD_CUSTOM_AR_MAX_SIZE_MB": "8 MiB"}, id="a variable"),
    ],
)
def test_what_fastdeploy_would_not_take_is_refused(engine, variables):
    with pytest.raises(ConfigError, match="hold what cannot be"):
        foreseen_holes(config(**engine), variables)
