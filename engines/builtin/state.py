"""What the engine knows of one request while it runs."""

from dataclasses import dataclass, field

from detrec.engines.base import Kind, Request, Slice


@dataclass(slots=True)
class RequestState:
    """`tokens` are prompt and output so far; the KV of the first `computed` of them is in the cache."""

    request: Request
    tokens: list[int] = field(default_factory=list)
    computed: int = 0
    finish: str = ""

    def __post_init__(self) -> None:
        self.tokens = self.tokens or list(self.request.prompt)

    @property
    def output(self) -> list[int]:
        """The tokens generated so far."""
        return self.tokens[len(self.request.prompt) :]

    @property
    def remaining(self) -> int:
        """How many known tokens have no KV yet."""
        return len(self.tokens) - self.computed

    @property
    def decoding(self) -> bool:
        """Only the newest generated token is to be run."""
        return self.remaining == 1 and len(self.tokens) > len(self.request.prompt)

    @property
    def priority(self) -> tuple[int, str]:
        """First come, first served; ties by request id."""
        return (self.request.arrival, self.request.id)

    def cut(self, count: int, first_block: int) -> Slice:
        """The next `count` tokens as a slice."""
        stop = self.computed + count
        return Slice(
            request=self.request.id,
            start=self.computed,
            stop=stop,
            kind=Kind.DECODE if self.decoding else Kind.PREFILL,
            samples=stop == len(self.tokens),
            first_block=first_block,
        )
