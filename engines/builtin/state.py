"""What the engine knows of one request while it runs."""

from dataclasses import dataclass, field

import numpy as np

from detrec.config import SamplingParams
from detrec.engines.base import Kind, Request, Slice

DRAW_DTYPE = np.dtype(
    [
        ("temperature", np.float32),
        ("top_k", np.int32),
        ("top_p", np.float32),
        ("min_p", np.float32),
        ("seed", np.uint64),
    ]
)
"""How a request's tokens are drawn."""

_INT32_MAX = np.iinfo(np.int32).max


def neutral(params: SamplingParams) -> bool:
    """Whether no token is penalised."""
    return (
        params.repetition_penalty == 1.0
        and params.presence_penalty == 0.0
        and params.frequency_penalty == 0.0
    )


@dataclass(slots=True, eq=False)
class RequestState:
    """`tokens` are prompt and output so far; the KV of the first `computed` of them is in the cache.

    A state equals itself alone: a scheduler looks states up by the hundred at every step.
    """

    request: Request
    tokens: list[int] = field(default_factory=list)
    computed: int = 0
    finish: str = ""
    plain: bool = field(init=False)
    """Whether the request's own history never changes its logits."""
    draw: tuple[float, ...] = field(init=False)
    """What its tokens are drawn with, a record of DRAW_DTYPE."""

    _prompt: int = field(init=False)
    """How many tokens the prompt has; asked several times a step."""

    def __post_init__(self) -> None:
        params = self.request.sampling
        self._prompt = len(self.request.prompt)
        self.tokens = self.tokens or list(self.request.prompt)
        self.plain = neutral(params) and not params.min_tokens
        # no vocabulary is larger than an int32: past it, every k keeps all
        top_k = min(params.top_k, _INT32_MAX)
        self.draw = params.temperature, top_k, params.top_p, params.min_p, params.seed or 0

    @property
    def output(self) -> list[int]:
        """The tokens generated so far."""
        return self.tokens[self._prompt :]

    @property
    def generated(self) -> int:
        """How many tokens were generated so far."""
        return len(self.tokens) - self._prompt

    @property
    def remaining(self) -> int:
        """How many known tokens have no KV yet."""
        return len(self.tokens) - self.computed

    @property
    def decoding(self) -> bool:
        """Only the newest generated token is to be run."""
        known = len(self.tokens)
        return known - self.computed == 1 and known > self._prompt

    @property
    def priority(self) -> tuple[int, str]:
        """First come, first served; ties by request id."""
        return (self.request.arrival, self.request.id)

    def cut(self, count: int, first_block: int) -> Slice:
        """The next `count` tokens as a slice."""
        start, stop = self.computed, self.computed + count
        kind = Kind.DECODE if self.decoding else Kind.PREFILL
        return Slice(self.request.id, start, stop, kind, stop == len(self.tokens), first_block)
