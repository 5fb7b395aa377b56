"""ChatML: turns between <|im_start|> and <|im_end|>, the format of SmolLM2 and Qwen.

A model's chat template is a Jinja program. It is not run: what is read of it is the system message that it
puts before a conversation that brings none, and whether it is ChatML at all.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from detrec.errors import ConfigError, ModelError

START, END = "<|im_start|>", "<|im_end|>"
ROLES = ("system", "user", "assistant")

# a newline in a template is one, or the two characters of its escape inside a Jinja string
_DEFAULT_SYSTEM = re.compile(r"<\|im_start\|>system(?:\n|\\n)([^'\"{}<]+)<\|im_end\|>")


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """`system` is the message of a conversation that starts without one; "" for none.

    `thinks`: the template rewrites earlier answers (it drops their reasoning), so they cannot be given here.
    """

    system: str = ""
    thinks: bool = False

    def turns(self, messages: Sequence[Mapping[str, str]], where: str) -> list[tuple[str, str]]:
        """(role, content) of every turn, the default system message first where it is due."""
        turns = [_turn(message, index) for index, message in enumerate(messages)]
        if not turns:
            raise ConfigError("messages: empty", hint="a conversation needs at least one message")
        if self.thinks and any(role == "assistant" for role, _ in turns):
            raise ModelError(
                f"{where}: messages: the model's chat template rewrites earlier answers, detrec does not",
                hint="render them yourself: prompt and prompt_token_ids work",
            )
        if self.system and turns[0][0] != "system":
            turns.insert(0, ("system", self.system))
        return turns

    def render(self, messages: Sequence[Mapping[str, str]], where: str) -> str:
        """The prompt as text, up to where the assistant answers."""
        turns = "".join(f"{START}{role}\n{content}{END}\n" for role, content in self.turns(messages, where))
        return f"{turns}{START}assistant\n"


def chat_format(template: str | None, vocabulary: Collection[str]) -> tuple[ChatFormat | None, str]:
    """The format of a model with this chat template and these tokens, or None and why there is none.

    A model without a template speaks plain ChatML where its vocabulary has the turn marks.
    """
    if START not in vocabulary or END not in vocabulary:
        return None, f"its vocabulary has no {START} and {END}, and ChatML is the only format known here"
    if template is None:
        return ChatFormat(), ""
    if START not in template:
        return None, "its chat template is not ChatML"
    found = _DEFAULT_SYSTEM.search(template)
    system = found.group(1).replace("\\n", "\n") if found else ""
    return ChatFormat(system=system, thinks="</think>" in template), ""


def _turn(message: Mapping[str, str], index: int) -> tuple[str, str]:
    at = f"messages[{index}]"
    for key in ("role", "content"):
        if not isinstance(message.get(key), str):
            raise ConfigError(f"{at}: {key}: expected text, got {message.get(key)!r}")
    if extra := sorted(set(message) - {"role", "content"}):
        raise ConfigError(f"{at}: unknown key {extra[0]!r}", hint="a message has role and content")
    if message["role"] not in ROLES:
        raise ConfigError(f"{at}: role: expected one of {', '.join(ROLES)}, got {message['role']!r}")
    return message["role"], message["content"]
