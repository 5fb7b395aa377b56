"""The schedules of both runs side by side: what each step computed, and where the plans are not the same.

Of one run alone: its steps, its events, and the KV blocks that were held.
"""

from dataclasses import dataclass

import numpy as np
from rich.text import Text

from detrec.printable import counted, printable
from detrec.replayer.survey.kv import KvUse
from detrec.replayer.survey.schedule import Schedule, StepOf
from detrec.replayer.survey.survey import Survey
from detrec.tui import moves
from detrec.tui.moves import Move
from detrec.tui.palette import Palette
from detrec.tui.pane import Pane
from detrec.tui.schedule_text import event_text, searched, slice_text
from detrec.tui.stand import Place
from detrec.tui.table import Column, Table, joined

_BAR = " ▁▂▃▄▅▆▇█"
_SIDE = 28


@dataclass(frozen=True, slots=True)
class Facts:
    """`kv` is the recorded run's; `pairs` are those that a filter left, None for all."""

    schedule: Schedule
    alone: bool
    kv: KvUse | None
    here: int
    pairs: np.ndarray | None


class SchedulePane(Pane):
    """One line for steps that stand together."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, title="Schedule")
        self._facts: Facts | None = None
        self._searched: tuple[Schedule, list[str]] | None = None

    def read(self, survey: Survey, place: Place) -> Facts:
        """The alignment of both runs' steps."""
        schedule = survey.schedule
        kv = survey.kv()[0]
        here = schedule.at_step(place.cell.step) if place.cell is not None else 0
        wanted = self.find.lower()
        pairs = None
        if wanted:
            held = [at for at, text in enumerate(self._texts_of(schedule)) if wanted in text]
            pairs = np.array(held, np.int64)
        if len(schedule):
            # the columns that a line is made of are read here, not while it is drawn
            _ = schedule[here]
        return Facts(schedule, survey.other is None, kv, here, pairs)

    def expect_find(self, survey: Survey) -> None:
        """The text of every step, before the first letter comes."""
        self._texts_of(survey.schedule)

    def _texts_of(self, schedule: Schedule) -> list[str]:
        if self._searched is None or self._searched[0] is not schedule:
            self._searched = schedule, searched(schedule)
        return self._searched[1]

    def show_read(self, facts: Facts, palette: Palette, *, find: str) -> None:
        """Its lines are made as they are seen."""
        self._facts = facts
        self.entitle("Schedule", find)
        differing = int(facts.schedule.differing.sum())
        steps = counted(len(facts.schedule), "step")
        self.border_subtitle = steps if facts.alone else f"{differing:,} of {steps} scheduled differently"
        count = len(facts.schedule) if facts.pairs is None else len(facts.pairs)
        cursor = facts.here if facts.pairs is None else 0
        self.offer(
            count,
            lambda line: self._step_line(facts, self._index(line), palette),
            header=lambda: [self._table(facts).header()],
            cursor=cursor,
        )

    def follow(self, step: int) -> None:
        """Put the cursor on a recorded step, where no filter may have left it out."""
        if self._facts is not None and self._facts.pairs is None and self.count:
            self.cursor = self._facts.schedule.at_step(step)

    def way_in(self) -> Move | str:
        """To the recorded step."""
        if self._facts is None or not self.count:
            return "no step has been recorded"
        step = int(self._facts.schedule.steps[self._index(self.cursor), 0])
        if step < 0:
            return "only the replayed run has this step"
        return lambda survey, place: moves.to_step(survey, place, step)

    def _index(self, line: int) -> int:
        assert self._facts is not None, "lines are of something that was read"
        return line if self._facts.pairs is None else int(self._facts.pairs[line])

    def _table(self, facts: Facts) -> Table:
        step = Column("step", 5, right=True)
        if facts.alone:
            kv = "" if facts.kv is None else f"KV of {facts.kv.blocks}" if facts.kv.blocks else "KV"
            return Table(
                (step, Column("rows", 4, right=True), Column(kv, 9, right=True), Column("slices and events"))
            )
        steps = (Column("rec", 5, right=True), Column("rep", 5, right=True))
        return Table(
            (Column("", 1), *steps, Column("differs", 8), Column("recorded", self._side), Column("replayed"))
        )

    @property
    def _side(self) -> int:
        return max((self.width - 31) // 2, _SIDE)

    def _step_line(self, facts: Facts, index: int, palette: Palette) -> Text:
        table, pair = self._table(facts), facts.schedule[index]
        if facts.alone:
            step = pair.recorded
            assert step is not None, "a run alone has its steps on this side"
            held = _held(facts.kv, step.index, palette)
            return table.line(str(step.index), str(step.rows), held, _text(step, palette))
        numbers = ["-" if step is None else str(step.index) for step in (pair.recorded, pair.replayed)]
        differs = Text(", ".join(pair.differs), palette.warn)
        if not facts.schedule.differing[index] and pair.recorded is not None:
            # told once, in both columns, what both runs did
            once = Table((*table.columns[:-2], Column("")))
            return once.line(" ", *numbers, differs, _text(pair.recorded, palette))
        sides = [
            Text("no such step", palette.quiet) if step is None else _text(step, palette, self._side)
            for step in (pair.recorded, pair.replayed)
        ]
        return table.line(Text("≠", palette.changed), *numbers, differs, *sides)


def _text(step: StepOf, palette: Palette, width: int | None = None) -> Text:
    """Its events and its slices; one that has no equal beside it is marked by colour and a sign.

    Where `width` is too little for all, slices that both runs have are left out.
    """
    parts = [(event_text(event), palette.warn, True) for event in step.before]
    for part, changed in zip(step.slices, step.changed, strict=True):
        sign, style = ("≠", palette.changed) if changed else ("", palette.quiet)
        parts.append(
            (sign + slice_text(printable(part.request), part.start, part.stop, part.samples), style, changed)
        )
    parts += [(event_text(event), palette.good, True) for event in step.finished]
    if width is not None and sum(len(word) + 1 for word, _, _ in parts) > width:
        kept = [part for part in parts if part[2]]
        parts = [*kept, (f"and {len(parts) - len(kept)} equal", palette.quiet, True)]
    return joined([(word, style) for word, style, _ in parts], " ")


def _held(kv: KvUse | None, step: int, palette: Palette) -> Text:
    if kv is None or step >= len(kv.held):
        return Text("")
    held = int(kv.held[step])
    if not kv.blocks:
        return Text(str(held))
    full = held / kv.blocks
    return Text.assemble(
        f"{held} ", (_BAR[min(int(full * 8), 8)], palette.bad if full >= 1 else palette.label)
    )
