"""The tokens of a request in both runs, with their text where the model's vocabulary can be had."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detrec.replayer.survey.draws import Draw, draw_at
from detrec.replayer.survey.runs import Runs
from detrec.replayer.survey.side import Side

Text = Callable[[int], str]
"""The text of one token."""


@dataclass(frozen=True, slots=True)
class TokenAt:
    """The token that stands at `position`: of the prompt, or drawn from the row at `position` - 1.

    A side is None where that run has no token there. `recorded_text` and `replayed_text` are "" where no
    vocabulary is at hand. The draws are None for the prompt. `differs`: the runs have two tokens here, and
    not the same.
    """

    position: int
    prompt: bool
    recorded: int | None
    replayed: int | None
    recorded_text: str
    replayed_text: str
    recorded_draw: Draw | None
    replayed_draw: Draw | None
    differs: bool


@dataclass(frozen=True, slots=True)
class RequestTokens:
    """`first_flip` indexes `tokens`: the first that the runs drew differently; None where there is none."""

    request: str
    tokens: tuple[TokenAt, ...]
    first_flip: int | None


def tokens_of(runs: Runs, request: str, text: Text | None = None) -> RequestTokens:
    """The prompt and every draw of a request. ValueError for a request that no run has.

    A draw is what the row gave, even where a replay was made to go on with the recorded token.
    """
    if request not in runs.ids:
        raise ValueError(f"no request is called {request!r}")
    sides = [_of(runs, side, request) for side in runs.sides]
    end = max(max(len(prompt), max(draws, default=-1) + 1) for prompt, draws in sides)
    found = [_at(position, sides, text) for position in range(end)]
    flips = [at for at, token in enumerate(found) if token.differs and not token.prompt]
    return RequestTokens(request, tuple(found), flips[0] if flips else None)


def _at(
    position: int, sides: Sequence[tuple[Sequence[int], Mapping[int, Draw]]], text: Text | None
) -> TokenAt:
    ids: list[int | None] = []
    draws: list[Draw | None] = []
    for prompt, drawn in sides:
        draw = drawn.get(position)
        given = prompt[position] if position < len(prompt) else None
        ids.append(given if draw is None else draw.token)
        draws.append(draw)
    if len(sides) == 1:
        ids.append(None)
        draws.append(None)
    texts = [text(token) if text is not None and token is not None else "" for token in ids]
    return TokenAt(
        position,
        any(position < len(prompt) for prompt, _ in sides),
        ids[0],
        ids[1],
        texts[0],
        texts[1],
        draws[0],
        draws[1],
        None not in ids and ids[0] != ids[1],
    )


def _of(runs: Runs, side: Side, request: str) -> tuple[tuple[int, ...], dict[int, Draw]]:
    """The prompt, and the draws by the position where their token stands; of two of one place, the latest."""
    number = runs.number(side, request)
    if number < 0:
        return (), {}
    samples = side.samples()
    at = np.flatnonzero(samples.request == number).tolist()
    return side.requests[number].prompt, {int(samples.position[i]) + 1: draw_at(samples, i) for i in at}
