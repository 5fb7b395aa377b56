"""What a user gets wrong: one line, a hint, exit code 2, and nothing lost."""

import json
from pathlib import Path

import pytest

from detrec.recorder.digests import root_bytes
from tests.command import ROOT, detrec, soon

TINY = {
    "model": "builtin:qwen2-tiny",
    "engine": {"max_model_len": 64},
    "requests": [{"id": "a", "prompt_token_ids": [1, 2, 3], "sampling": {"max_tokens": 2}}],
}


def serve(folder: Path, **changes: object) -> Path:
    path = folder / "serve.yaml"
    path.write_text(json.dumps({**TINY, **changes}))
    return path


def refused(*args: object, cwd: Path = ROOT) -> tuple[str, str]:
    """The error line and the hint."""
    done = detrec(*args, cwd=cwd)
    assert done.code == 2, done
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith("detrec: error: ")
    assert lines[1].startswith("hint: ")
    return lines[0], lines[1]


def test_a_missing_file(tmp_path):
    error, _ = refused("record", tmp_path / "none.yaml")
    assert "none.yaml: no such file" in error


def test_malformed_yaml(tmp_path):
    (tmp_path / "serve.yaml").write_text("model: [")
    assert "serve.yaml:1:9: not YAML" in refused("record", tmp_path / "serve.yaml")[0]


def test_an_unknown_key(tmp_path):
    error, hint = refused("record", serve(tmp_path, engine={"max_num_seq": 3}))
    assert "unknown key 'max_num_seq'" in error
    assert "max_num_seqs" in hint


def test_an_unknown_model(tmp_path):
    error, hint = refused("record", serve(tmp_path, model="builtin:qwen2-tny"))
    assert "qwen2-tny" in error
    assert "qwen2-tiny" in hint
    refused("record", serve(tmp_path, model="nowhere/model.gguf"))


def test_prompt_ids_out_of_the_vocabulary(tmp_path):
    error, _ = refused("record", serve(tmp_path, requests=[{"id": "a", "prompt_token_ids": [1, 99999]}]))
    assert "request a: prompt token 1 is 99999" in error


def test_a_prompt_longer_than_the_context(tmp_path):
    error, hint = refused("record", serve(tmp_path, requests=[{"id": "a", "prompt": "x" * 64}]))
    assert "the prompt has 64 tokens, the context of 64" in error
    assert "max_model_len" in hint


def test_a_context_longer_than_the_models(tmp_path):
    assert (
        "the model was made for" in refused("record", serve(tmp_path, engine={"max_model_len": 1 << 20}))[0]
    )


def test_a_budget_under_one_split(tmp_path):
    error, _ = refused("record", serve(tmp_path, engine={"max_num_batched_tokens": 8}))
    assert "8 is under one split of 16" in error


def test_too_few_kv_blocks(tmp_path):
    error, _ = refused("record", serve(tmp_path, engine={"num_gpu_blocks_override": 1, "block_size": 4}))
    assert "needs 2 KV blocks" in error


def test_an_output_that_exists(tmp_path):
    (tmp_path / "run.zarr").mkdir()
    (tmp_path / "run.zarr" / "precious.txt").write_text("mine")
    error, hint = refused("record", serve(tmp_path), "-o", tmp_path / "run.zarr")
    assert "exists already" in error
    assert "--overwrite" in hint
    refused("record", serve(tmp_path), "-o", tmp_path / "run.zarr", "--overwrite")
    assert (tmp_path / "run.zarr" / "precious.txt").read_text() == "mine"


def test_a_trace_of_another_format(tmp_path):
    assert soon("record", serve(tmp_path), "-o", tmp_path / "run.zarr").code == 0
    root = tmp_path / "run.zarr" / "zarr.json"
    attributes = json.loads(root.read_text())["attributes"]
    del attributes["digest"]
    root.write_bytes(root_bytes({**attributes, "format_version": 9}))
    for command in ("replay", "info", "verify"):
        error, _ = refused(command, tmp_path / "run.zarr")
        assert "format 9" in error


def test_what_is_not_a_trace(tmp_path):
    assert "no such trace" in refused("replay", tmp_path / "none.zarr")[0]
    (tmp_path / "folder").mkdir()
    for command in ("replay", "info", "verify"):
        refused(command, tmp_path / "folder")
        refused(command, tmp_path / "none.zarr")
        refused(command, ROOT / "serve.yaml")


def test_unknown_commands_options_modes_and_faults(tmp_path):
    refused("rekord", "x")
    refused("record", "serve.yaml", "--levle", "op")
    assert soon("record", serve(tmp_path), "-o", tmp_path / "run.zarr").code == 0
    error, hint = refused("replay", tmp_path / "run.zarr", "--mode", "fre")
    assert "fre" in error
    assert "free" in hint
    error, hint = refused("replay", tmp_path / "run.zarr", "--fault", "bitflop")
    assert "bitflip" in hint
    error, hint = refused("replay", tmp_path / "run.zarr", "--fault", "bitflip:op=1.atn")
    assert "1.attn" in hint
    assert "max_num_seqs" in refused("replay", tmp_path / "run.zarr", "--set", "engine.max_num_sqs=1")[1]
    refused("replay", tmp_path / "run.zarr", "--set", "requests.0.id=b")
    refused("replay", tmp_path / "run.zarr", "--set", "engine=fastdeploy")


@pytest.mark.parametrize(
    "setting", ["engine.num_gpu_blocks_override=2", "engine.enable_prefix_caching=false"]
)
def test_a_schedule_that_cannot_be_followed(tmp_path, setting):
    prompt = list(range(40))
    requests = [
        {"id": "a", "prompt_token_ids": prompt, "sampling": {"max_tokens": 2}},
        {"id": "b", "prompt_token_ids": prompt, "arrival": 3, "sampling": {"max_tokens": 2}},
    ]
    assert soon("record", serve(tmp_path, requests=requests), "-o", tmp_path / "run.zarr").code == 0
    refused("replay", tmp_path / "run.zarr", "--set", setting)
