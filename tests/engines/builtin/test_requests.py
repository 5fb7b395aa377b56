"""What is refused before anything runs, in which words; and what a request becomes."""

from typing import Any

import pytest

from detrec.config import DEFAULT_SEED, MAX_SEED, EngineConfig, SamplingParams, serve_config
from detrec.engines.base import Request
from detrec.engines.builtin.requests import check_engine, check_requests, resolve_requests
from detrec.engines.builtin.seeded import SeededCheckpoint
from detrec.errors import ConfigError, ModelError

CHECKPOINT = SeededCheckpoint("qwen2-tiny")
MODEL = CHECKPOINT.config
USUAL = "the README describes every key of serve.yaml"


def resolved(request: dict[str, Any], **engine: Any) -> Request:
    data = {"model": "builtin:qwen2-tiny", "engine": {"max_model_len": 64, **engine}, "requests": [request]}
    (one,) = resolve_requests(serve_config(data), CHECKPOINT)
    return one


class TestResolved:
    def test_a_text_becomes_the_tokenizers_ids(self):
        assert resolved({"id": "a", "prompt": "Hi!"}).prompt == tuple(CHECKPOINT.tokenizer().encode("Hi!"))

    def test_messages_become_a_chat(self):
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi!"}]
        chat = tuple(CHECKPOINT.tokenizer().apply_chat(messages))
        assert resolved({"id": "a", "messages": messages}, max_model_len=256).prompt == chat
        assert len(chat) > len("Be brief.Hi!")

    def test_ids_are_taken_as_they_are(self):
        assert resolved({"id": "a", "prompt_token_ids": [0, MODEL.vocab_size - 1]}).prompt == (0, 511)

    def test_id_arrival_and_parameters_are_kept(self):
        sampling = {"temperature": 0.5, "top_k": 3, "max_tokens": 4, "stop": ["x"], "seed": 9}
        one = resolved({"id": "a", "prompt": "x", "arrival": 7, "sampling": sampling})
        expected = SamplingParams(temperature=0.5, top_k=3, max_tokens=4, stop=("x",), seed=9)
        assert (one.id, one.arrival, one.sampling) == ("a", 7, expected)

    SEEDS = (
        pytest.param(5, 6, 5, id="the request's own"),
        pytest.param(0, 6, 0, id="the request's own zero"),
        pytest.param(None, 6, 6, id="the engine's"),
        pytest.param(None, 0, 0, id="the engine's zero"),
        pytest.param(None, None, DEFAULT_SEED, id="FastDeploy's"),
    )

    @pytest.mark.parametrize(("own", "engine", "seed"), SEEDS)
    def test_a_seed_is_always_there(self, own, engine, seed):
        assert (
            resolved({"id": "a", "prompt": "x", "sampling": {"seed": own}}, seed=engine).sampling.seed == seed
        )

    def test_a_seed_that_nobody_gave_is_random_where_nothing_else_is_determined(self):
        seeds = {resolved({"id": "a", "prompt": "x"}, deterministic=False).sampling.seed for _ in range(8)}
        assert len(seeds) == 8
        assert all(0 <= seed <= MAX_SEED for seed in seeds)
        assert resolved({"id": "a", "prompt": "x"}, deterministic=False, seed=6).sampling.seed == 6


def refusal(
    prompt: tuple[int, ...] = (1, 2, 3), engine: Any = None, **sampling: Any
) -> ConfigError | ModelError:
    """The error for a request `a` between two good ones."""
    good = [Request(name, (1,), SamplingParams(seed=1)) for name in "xy"]
    bad = Request("a", prompt, SamplingParams(**{"seed": 1, **sampling}))
    with pytest.raises((ConfigError, ModelError)) as refused:
        check_requests(EngineConfig(max_model_len=64, **(engine or {})), MODEL, [good[0], bad, good[1]])
    return refused.value


