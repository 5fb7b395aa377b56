"""serve.yaml: what is read, what is refused, and in which words."""

import json

import pytest

from detrec.config import SamplingParams, apply_overrides, load_config, serve_config
from detrec.errors import ConfigError

MINIMAL = {"model": "builtin:qwen2-tiny", "requests": [{"prompt": "hello"}]}


def test_what_is_left_out_has_a_default():
    config = serve_config(MINIMAL)
    assert config.engine.deterministic
    assert config.engine.framework == "paddle"
    assert config.requests[0].id == "r0"
    assert config.requests[0].sampling == SamplingParams()


def test_a_config_survives_its_own_json():
    data = {
        **MINIMAL,
        "requests": [{"id": "a", "prompt": "x", "sampling": {"stop_token_ids": [1, 2], "seed": 0}}],
    }
    config = serve_config(data)
    assert serve_config(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        pytest.param({"engin": {}}, "unknown key 'engin'", "did you mean engine?", id="top key"),
        pytest.param(
            {"engine": {"max_num_seq": 1}}, "unknown key 'max_num_seq'", "max_num_seqs", id="engine key"
        ),
        pytest.param(
            {"engine": {"max_num_seqs": "four"}}, "expected a whole number, got 'four'", "", id="type"
        ),
        pytest.param({"engine": {"max_num_seqs": True}}, "expected a whole number, got True", "", id="bool"),
        pytest.param({"engine": {"max_num_seqs": 0}}, "expected at least 1, got 0", "", id="bound"),
        pytest.param({"engine": {"dtype": "float23"}}, "got 'float23'", "did you mean float32?", id="choice"),
        pytest.param(
            {"engine": {"block_size": 24}}, "expected a power of two, got 24", "", id="power of two"
        ),
        pytest.param(
            {"engine": {"max_num_batched_tokens": 8}}, "8 is under one split of 16", "raise", id="budget"
        ),
        pytest.param(
            {"engine": {"tensor_parallel_size": 9}},
            "expected at most 8, got 9",
            "README",
            id="too many ranks",
        ),
        pytest.param(
            {"engine": {"reduction": "tp_invariant", "deterministic": False}},
            "tp_invariant needs deterministic: true, got false",
            "leave out engine.reduction",
            id="an invariant sum of another's kernels",
        ),
        pytest.param({"model": None}, "model: missing", "builtin:", id="no model"),
        pytest.param({"requests": []}, "requests: none given", "add a list", id="no requests"),
        pytest.param({"requests": {}}, "expected a list or a .jsonl file", "", id="requests type"),
        pytest.param({"requests": [{}]}, "expected one of prompt", "", id="no prompt"),
        pytest.param(
            {"requests": [{"prompt": ""}]}, "prompt is empty", "at least one token", id="empty prompt"
        ),
        pytest.param(
            {"requests": [{"prompt": "a", "prompt_token_ids": [1]}]}, "expected one of", "", id="both"
        ),
        pytest.param(
            {"requests": [{"prompt": "a", "sampling": {"top_p": 0}}]},
            "expected more than 0.0, got 0.0",
            "",
            id="top_p",
        ),
        pytest.param(
            {"requests": [{"prompt": "a", "sampling": {"temperature": float("nan")}}]},
            "got nan",
            "",
            id="nan",
        ),
        pytest.param(
            {"requests": [{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"}]},
            "'a' is used twice",
            "",
            id="ids",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused(change, message, hint):
    with pytest.raises(ConfigError) as caught:
        serve_config({**MINIMAL, **change})
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_requests_come_from_a_jsonl_file_beside_it(tmp_path):
    (tmp_path / "serve.yaml").write_text("model: m.gguf\nrequests: all.jsonl\n")
    (tmp_path / "all.jsonl").write_text(
        '{"id": "a", "prompt": "x"}\n\n{"id": "b", "prompt_token_ids": [1, 2]}\n'
    )
    config = load_config(tmp_path / "serve.yaml", environ={})
    assert [request.id for request in config.requests] == ["a", "b"]
    assert config.model == str(tmp_path / "m.gguf")


def test_a_bad_line_of_a_jsonl_file_is_named(tmp_path):
    (tmp_path / "serve.yaml").write_text("model: builtin:x\nrequests: all.jsonl\n")
    (tmp_path / "all.jsonl").write_text('{"prompt": "x"}\n{"prompt": \n')
    with pytest.raises(ConfigError, match=r"all\.jsonl:2: not JSON"):
        load_config(tmp_path / "serve.yaml", environ={})


def test_a_missing_file_and_malformed_yaml_are_named(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("model: [1,\nengine: }")
    with pytest.raises(ConfigError, match=r"bad\.yaml:2:9: not YAML"):
        load_config(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="expected a mapping of settings, got a list"):
        load_config(tmp_path / "list.yaml")


def test_overrides_are_yaml_and_leave_the_input_alone():
    data = {"engine": {"seed": 1}}
    changed = apply_overrides(data, ["engine.max_num_seqs=1", "engine.deterministic=false", "model=a=b"])
    assert changed == {"engine": {"seed": 1, "max_num_seqs": 1, "deterministic": False}, "model": "a=b"}
    assert data == {"engine": {"seed": 1}}
    with pytest.raises(ConfigError, match="expected key=value"):
        apply_overrides(data, ["engine"])
    with pytest.raises(ConfigError, match="seed is not a mapping"):
        apply_overrides(data, ["engine.seed.x=1"])


def test_fastdeploys_variables_are_honoured():
    config = serve_config(
        MINIMAL, environ={"FD_DETERMINISTIC_MODE": "0", "FD_DETERMINISTIC_SPLIT_KV_SIZE": "32"}
    )
    assert not config.engine.deterministic
    assert config.engine.split_kv_size == 32
    with pytest.raises(ConfigError, match="FD_DETERMINISTIC_MODE=0 contradicts engine"):
        serve_config({**MINIMAL, "engine": {"deterministic": True}}, environ={"FD_DETERMINISTIC_MODE": "0"})
    with pytest.raises(ConfigError, match="expected a power of two, got 12"):
        serve_config(MINIMAL, environ={"FD_DETERMINISTIC_SPLIT_KV_SIZE": "12"})
    with pytest.raises(ConfigError, match="expected a whole number, got 'yes'"):
        serve_config(MINIMAL, environ={"FD_DETERMINISTIC_MODE": "yes"})


def test_an_engine_setting_without_its_engine_is_told_where_it_belongs():
    with pytest.raises(ConfigError, match="unknown key 'max_num_seqs'") as refused:
        serve_config({"model": "builtin:qwen2-tiny", "max_num_seqs": 1})
    assert refused.value.hint == "did you mean engine.max_num_seqs?"


@pytest.mark.parametrize("engine", ["fastdeploy", 5, ["cpu"]])
def test_an_engine_that_is_no_section_is_refused(engine):
    with pytest.raises(ConfigError, match="engine: expected a mapping, got") as error:
        serve_config({"model": "builtin:qwen2-tiny", "engine": engine, "requests": [{"prompt": "x"}]})
    assert "engine.name" in error.value.hint
