"""Tokenizers out of model files."""

import json
import os
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from detrec.engines.builtin.gguf_checkpoint import GgufCheckpoint
from detrec.engines.builtin.tokenizer_files import directory_tokenizer, gguf_tokenizer
from detrec.errors import ModelError

CHATML = "{{'<|im_start|>' + message['role']}}"


def byte_symbols():
    """GPT-2's printable stand-ins for the 256 bytes, in order of the byte."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = iter(range(256, 512))
    return [chr(byte if byte in kept else next(moved)) for byte in range(256)]


def metadata(pre="smollm", merges=("h e", "l l", "he ll", "hell o", "Ġ hello", "1 2"), **more):
    joined = [merge.replace(" ", "") for merge in merges]
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool>", *byte_symbols(), *joined]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": list(merges),
        "tokenizer.ggml.token_type": [3, 3, 3, 4] + [1] * (len(tokens) - 4),
        "tokenizer.ggml.bos_token_id": 1,
        **more,
    }


def tokens_of(text, **more):
    data = metadata(**more)
    return [data["tokenizer.ggml.tokens"][i] for i in gguf_tokenizer(data, "here").encode(text)]


TEXTS = ["hello hello", "a  b\n\n\tc 12345", "don't Ä 漢字 🙂", "<|im_start|>user\nhello<|im_end|>"]


@pytest.mark.parametrize("pre", ["smollm", "gpt-2", "qwen2", "llama-bpe"])
@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back(pre, text):
    tokenizer = gguf_tokenizer(metadata(pre, **{"tokenizer.ggml.add_bos_token": False}), "here")
    assert tokenizer.vocab_size == 266
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_merges_apply_inside_words():
    assert tokens_of("hello hello") == ["hello", "Ġhello"]


# 1 and 2 merge only where nothing cuts between them
@pytest.mark.parametrize(
    ("pre", "tokens"),
    [
        ("smollm", ["1", "2", "1", "2"]),
        ("qwen2", ["1", "2", "1", "2"]),
        ("gpt-2", ["12", "12"]),
        ("llama-bpe", ["<|im_start|>", "12", "1", "2"]),
    ],
)
def test_numbers_are_cut_as_the_model_was_trained(pre, tokens):
    assert tokens_of("1212", pre=pre) == tokens


def test_special_tokens_in_a_prompt_are_single_ids():
    assert tokens_of("hello<|im_end|><tool>hello") == ["hello", "<|im_end|>", "<tool>", "hello"]


@pytest.mark.parametrize(("add", "first"), [(True, "<|im_start|>"), (False, "hello")])
def test_the_metadata_says_whether_a_prompt_starts_with_bos(add, first):
    assert tokens_of("hello", **{"tokenizer.ggml.add_bos_token": add})[0] == first


def test_chat_is_chatml():
    data = metadata(**{"tokenizer.chat_template": CHATML, "tokenizer.ggml.add_bos_token": True})
    tokenizer = gguf_tokenizer(data, "here")
    ids = tokenizer.apply_chat([{"role": "user", "content": "hello"}])
    assert tokenizer.decode(ids) == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    assert ids.count(1) == 2


def test_a_template_of_another_format_is_an_error_only_for_messages():
    tokenizer = gguf_tokenizer(metadata(**{"tokenizer.chat_template": "[INST]"}), "here")
    assert tokenizer.encode("hello")
    with pytest.raises(
        ModelError, match="here: messages cannot be rendered: its chat template is not ChatML"
    ) as caught:
        tokenizer.apply_chat([{"role": "user", "content": "hello"}])
    assert "prompt_token_ids" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"tokenizer.ggml.model": "llama"},
            r"tokenizer.ggml.model: expected gpt2 \(byte-level BPE\), got 'llama'",
        ),
        ({"tokenizer.ggml.pre": "falcon"}, r"tokenizer.ggml.pre: expected one of gpt-2, .* got 'falcon'"),
        ({"tokenizer.ggml.tokens": None}, r"tokenizer.ggml.tokens: expected a list of str"),
        ({"tokenizer.ggml.merges": [1, 2]}, r"tokenizer.ggml.merges: expected a list of str"),
        ({"tokenizer.ggml.token_type": [1]}, r"tokenizer.ggml.token_type: expected 266 entries, got 1"),
        ({"tokenizer.ggml.merges": ["zz yy"]}, "merges do not fit its tokens"),
    ],
)
def test_a_tokenizer_it_cannot_build_leaves_token_ids(change, message):
    with pytest.raises(ModelError, match=message) as caught:
        gguf_tokenizer({**metadata(), **change}, "here")
    assert caught.value.hint == "prompt_token_ids still work"


@pytest.fixture
def directory(tmp_path):
    tokenizer = gguf_tokenizer(metadata(), "here")
    tokenizer._library.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


@pytest.mark.parametrize("text", TEXTS)
def test_a_directory_gives_the_same_ids(directory, text):
    assert directory_tokenizer(directory).encode(text) == gguf_tokenizer(metadata(), "here").encode(text)


TEMPLATE = "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("chat_template.jinja", TEMPLATE),
        ("tokenizer_config.json", json.dumps({"chat_template": TEMPLATE})),
        ("tokenizer_config.json", json.dumps({"chat_template": [{"name": "default", "template": TEMPLATE}]})),
    ],
)
def test_a_directory_keeps_its_chat_template_in_one_of_three_places(directory, file, text):
    (directory / file).write_text(text)
    tokenizer = directory_tokenizer(directory)
    prompt = tokenizer.decode(tokenizer.apply_chat([{"role": "user", "content": "hello"}]))
    assert prompt.startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n")


def test_what_a_tokenizer_puts_around_a_prompt_is_not_put_around_a_chat(directory):
    library = Tokenizer.from_file(str(directory / "tokenizer.json"))
    library.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    library.save(str(directory / "tokenizer.json"))
    tokenizer = directory_tokenizer(directory)
    assert tokenizer.encode("hello")[0] == 0
    assert 0 not in tokenizer.apply_chat([{"role": "user", "content": "hello"}])


def test_a_damaged_directory_leaves_token_ids(directory):
    (directory / "tokenizer_config.json").write_text("[")
    with pytest.raises(ModelError, match=r"tokenizer_config.json: not a JSON mapping"):
        directory_tokenizer(directory)
    (directory / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer.json: cannot be read"):
        directory_tokenizer(directory)
    (directory / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"has no tokenizer.json") as caught:
        directory_tokenizer(directory)
    assert caught.value.hint == "prompt_token_ids still work"


@pytest.mark.model
def test_smollm2_tokenises_as_transformers_does():
    """Ids by transformers 5.23.0, AutoTokenizer.from_pretrained(gguf_file=...)."""
    path = os.environ.get("DETREC_SMOLLM2")
    if not path:
        pytest.skip("DETREC_SMOLLM2 is not set: give it the path of SmolLM2's .gguf")
    tokenizer = GgufCheckpoint(Path(path)).tokenizer()
    assert tokenizer.encode("The capital of France is") == [504, 3575, 282, 4649, 314]
    assert tokenizer.encode("Hello  world 12345\n\tfoo_bar's don't ÄÖ 漢字 🙂<|im_end|>x") == [
        19556, 216, 905, 216, 33, 34, 35, 36, 37, 198, 197, 15236, 79, 6299, 506, 1326, 982,
        5549, 222, 142, 240, 17097, 137, 112, 36518, 47526, 2, 104,
    ]  # fmt: skip
    assert tokenizer.apply_chat([{"role": "user", "content": "What is the capital of France?"}]) == [
        1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411,
        407, 19712, 8182, 2, 198, 1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47, 2, 198, 1,
        520, 9531, 198,
    ]  # fmt: skip
