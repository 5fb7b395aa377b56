"""A real model: SmolLM2-135M-Instruct answers, replays bit for bit, and computes what transformers computes.

`make model` fetches the file and runs this; DETREC_SMOLLM2 names it. Logits need torch and transformers.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from detrec.config import serve_config
from detrec.engines.builtin.engine import BuiltinEngine
from detrec.engines.start import start_engine
from tests.command import ROOT, detrec

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def model() -> Path:
    if not os.environ.get("DETREC_SMOLLM2"):
        pytest.skip("DETREC_SMOLLM2 does not name the GGUF file: make model sets it")
    return Path(os.environ["DETREC_SMOLLM2"])


@pytest.fixture(scope="module")
def serve(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """examples/smollm2.yaml with the model where it is."""
    data = yaml.safe_load((ROOT / "examples" / "smollm2.yaml").read_text())
    path = tmp_path_factory.mktemp("smollm2") / "serve.yaml"
    path.write_text(yaml.safe_dump({**data, "model": str(model)}))
    return path


@pytest.fixture(scope="module")
def run(serve: Path) -> Path:
    """Recorded in float32."""
    path = serve.with_name("run.zarr")
    recorded = detrec("record", serve, "-o", path)
    assert recorded.code == 0, recorded.stderr
    assert "Paris" in answer(recorded.stdout)
    return path


def answer(stdout: str) -> str:
    """What the request `france` was told."""
    return next(line for line in stdout.splitlines() if line.strip().startswith("france"))


@pytest.mark.parametrize(
    "args",
    [
        pytest.param([], id="same schedule"),
        pytest.param(["--mode", "free", "--set", "engine.max_num_seqs=1"], id="one sequence"),
    ],
)
def test_a_replay_is_identical(run, args):
    done = detrec("replay", run, *args, "--json")
    assert done.code == 0, done.stderr
    data = done.json()
    assert data["verdict"] == "identical"
    assert data["counts"]["missing"] == 0
    assert bool(data["schedule_diff"]) is bool(args)


def test_bfloat16_answers_too_and_replays(serve):
    data = yaml.safe_load(serve.read_text())
    # asked as a chat, float32 puts "The" 0.08 above "L'", less than bfloat16 rounds away; here it is 2.5
    data["requests"][0] = {
        "id": "france",
        "prompt": "The capital of France is",
        "sampling": {"temperature": 0, "max_tokens": 8},
    }
    other, path = serve.with_name("completion.yaml"), serve.with_name("bfloat16.zarr")
    other.write_text(yaml.safe_dump(data))
    recorded = detrec("record", other, "-o", path, "--set", "engine.dtype=bfloat16")
    assert recorded.code == 0, recorded.stderr
    assert "Paris" in answer(recorded.stdout)
    replayed = detrec("replay", path, "--mode", "free", "--set", "engine.max_num_seqs=1")
    assert (replayed.code, replayed.stdout.startswith("identical")) == (0, True), replayed


class Hidden:
    """A probe that keeps the input of the last matmul, every row."""

    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []

    def step(self, step: Any, tokens: Any) -> None:
        pass

    def op(self, name: str, output: np.ndarray, rank: int, kernel: str) -> None:
        self.rows.append(np.array(output))

    def sampled(self, samples: Any, events: Any) -> None:
        pass


def logits_of(model: Path, prompt: list[int]) -> np.ndarray:
    """Float32 [tokens, vocabulary] of detrec's engine, prefilled in steps of 64."""
    config = serve_config(
        {
            "model": str(model),
            "engine": {"max_model_len": 256, "max_num_batched_tokens": 64},
            "requests": [{"id": "a", "prompt_token_ids": prompt, "sampling": {"max_tokens": 1}}],
        },
        where="test",
    )
    engine, probe = start_engine(config), Hidden()
    assert isinstance(engine, BuiltinEngine)
    steps = list(engine.run(engine.own_scheduler(), probe, frozenset({"final_norm"})))
    assert len(steps) == -(-len(prompt) // 64)
    # the engine's memory is sized for the rows it samples: one
    rows = np.concatenate(probe.rows)
    return np.concatenate([np.array(engine.decoder.logits(engine.ops, row[None])) for row in rows])


def test_logits_are_those_of_transformers(model):
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="transformers reads GGUF files with accelerate alone")
    from detrec.engines.builtin.weights import open_checkpoint

    tokenizer = open_checkpoint(str(model)).tokenizer()
    text = (
        "The order of additions is part of a sum, and a row of a batch should not know its neighbours. " * 12
    )
    prompts = [
        tokenizer.encode("Once upon a time"),
        tokenizer.encode("def fibonacci(n):\n    return"),
        tokenizer.encode("Ünïcödé: 数学, 42 + 17 = "),
        tokenizer.encode(text)[:200],
    ]
    assert len(prompts[-1]) == 200
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        model.parent, gguf_file=model.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    for prompt in prompts:
        with torch.no_grad():
            expected = theirs(torch.tensor([prompt])).logits[0].double().numpy()
        got = logits_of(model, prompt)
        assert got.shape == expected.shape
        difference = float(np.abs(got - expected).max())
        assert difference < 1e-3, f"{len(prompt)} tokens: {difference}"
        assert (got.argmax(axis=1) == expected.argmax(axis=1)).all()


@pytest.fixture(scope="module")
def foreign(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recorded on transformers' continuous batching, with sketches."""
    for package in ("torch", "transformers"):
        pytest.importorskip(package, reason="pip install 'detrec[transformers]'")
    greedy = {"temperature": 0, "max_tokens": 4}
    data = {
        "model": str(model),
        "engine": {"name": "transformers", "max_batch_tokens": 32},
        "requests": [
            {"id": "france", "prompt": "The capital of France is", "sampling": greedy},
            {"id": "colour", "messages": [{"role": "user", "content": "Name a colour."}], "sampling": greedy},
        ],
        "record": {"sketch": True},
    }
    path = tmp_path_factory.mktemp("foreign") / "serve.yaml"
    path.write_text(yaml.safe_dump(data))
    recorded = detrec("record", path, "-o", path.with_name("run.zarr"))
    assert recorded.code == 0, recorded.stderr
    assert "Paris" in answer(recorded.stdout)
    return path.with_name("run.zarr")


def test_transformers_replays_bit_for_bit(foreign):
    assert detrec("replay", foreign).code == 0


def test_transformers_computes_what_the_built_in_engine_computes(foreign):
    done = detrec("replay", foreign, "--set", "engine.name=builtin", "--by", "sketch")
    assert done.code == 0, done.stdout
    assert done.stdout.startswith("close: ")


def test_a_wrong_rope_base_is_named_against_transformers(foreign):
    fault = "wrong_rope_base:percent=1000"
    done = detrec("replay", foreign, "--set", "engine.name=builtin", "--by", "sketch", "--fault", fault)
    assert done.code == 1
    assert "layer 0, op rope_q" in done.stdout.splitlines()[0]
