"""The tokens of one request in both runs: its prompt, what was drawn, the first flip and how close it was."""

from functools import partial

from rich.text import Text

from detrec.printable import printable
from detrec.replayer.survey.survey import Survey
from detrec.replayer.survey.tokens import RequestTokens, TokenAt
from detrec.replayer.tokens import number
from detrec.tui import moves
from detrec.tui.moves import Move
from detrec.tui.palette import Palette
from detrec.tui.pane import Pane, holding
from detrec.tui.stand import Place
from detrec.tui.table import Column, Table, widest


class TokensPane(Pane):
    """One line a token."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, title="Tokens")
        self._tokens: tuple[TokenAt, ...] = ()
        self._request = ""

    def read(self, survey: Survey, place: Place) -> tuple[RequestTokens | None, bool]:
        """The tokens of the request one stands in."""
        found = survey.tokens(place.cell.request) if place.cell is not None else None
        return found, survey.other is None

    def show_read(self, facts: tuple[RequestTokens | None, bool], palette: Palette, *, find: str) -> None:
        """The lines that hold `find`; the cursor on the first flip, else on the first draw."""
        found, alone = facts
        if found is None:
            self.show([])
            return
        same = found.request == self._request
        self._request = found.request
        self.entitle(f"Tokens of {printable(found.request)}", find)
        table = _table(found, alone=alone)
        line = partial(_line, table, palette=palette, alone=alone)
        shown = holding(found.tokens, line, find)
        self._tokens = tuple(shown)
        flip = None if found.first_flip is None else found.tokens[found.first_flip]
        self.border_subtitle = (
            "" if alone else "no flip" if flip is None else f"first flip at {flip.position}"
        )
        begin = (at for at, token in enumerate(shown) if token is flip or (flip is None and not token.prompt))
        cursor = self.cursor if same else next(begin, 0)
        self.offer(len(shown), lambda at: line(shown[at]), header=lambda: [table.header()], cursor=cursor)

    def way_in(self) -> Move | str:
        """To the row from which the token was drawn."""
        if not self._tokens:
            return "no token is here"
        token, request = self._tokens[self.cursor], self._request
        if token.prompt:
            return lambda survey, place: moves.goto(survey, place, f"{request}:{token.position}")
        return lambda survey, place: moves.goto(survey, place, f"{request}:{token.position - 1} sampled")


def _table(found: RequestTokens, *, alone: bool) -> Table:
    wide = widest([_shown(token.recorded, token.recorded_text) for token in found.tokens], 8, 22)
    head = (Column("", 1), Column("pos", 5, right=True), Column("", 6))
    tail = (
        Column("margin", 8, right=True),
        Column("logprob", 8, right=True),
        Column("seed", 6),
        Column("finish"),
    )
    if alone:
        return Table((*head, Column("token", wide), *tail))
    return Table((*head, Column("recorded", wide), Column("replayed", wide), *tail))


def _line(table: Table, token: TokenAt, *, palette: Palette, alone: bool) -> Text:
    mark = Text("≠" if token.differs else " ", palette.changed)
    style = palette.quiet if token.prompt else palette.strong
    cells: list[str | Text] = [mark, str(token.position), "prompt" if token.prompt else "drawn"]
    cells.append(Text(_shown(token.recorded, token.recorded_text), style))
    if not alone:
        other = palette.changed if token.differs else palette.quiet
        cells.append(Text(_shown(token.replayed, token.replayed_text), other))
    draw = token.recorded_draw
    if draw is None:
        return table.line(*cells, "", "", "", "")
    return table.line(*cells, number(draw.margin), number(draw.logprob, 4), str(draw.seed), draw.finish)


def _shown(token: int | None, text: str) -> str:
    if token is None:
        return "-"
    return f"{token} {printable(text)}" if text else str(token)
