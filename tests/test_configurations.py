"""Everything serve.yaml and the environment can ask for, as a user does: recorded, replayed, told apart."""

import json
from pathlib import Path

import pytest

from detrec.engines.builtin.seeded import SeededCheckpoint
from detrec.engines.faults.base import Sighting
from detrec.recorder.reader import TraceReader
from detrec.replayer.replay import replay
from tests.command import Ran, detrec, soon

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Name three rivers."},
    {"role": "assistant", "content": "Rhine."},
    {"role": "user", "content": "Three!"},
]
REQUESTS = [
    {"id": "chat", "messages": CHAT, "sampling": {"temperature": 0, "max_tokens": 8}},
    {"prompt": "Ünïcödé, 数学", "arrival": 2, "sampling": {"seed": 5, "max_tokens": 8}},
    {
        "id": "ids",
        "prompt_token_ids": [1, 2, 3] * 13,
        "arrival": 4,
        "sampling": {"top_k": 5, "max_tokens": 6},
    },
]
MODELS = [("qwen3-tiny", "bfloat16"), ("llama-tiny", "float32")]


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A serve.yaml whose requests are lines of a file beside it."""
    folder = tmp_path_factory.mktemp("serve")
    lines = [json.dumps(request, ensure_ascii=False) for request in REQUESTS]
    (folder / "requests.jsonl").write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    data = {
        "model": "builtin:qwen2-tiny",
        "engine": {"max_model_len": 256, "max_num_batched_tokens": 32},
        "requests": "requests.jsonl",
    }
    (folder / "serve.yaml").write_text(json.dumps(data))
    return folder / "serve.yaml"


@pytest.fixture(scope="module", params=MODELS, ids=["-".join(pair) for pair in MODELS])
def model(request: pytest.FixtureRequest, serve: Path) -> tuple[str, Path]:
    """A builtin model's name, and a run of the requests on it."""
    name, dtype = request.param
    path = serve.with_name(f"{name}-{dtype}.zarr")
    settings = ["--set", f"model=builtin:{name}", "--set", f"engine.dtype={dtype}"]
    recorded = soon("record", serve, "-o", path, *settings)
    assert recorded.code == 0, recorded.stderr
    return name, path


def identical(*args: object, **environment: str) -> dict:
    done = soon("replay", *args, "--json", **environment)
    assert done.code == 0, f"{args}: {done}"
    data = done.json()
    assert (data["verdict"], data["first"], data["counts"]["missing"]) == ("identical", None, 0)
    assert data["counts"]["compared"] == data["counts"]["equal"] > 0
    return data


def test_every_way_to_write_a_prompt_comes_to_token_ids(model):
    name, path = model
    tokenizer = SeededCheckpoint(name).tokenizer()
    chat, text, ids = TraceReader(path).requests
    assert list(chat.prompt) == tokenizer.apply_chat(CHAT)
    assert list(text.prompt) == tokenizer.encode(REQUESTS[1]["prompt"])
    assert list(ids.prompt) == REQUESTS[2]["prompt_token_ids"]
    assert [(r.id, r.arrival, r.sampling.seed) for r in (chat, text, ids)] == [
        ("chat", 0, 42),
        ("r1", 2, 5),
        ("ids", 4, 42),
    ]


def test_every_model_and_dtype_replays_alike(model):
    name, path = model
    counts = identical(path)["counts"]
    free = identical(path, "--mode", "free", "--set", "engine.max_num_seqs=1")
    assert free["counts"] == counts
    assert free["schedule_diff"]
    assert any(op.endswith(".q_norm") for op in TraceReader(path).ops) is (name == "qwen3-tiny")


@pytest.mark.parametrize("fault", ["split_k_by_batch", "seed_drift", "bitflip"])
def test_a_fault_is_found_in_every_model_and_dtype(model, fault):
    _, path = model
    notices: list[str] = []
    first = replay(str(path), fault=fault, notify=notices.append).comparison.first
    assert first is not None
    seen = Sighting(
        first.step, first.request, first.position, f"{first.layer}.{first.op}".removeprefix("None.")
    )
    assert f"fault {fault}: first bit changed at {seen}" in notices


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root serve.yaml on the framework's own matmul."""
    path = tmp_path_factory.mktemp("loose") / "run.zarr"
    recorded = soon("record", "serve.yaml", "-o", path, "--set", "engine.deterministic=false")
    assert recorded.code == 0, recorded.stderr
    return path


