"""Why the runs diverged: the cause, every measurement it rests on, and what the comparison counted."""

from dataclasses import dataclass

from rich.style import Style
from rich.text import Text

from detrec.printable import printable
from detrec.replayer.comparison import Comparison
from detrec.replayer.diagnosis import Diagnosis
from detrec.replayer.survey.condition import Condition
from detrec.replayer.survey.measure import Measured
from detrec.replayer.survey.survey import Survey
from detrec.replayer.tokens import margin_of
from detrec.tui import moves, words
from detrec.tui.moves import Move
from detrec.tui.palette import Palette
from detrec.tui.pane import Pane
from detrec.tui.stand import Place

_LABEL = 11


@dataclass(frozen=True, slots=True)
class Facts:
    """`alone`: there is no second run that could differ. `name`: the op that was `measured`."""

    alone: bool
    comparison: Comparison | None
    diagnosis: Diagnosis | None
    conditions: tuple[Condition, ...]
    problem: str
    measured: Measured | None
    name: str


class CausePane(Pane):
    """Labels and sentences, wrapped to the width there is."""

    fits = True

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, title="Cause")

    def read(self, survey: Survey, place: Place) -> Facts:
        """What is known by now; nothing is read."""
        measured = survey.measured
        name = survey.runs.ops[measured.cell.op] if survey.runs is not None and measured is not None else ""
        return Facts(
            survey.other is None,
            survey.comparison,
            survey.diagnosis,
            survey.conditions,
            survey.problem,
            measured,
            name,
        )

    def show_read(self, facts: Facts, palette: Palette, *, find: str) -> None:
        """The lines that hold `find`."""
        self.entitle("Cause", find)
        width = max(self.width - _LABEL - 1, 24)
        lines = []
        for label, text, style in _entries(facts, palette):
            if find.lower() not in f"{label} {text}".lower():
                continue
            wrapped = Text(text, style).wrap(self.app.console, width)
            for number, part in enumerate(wrapped):
                lines.append(Text.assemble((f" {'' if number else label:{_LABEL}}", palette.label), part))
        self.show(lines)

    def way_in(self) -> Move | str:
        """To where it began."""
        return moves.first


def _entries(facts: Facts, palette: Palette) -> list[tuple[str, str, Style | str]]:
    found, cause = facts.comparison, facts.diagnosis
    entries: list[tuple[str, str, Style | str]] = []
    for known in facts.conditions:
        if known.status != "complete":
            entries.append(
                (known.status, f"{printable(known.path)}: {printable(known.detail)}", palette.warn)
            )
            entries.append(("", known.hint, palette.quiet))
    if facts.alone and not facts.problem:
        return [*entries, ("alone", "one run, and nothing to hold against it: r replays it", palette.quiet)]
    if found is None:
        if not entries:
            entries.append(("", printable(facts.problem) or "still comparing", palette.quiet))
        return entries
    if cause is not None:
        entries.append(("cause", cause.cause, palette.bad))
        entries.append(("", printable(cause.summary), palette.strong))
        entries.append(("rule", cause.rule, palette.quiet))
        entries += [(each.kind, printable(each.text), "") for each in cause.evidence]
    elif found.verdict == "diverged":
        entries.append(("cause", "not looked into: g does, from the first divergence", palette.quiet))
    else:
        entries.append(
            ("verdict", found.verdict, palette.good if found.verdict == "identical" else palette.warn)
        )
    return entries + _measured(facts, palette) + _counted(found, palette)


def _measured(facts: Facts, palette: Palette) -> list[tuple[str, str, Style | str]]:
    """What was measured of another cell than the first; and what could not be."""
    measured = facts.measured
    if measured is None:
        return []
    entries: list[tuple[str, str, Style | str]] = [
        ("note", printable(note), palette.warn) for note in measured.notes
    ]
    if not measured.first:
        entries.append(("measured", f"{facts.name} of {words.place(measured.cell)}", palette.strong))
        entries += [(each.kind, printable(each.text), "") for each in measured.diagnosis.evidence]
    return entries


def _counted(found: Comparison, palette: Palette) -> list[tuple[str, str, Style | str]]:
    first, counts, rows, flip = found.first, found.counts, found.rows, found.tokens.first_flip
    entries: list[tuple[str, str, Style | str]] = []
    if first is not None:
        entries.append(
            ("bits", f"recorded {words.bits(first.recorded)}, replayed {words.bits(first.replayed)}", "")
        )
    differ = f"{counts.born:,} born, {counts.inherited:,} inherited; {counts.missing:,} missing"
    entries.append(("cells", f"{counts.compared:,} compared: {counts.equal:,} equal, {differ}", ""))
    for number, text in (
        (rows.missing, "in one run only"),
        (rows.after_flip, "of them after another token was drawn"),
        (rows.cached, "served from the prefix cache in one run"),
        (rows.superseded, "computed again after a preemption, in both runs together"),
        (rows.beyond, "after the end of the recording"),
    ):
        if number:
            entries.append(("rows", f"{number:,} {text}", ""))
    if flip is not None:
        where = f"request {printable(flip.request)}, position {flip.position}"
        tokens = f"recorded {flip.recorded}, replayed {flip.replayed}, {margin_of(flip.margin)}"
        entries.append(("tokens", f"{where}: {tokens}", palette.warn))
    else:
        entries.append(("tokens", "equal" if found.tokens.equal else "equal where both runs drew one", ""))
    return entries
