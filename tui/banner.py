"""The verdict, where it differs first, why, and how much: the lines at the top."""

from collections.abc import Sequence

from rich.style import Style
from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from detrec.printable import counted, place_of, place_on_rank, printable
from detrec.replayer.comparison import Comparison
from detrec.replayer.divergence import Divergence
from detrec.replayer.survey.cell import State
from detrec.replayer.survey.condition import Condition
from detrec.replayer.survey.survey import Survey
from detrec.tui.palette import Palette

_REVERSED = Style(reverse=True)
_BADGES = {"identical": "✓", "diverged": "✗", "incomplete": "?"}


class Banner(Widget):
    """Some lines, each cut at the end of the screen."""

    lines: reactive[tuple[Text, ...]] = reactive(())

    def render(self) -> Text:
        """Each on a line of its own."""
        lines = [line.copy() for line in self.lines]
        for line in lines:
            line.truncate(max(self.content_size.width, 1), overflow="ellipsis")
        return Text("\n").join(lines)

    def watch_lines(self, lines: tuple[Text, ...]) -> None:
        """As high as what there is to say."""
        self.styles.height = max(len(lines), 1)

    @property
    def plain(self) -> str:
        """All of them, as text."""
        return "\n".join(line.plain for line in self.lines)


def opening(paths: Sequence[str], palette: Palette) -> tuple[Text, ...]:
    """Before anything is known."""
    return (Text(f"opening {' and '.join(map(printable, paths))}", palette.quiet),)


def headline(
    survey: Survey, palette: Palette, *, width: int, progress: str = "", sighted: Divergence | None = None
) -> tuple[Text, ...]:
    """What a survey says by now; `sighted` is where the runs first differ, before all is compared.

    Of so many columns, in which a place is written shorter where it would be cut off.
    """
    conditions = survey.conditions
    found = survey.comparison
    ill = [_condition(condition, palette) for condition in conditions if condition.status != "complete"]
    if survey.runs is None or (survey.problem and found is None):
        known = ill or [
            Text.assemble(_badge("cannot tell", "?", palette.warn), " ", printable(survey.problem))
        ]
        return tuple(known)
    if survey.other is None:
        return (_alone(survey, palette), *ill)
    if found is None:
        text = Text.assemble(_badge("comparing", "…", palette.warn), f" {progress}")
        if sighted is not None:
            text.append(" diverged, first at ")
            text.append(_place(sighted, survey.runs.ranks, width - text.cell_len), palette.strong)
        return (text, *ill)
    second = [_why(survey, palette)] if found.verdict == "diverged" else []
    return (_verdict(found, palette, width), *ill, *second, _counts(found, palette))


def _badge(word: str, symbol: str, style: Style) -> tuple[str, Style]:
    return (f" {symbol} {word.upper()} ", style + _REVERSED)


def _place(cell: Divergence, ranks: int, room: int) -> str:
    """In words, or by names alone."""
    text = place_on_rank(cell, ranks)
    if len(text) <= room:
        return text
    rank = text.removeprefix(place_of(cell))
    layer = "" if cell.layer is None else f"{cell.layer}."
    return f"step {cell.step}, {printable(cell.request)}:{cell.position}, {layer}{cell.op}{rank}"


def _verdict(found: Comparison, palette: Palette, width: int) -> Text:
    style = {"identical": palette.good, "diverged": palette.bad}.get(found.verdict, palette.warn)
    text = Text.assemble(_badge(found.verdict, _BADGES[found.verdict], style), " ")
    counts = found.counts
    if found.verdict == "identical":
        return text.append(
            f"{counted(counts.equal, 'fingerprint')} of {counted(found.rows.matched, 'row')} and "
            f"{counted(len(found.ops), 'op')} are equal"
        )
    if found.verdict == "incomplete":
        are = "is" if counts.missing == 1 else "are"
        missing = f"{counted(counts.missing, 'cell')} {are} missing"
        return text.append(f"nothing differs, and {missing}: that is not equal")
    if found.first is None:
        return text.append("other tokens were drawn, and no fingerprint shows where")
    text.append("first at ")
    return text.append(_place(found.first, found.ranks, width - text.cell_len), palette.strong)


def _why(survey: Survey, palette: Palette) -> Text:
    cause = survey.diagnosis
    if cause is None:
        return Text("   cause not looked into", palette.quiet)
    return Text.assemble("   ", (cause.cause, palette.warn), f": {printable(cause.summary)}")


def _counts(found: Comparison, palette: Palette) -> Text:
    counts, flip = found.counts, found.tokens.first_flip
    pieces = (
        (State.EQUAL, counts.equal, "equal"), (State.BORN, counts.born, "born"),
        (State.INHERITED, counts.inherited, "inherited"), (State.MISSING, counts.missing, "missing"),
    )  # fmt: skip
    text = Text("   ")
    for state, number, name in pieces:
        text.append_text(palette.symbol(state)).append(f" {number:,} {name}  ")
    if flip is not None:
        return text.append(f"tokens differ from {printable(flip.request)}:{flip.position} on", palette.warn)
    return text.append(
        "tokens equal" if found.tokens.equal else "tokens equal where both drew one", palette.quiet
    )


def _alone(survey: Survey, palette: Palette) -> Text:
    (known,) = survey.conditions
    steps, ranks = counted(known.steps, "step"), counted(known.ranks, "rank")
    about = f"{steps}, {counted(known.rows, 'row')} x {counted(known.ops, 'op')}, {ranks}"
    badge = (f" {known.status.upper()} ", palette.strong + _REVERSED)
    return Text.assemble(badge, f" {about}  ", (printable(known.path), palette.quiet))


def _condition(known: Condition, palette: Palette) -> Text:
    symbol = {"recording": "●", "partial": "…", "corrupt": "!", "failed": "!"}.get(known.status, "?")
    return Text.assemble(
        _badge(known.status, symbol, palette.warn), " ", printable(known.detail),
        (f"; {known.hint}" if known.hint else "", palette.quiet),
    )  # fmt: skip
