"""Text to token ids and back, and chat messages to the ids of a prompt.

Decoding keeps special tokens visible: what a model said is shown as it was said.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from detrec.engines.builtin.chat import ChatFormat
from detrec.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Library

BOS, EOS, TURN, TURN_END = 256, 257, 258, 259
_SPECIAL = {BOS: "<bos>", EOS: "<eos>", TURN: "<|im_start|>", TURN_END: "<|im_end|>"}


class Tokenizer(Protocol):
    """What a model does with text."""

    vocab_size: int

    def encode(self, text: str) -> list[int]:
        """Ids of a prompt, with what the model puts around one; special tokens in `text` are read as such."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens included."""
        ...

    def apply_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Ids of a conversation (`role` and `content` each) up to where the assistant answers.

        ConfigError for a message that lacks either, ModelError where the model has no ChatML format.
        """
        ...


class ByteTokenizer:
    """UTF-8 bytes as ids 0 to 255, then 256 <bos>, 257 <eos>, 258 <|im_start|>, 259 <|im_end|>.

    Chat is ChatML. Nothing is put around a prompt, and no text encodes to an id of 256 or more. Ids from 260
    on mean nothing: they decode as `<id>`.
    """

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def encode(self, text: str) -> list[int]:
        """The bytes of the text."""
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        """The text; bytes that are not UTF-8 become U+FFFD."""
        parts = (
            bytes([token]) if token < BOS else _SPECIAL.get(token, f"<{token}>").encode() for token in ids
        )
        return b"".join(parts).decode(errors="replace")

    def apply_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """ChatML with the turn marks as ids of their own."""
        turns = ChatFormat().turns(messages, "the messages")
        ids = [
            token
            for role, content in turns
            for token in [TURN, *self.encode(f"{role}\n{content}"), TURN_END, 10]
        ]
        return [*ids, TURN, *self.encode("assistant\n")]


class LibraryTokenizer:
    """A tokenizer of the `tokenizers` package; `where` names it in errors.

    `chat` is None where the model has no chat format that can be followed; `why` then says so.
    `begin` are ids put before a prompt, besides what the library's own post-processor adds.
    """

    def __init__(
        self,
        library: "Library",
        where: str,
        *,
        chat: ChatFormat | None,
        why: str = "",
        begin: Sequence[int] = (),
    ) -> None:
        self._library = library
        self._where = where
        self._chat = chat
        self._why = why
        self._begin = list(begin)
        self.vocab_size = int(library.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """Ids of a prompt."""
        return [*self._begin, *self._library.encode(text).ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens included; ids past the vocabulary (a padded model) give nothing."""
        return str(self._library.decode(list(ids), skip_special_tokens=False))

    def apply_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Ids of a conversation up to where the assistant answers."""
        if self._chat is None:
            raise ModelError(
                f"{self._where}: messages cannot be rendered: {self._why}",
                hint="render them yourself: prompt and prompt_token_ids work",
            )
        ids: list[int] = self._library.encode(
            self._chat.render(messages, self._where), add_special_tokens=False
        ).ids
        return ids