class TestNotDeterministic:
    """The framework's own matmul: the same shapes may give the same bits, other shapes do not."""

    def test_another_batch_changes_bits_and_the_first_is_a_matmuls(self, loose):
        done = soon("replay", loose, "--mode", "free", "--set", "engine.max_num_seqs=1", "--json")
        assert done.code == 1
        data = done.json()
        assert data["verdict"] == "diverged"
        assert data["first"]["op"] in {"qkv", "o_partial", "gate_up", "down_partial", "logits"}
        keys = {difference["key"] for difference in data["manifest_diff"]}
        assert keys == {"config.engine.max_num_seqs"}
        assert data["schedule_diff"][0]["step"] <= data["first"]["step"]

    def test_the_same_schedule_gets_a_verdict_that_its_counts_bear_out(self, loose):
        """Whether the library repeats itself is its own affair; what is said of it must be so."""
        done = soon("replay", loose, "--json")
        data = done.json()
        differing = data["counts"]["born"] + data["counts"]["inherited"]
        assert (done.code, data["verdict"]) == ((1, "diverged") if differing else (0, "identical"))
        assert (data["first"] is None) is (differing == 0)
        assert data["schedule_diff"] == []

    def test_against_the_deterministic_engine_the_first_matmul_differs(self, loose):
        done = soon("replay", loose, "--set", "engine.deterministic=true")
        assert done.code == 1
        assert done.stdout.startswith(
            "diverged: first at step 0, request greedy, position 0, layer 0, op qkv\n"
        )
        assert "  kernel     recorded paddle.matmul, replayed cpu.matmul " in done.stdout

    def test_seeds_that_nobody_gave_are_kept_and_used_again(self, loose):
        seeds = [request.sampling.seed for request in TraceReader(loose).requests]
        default = [r.id for r in TraceReader(loose).requests].index("default")
        assert seeds[default] != 42
        assert f"{seeds[default]}" in detrec("info", loose).stdout


class TestEnvironment:
    def refused(self, done: Ran) -> tuple[str, str]:
        assert (done.code, done.stdout) == (2, ""), done
        error, hint = done.stderr.splitlines()
        return error.removeprefix("detrec: error: "), hint.removeprefix("hint: ")

    def test_fastdeploys_variables_are_settings_where_serve_yaml_has_none(self, serve, tmp_path):
        path = tmp_path / "run.zarr"
        asked = {"FD_DETERMINISTIC_MODE": "0", "FD_DETERMINISTIC_SPLIT_KV_SIZE": "8"}
        assert soon("record", serve, "-o", path, **asked).code == 0
        manifest = detrec("info", path, "--json").json()["manifest"]
        engine = manifest["config"]["engine"]
        assert (engine["deterministic"], engine["split_kv_size"]) == (False, 8)
        assert {key: manifest["environment"]["environment"][key] for key in asked} == asked

    def test_a_variable_that_contradicts_serve_yaml_or_a_trace_is_an_error(self, run):
        expected = "FD_DETERMINISTIC_MODE=0 contradicts engine.deterministic: true"
        hint = "unset FD_DETERMINISTIC_MODE, or drop engine.deterministic"
        recorded = soon("record", "serve.yaml", "-o", run.with_name("none"), FD_DETERMINISTIC_MODE="0")
        assert self.refused(recorded) == (expected, hint)
        assert not run.with_name("none").exists()
        assert self.refused(soon("replay", run, FD_DETERMINISTIC_MODE="0"))[0] == expected
        split = self.refused(soon("replay", run, FD_DETERMINISTIC_SPLIT_KV_SIZE="32"))[0]
        assert split == "FD_DETERMINISTIC_SPLIT_KV_SIZE=32 contradicts engine.split_kv_size: 16"
        agreeing = {"FD_DETERMINISTIC_MODE": "1", "FD_DETERMINISTIC_SPLIT_KV_SIZE": "16"}
        keys = {difference["key"] for difference in identical(run, **agreeing)["manifest_diff"]}
        assert keys == {f"environment.environment.{name}" for name in agreeing}

    @pytest.mark.parametrize(
        ("variable", "value", "message"),
        [
            ("FD_DETERMINISTIC_MODE", "yes", "FD_DETERMINISTIC_MODE: expected a whole number, got 'yes'"),
            ("FD_DETERMINISTIC_SPLIT_KV_SIZE", "24", "split_kv_size: expected a power of two, got 24"),
        ],
    )
    def test_a_value_that_cannot_be_honoured_is_an_error(self, serve, tmp_path, variable, value, message):
        error, _ = self.refused(soon("record", serve, "-o", tmp_path / "run.zarr", **{variable: value}))
        assert error.endswith(message)