REFUSED = [
    pytest.param({"prompt": ()}, ConfigError, "request a: the prompt has no tokens", USUAL, id="no prompt"),
    pytest.param(
        {"prompt": (1, 512)},
        ModelError,
        "request a: prompt token 1 is 512, the vocabulary has 0 to 511",
        "was the prompt tokenised for another model?",
        id="a token past the vocabulary",
    ),
    pytest.param(
        {"prompt": (-1,)},
        ModelError,
        "request a: prompt token 0 is -1, the vocabulary has 0 to 511",
        "was the prompt tokenised for another model?",
        id="a token below zero",
    ),
    pytest.param(
        {"prompt": (1,) * 64},
        ConfigError,
        "request a: the prompt has 64 tokens, the context of 64 must hold it and one token more",
        "shorten the prompt, or raise engine.max_model_len",
        id="a prompt as long as the context",
    ),
    pytest.param(
        {"prompt": (1,) * 30, "max_tokens": 100, "engine": {"num_gpu_blocks_override": 3}},
        ConfigError,
        "request a: needs 4 KV blocks of 16 tokens at its longest, engine.num_gpu_blocks_override gives 3",
        "raise num_gpu_blocks_override, or lower max_tokens",
        id="too few blocks",
    ),
    pytest.param(
        {"min_tokens": 5, "max_tokens": 4},
        ConfigError,
        "request a: sampling.min_tokens: 5 is more than max_tokens: 4",
        "raise max_tokens, or lower min_tokens",
        id="more tokens than allowed",
    ),
    pytest.param(
        {"stop": ("x", "")},
        ConfigError,
        "request a: sampling.stop: an empty string would stop every text",
        USUAL,
        id="an empty stop string",
    ),
    pytest.param(
        {"stop_token_ids": (3, 512)},
        ModelError,
        "request a: sampling.stop_token_ids: 512, the vocabulary has 0 to 511",
        "are these tokens another model's?",
        id="a stop token past the vocabulary",
    ),
    pytest.param(
        {"stop_token_ids": (-1,)},
        ModelError,
        "request a: sampling.stop_token_ids: -1, the vocabulary has 0 to 511",
        "are these tokens another model's?",
        id="a stop token below zero",
    ),
]


@pytest.mark.parametrize(("request_", "kind", "message", "hint"), REFUSED)
def test_a_request_that_could_never_run_is_refused(request_, kind, message, hint):
    error = refusal(**request_)
    assert (type(error), str(error), error.hint) == (kind, message, hint)


@pytest.mark.parametrize("name", ["temperature", "top_p", "min_p", "repetition_penalty"])
@pytest.mark.parametrize("value", [1e-39, 5e-324, 1e39])
def test_a_number_that_float32_cannot_hold_is_refused(name, value):
    error = refusal(**{name: value})
    assert str(error) == f"request a: sampling.{name}: {value} is not a number that float32 can hold"


def test_what_just_fits_is_accepted():
    longest = Request("a", (511,) * 63, SamplingParams(seed=1, min_tokens=16, max_tokens=16))
    # a text ends with the context: 64 tokens are 4 blocks, whatever max_tokens says
    check_requests(EngineConfig(max_model_len=64, num_gpu_blocks_override=4), MODEL, [longest])
    tiny = {"temperature": 2e-38, "top_p": 2e-38, "min_p": 2e-38, "repetition_penalty": 3e38}
    for sampling in (tiny, {"temperature": 0.0, "min_p": 0.0}):
        check_requests(EngineConfig(), MODEL, [Request("a", (1,), SamplingParams(seed=1, **sampling))])


@pytest.mark.parametrize("engine", [{"num_gpu_blocks_override": 2**31 - 1}, {"block_size": 1 << 30}])
def test_a_cache_that_the_machine_cannot_hold_is_refused(engine):
    request = Request("a", (1,), SamplingParams(seed=1))
    with pytest.raises(ConfigError, match=r"tokens take \d+\.\d GiB, this machine has \d+\.\d GiB") as caught:
        check_requests(EngineConfig(max_model_len=64, **engine), MODEL, [request])
    assert "num_gpu_blocks_override" in caught.value.hint


def test_an_engine_that_the_model_cannot_be_run_on_is_refused():
    longest = MODEL.max_position_embeddings
    check_engine(EngineConfig(max_model_len=longest), MODEL)
    with pytest.raises(ConfigError) as refused:
        check_engine(EngineConfig(max_model_len=longest + 1), MODEL)
    assert str(refused.value) == f"engine.max_model_len: {longest + 1}, the model was made for {longest}"
    assert refused.value.hint == f"set it to {longest} or less"

    short = EngineConfig(max_model_len=64, deterministic=False, dtype="bfloat16")
    with pytest.raises(ConfigError) as refused:
        check_engine(short, MODEL)
    assert str(refused.value) == (
        "engine.deterministic: false runs in float32 on the CPU, got engine.dtype: bfloat16"
    )
    assert refused.value.hint == "frameworks have no bfloat16 matmul for every CPU; set dtype: float32"


def test_the_engine_is_checked_before_the_requests_are_tokenised():
    with pytest.raises(ConfigError, match="the model was made for"):
        resolved({"id": "a", "prompt": "x" * 5000}, max_model_len=1 << 20)
