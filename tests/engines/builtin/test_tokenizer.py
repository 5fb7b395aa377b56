"""The tokenizer of the builtin models."""

import pytest

from detrec.engines.builtin.tokenizer import EOS, ByteTokenizer
from detrec.errors import ConfigError

TOKENIZER = ByteTokenizer(512)


def test_text_is_its_utf8_bytes():
    assert TOKENIZER.encode("aÄ") == [97, 0xC3, 0x84]
    assert TOKENIZER.decode([97, 0xC3, 0x84]) == "aÄ"


def test_special_tokens_in_text_stay_text():
    assert max(TOKENIZER.encode("<eos><|im_end|>")) < 256


def test_ids_past_the_bytes_are_shown():
    assert TOKENIZER.decode([104, EOS, 300, 0xFF]) == "h<eos><300>\ufffd"


def test_chat_marks_turns_with_ids_of_their_own():
    ids = TOKENIZER.apply_chat([{"role": "user", "content": "Hi"}])
    assert ids == [258, *b"user\nHi", 259, 10, 258, *b"assistant\n"]
    assert TOKENIZER.decode(ids) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_bad_messages_are_refused():
    with pytest.raises(ConfigError, match="content: expected text"):
        TOKENIZER.apply_chat([{"role": "user"}])
