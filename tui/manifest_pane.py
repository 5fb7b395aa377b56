"""What the runs were told differently; of one run, or of two that were told the same, all it was told."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from detrec.printable import counted
from detrec.replayer.manifest_diff import ManifestDifference
from detrec.replayer.survey.survey import Survey
from detrec.tui import words
from detrec.tui.moves import Move
from detrec.tui.palette import Palette
from detrec.tui.pane import Pane
from detrec.tui.stand import Place
from detrec.tui.table import Column, Table, widest


@dataclass(frozen=True, slots=True)
class Facts:
    """`differences` is None before the runs were compared, and for one alone."""

    differences: tuple[ManifestDifference, ...] | None
    manifest: Mapping[str, Any]


class ManifestPane(Pane):
    """Keys and values."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, title="Manifest")
        self._values: tuple[str, ...] = ()

    def read(self, survey: Survey, place: Place) -> Facts:
        """The difference, and the recorded run's manifest."""
        found = survey.comparison
        known = {} if survey.runs is None else survey.runs.recorded.manifest
        return Facts(None if found is None else found.manifest_diff, known)

    def show_read(self, facts: Facts, palette: Palette, *, find: str) -> None:
        """Differences first, then everything of the recorded run."""
        self.entitle("Manifest", find)
        different = facts.differences or ()
        rows = [
            (f"{each.key}", words.value(each.recorded), words.value(each.replayed), True)
            for each in different
        ]
        names = {each.key for each in different}
        rows += [(key, value, "", False) for key, value in _flat(facts.manifest) if key not in names]
        rows = [row for row in rows if find.lower() in " ".join(row[:3]).lower()]
        key = Column("key", widest([row[0] for row in rows], 3, 44))
        table = Table((Column("", 1), key, Column("value, recorded → replayed" if different else "value")))
        lines = []
        for name, recorded, replayed, differs in rows:
            style = palette.strong if differs else palette.quiet
            value = Text(recorded, style)
            if differs:
                value.append(" → ").append(replayed, palette.changed)
            lines.append(table.line(Text("≠" if differs else " ", palette.changed), Text(name, style), value))
        self.border_subtitle = "" if facts.differences is None else counted(len(different), "difference")
        self._values = tuple(f"{row[0]}: {row[1]}" + (f" | {row[2]}" if row[3] else "") for row in rows)
        self.show(lines, header=lambda: [table.header()])

    def way_in(self) -> Move | str:
        """The whole of what may have been cut."""
        return self._values[self.cursor] if self.cursor < len(self._values) else "nothing is here"


def _flat(data: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        name = f"{before}.{key}" if before else key
        if isinstance(value, Mapping) and value:
            yield from _flat(value, name)
        else:
            yield name, words.value(value)
