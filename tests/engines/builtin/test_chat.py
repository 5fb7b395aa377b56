"""ChatML, and what is read of a chat template."""

import pytest

from detrec.engines.builtin.chat import ChatFormat, chat_format
from detrec.errors import ConfigError, ModelError

TOKENS = {"<|im_start|>", "<|im_end|>"}
USER = {"role": "user", "content": "Hi"}
# as the models' files have it: SmolLM2 with newlines, Qwen2.5 with escapes and a branch for tools
SMOLLM2 = """{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are SmolLM<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}"""
QWEN25 = r"""{%- if tools %}{{- '<|im_start|>system\n' }}{{- messages[0]['content'] }}{%- else %}
{{- '<|im_start|>system\nYou are Qwen. You help.<|im_end|>\n' }}{%- endif %}"""
PLAIN = "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}"


def test_turns_stand_between_marks():
    messages = [
        {"role": "system", "content": "Be brief."},
        USER,
        {"role": "assistant", "content": "Yes"},
        USER,
    ]
    assert ChatFormat(system="unused").render(messages, "here") == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nYes<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("template", "system"),
    [(SMOLLM2, "You are SmolLM"), (QWEN25, "You are Qwen. You help."), (PLAIN, ""), (None, "")],
)
def test_the_templates_default_system_message_comes_first(template, system):
    chat, why = chat_format(template, TOKENS)
    first = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    assert why == ""
    assert chat.render([USER], "here") == first + "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("template", "tokens", "why"),
    [
        (PLAIN, {"<|im_start|>"}, "its vocabulary has no"),
        ("{{ '<|start_header_id|>' }}", TOKENS, "its chat template is not ChatML"),
    ],
)
def test_another_format_is_told_apart(template, tokens, why):
    chat, reason = chat_format(template, tokens)
    assert chat is None
    assert reason.startswith(why)


def test_a_template_that_drops_reasoning_takes_no_earlier_answers():
    chat, _ = chat_format(PLAIN + "{{ content.split('</think>') }}", TOKENS)
    assert chat.render([USER], "here").endswith("assistant\n")
    with pytest.raises(ModelError, match=r"here: messages: .* rewrites earlier answers") as caught:
        chat.render([USER, {"role": "assistant", "content": "Yes"}, USER], "here")
    assert "prompt_token_ids" in caught.value.hint


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "messages: empty"),
        ([USER, {"role": "user"}], r"messages\[1\]: content: expected text, got None"),
        ([{"content": "Hi"}], r"messages\[0\]: role: expected text, got None"),
        (
            [{**USER, "role": "bot"}],
            r"messages\[0\]: role: expected one of system, user, assistant, got 'bot'",
        ),
        ([{**USER, "name": "x"}], r"messages\[0\]: unknown key 'name'"),
    ],
)
def test_bad_messages_are_refused(messages, message):
    with pytest.raises(ConfigError, match=message):
        ChatFormat().render(messages, "here")
