"""Tokenizers from a model directory's tokenizer.json, and from a GGUF file's metadata."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detrec.engines.builtin.chat import chat_format
from detrec.engines.builtin.tokenizer import LibraryTokenizer
from detrec.engines.builtin.values import token_ids
from detrec.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Library

_WITHOUT = "prompt_token_ids still work"
_CONTROL, _USER_DEFINED = 3, 4

# how a text is cut before merges, by tokenizer.ggml.pre: the patterns in these models' tokenizer.json
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PATTERNS = {"qwen2": _WORDS % "", "llama-bpe": _WORDS % "{1,3}"}
_PRE = ("gpt-2", "smollm", *_PATTERNS)


def directory_tokenizer(path: Path) -> LibraryTokenizer:
    """The tokenizer of a model directory. ModelError where tokenizer.json is absent or cannot be read."""
    from tokenizers import Tokenizer as Library

    file = path / "tokenizer.json"
    if not file.is_file():
        raise ModelError(f"{path}: has no tokenizer.json", hint=_WITHOUT)
    try:
        library = Library.from_file(str(file))
    # the library raises bare Exception
    except Exception as error:
        raise ModelError(f"{file}: cannot be read: {error}", hint=_WITHOUT) from None
    chat, why = chat_format(_directory_template(path), library.get_vocab(with_added_tokens=True))
    return LibraryTokenizer(library, str(path), chat=chat, why=why)


def _directory_template(path: Path) -> str | None:
    """The default chat template, in a file of its own or in tokenizer_config.json (one text, or a list)."""
    file, config = path / "chat_template.jinja", path / "tokenizer_config.json"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    if not config.is_file():
        return None
    try:
        template = json.loads(config.read_text(encoding="utf-8")).get("chat_template")
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{config}: not a JSON mapping: {error}", hint=_WITHOUT) from None
    if isinstance(template, list):
        template = next((entry.get("template") for entry in template if entry.get("name") == "default"), None)
    return template if isinstance(template, str) else None


def gguf_tokenizer(metadata: Mapping[str, Any], where: str) -> LibraryTokenizer:
    """The byte-level BPE that a GGUF file's metadata describes. ModelError for another kind of tokenizer."""
    model, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre", "gpt-2")
    if model != "gpt2":
        raise ModelError(
            f"{where}: tokenizer.ggml.model: expected gpt2 (byte-level BPE), got {model!r}", hint=_WITHOUT
        )
    # what DeepSeek's Qwen distillates call the same cut
    pre = {"deepseek-r1-qwen": "qwen2", "llama3": "llama-bpe", "llama-v3": "llama-bpe"}.get(pre, pre)
    if pre not in _PRE:
        raise ModelError(
            f"{where}: tokenizer.ggml.pre: expected one of {', '.join(_PRE)}, got {pre!r}", hint=_WITHOUT
        )
    tokens, merges, kinds = (
        _column(metadata, f"tokenizer.ggml.{key}", kind, where)
        for key, kind in (("tokens", str), ("merges", str), ("token_type", int))
    )
    if len(kinds) != len(tokens):
        raise ModelError(
            f"{where}: tokenizer.ggml.token_type: expected {len(tokens)} entries, got {len(kinds)}",
            hint=_WITHOUT,
        )
    library = _bpe(tokens, merges, kinds, pre, where)
    template = metadata.get("tokenizer.chat_template")
    chat, why = chat_format(template if isinstance(template, str) else None, set(tokens))
    begin = metadata.get("tokenizer.ggml.add_bos_token", pre == "llama-bpe")
    bos = token_ids(metadata, "tokenizer.ggml.bos_token_id", where) if begin else []
    return LibraryTokenizer(library, where, chat=chat, why=why, begin=bos)


def _column(metadata: Mapping[str, Any], key: str, kind: type, where: str) -> list[Any]:
    values = metadata.get(key)
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise ModelError(f"{where}: {key}: expected a list of {kind.__name__}", hint=_WITHOUT)
    return values


def _bpe(tokens: list[str], merges: list[str], kinds: list[int], pre: str, where: str) -> "Library":
    from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Library

    # a byte-level token has no space in it, so the first one parts the pair
    pairs = [(first, second) for first, _, second in (merge.partition(" ") for merge in merges)]
    try:
        bpe = models.BPE(
            vocab={token: index for index, token in enumerate(tokens)},
            merges=pairs,
            ignore_merges=pre == "llama-bpe",
        )
    except Exception as error:
        raise ModelError(
            f"{where}: its tokenizer's merges do not fit its tokens: {error}", hint=_WITHOUT
        ) from None
    library = Library(bpe)
    if pre == "qwen2":
        library.normalizer = normalizers.NFC()
    if pre in _PATTERNS:
        cut = pre_tokenizers.Split(Regex(_PATTERNS[pre]), "isolated")
        library.pre_tokenizer = pre_tokenizers.Sequence(
            [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    else:
        words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        digits = [pre_tokenizers.Digits(individual_digits=True)] if pre == "smollm" else []
        library.pre_tokenizer = pre_tokenizers.Sequence([*digits, words])
    library.decoder = decoders.ByteLevel()
    for special, kind in ((True, _CONTROL), (False, _USER_DEFINED)):
        marked = [token for token, found in zip(tokens, kinds, strict=True) if found == kind]
        library.add_tokens([AddedToken(token, normalized=False, special=special) for token in marked])
    return library
