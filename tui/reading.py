"""The part of the explorer that reads: traces are opened, compared and followed, and panes are filled."""

from collections.abc import Callable
from functools import partial
from typing import Any

from rich.text import Text
from textual.message import Message

from detrec.replayer.divergence import Divergence
from detrec.replayer.survey.survey import Survey
from detrec.tui import banner, charting, moves, words
from detrec.tui.banner import Banner
from detrec.tui.cause_pane import CausePane
from detrec.tui.elements_pane import ElementsPane
from detrec.tui.framing import Framing
from detrec.tui.heatmap import HeatMap
from detrec.tui.kernels_pane import KernelsPane
from detrec.tui.manifest_pane import ManifestPane
from detrec.tui.memory import keep_all
from detrec.tui.messages import (
    Arrived,
    Charted,
    Compared,
    Filled,
    Grown,
    Opened,
    Overviewed,
    Progressed,
    Said,
    Sighted,
)
from detrec.tui.ops_pane import OpsPane
from detrec.tui.pane import Pane
from detrec.tui.rows_pane import RowsPane
from detrec.tui.schedule_pane import SchedulePane
from detrec.tui.stand import Depth, Level, Place
from detrec.tui.status import Status
from detrec.tui.tokens_pane import TokensPane
from detrec.tui.walking import Latest, Walker


class Reading(Framing):
    """What is known, and how it comes to the screen. `turn` counts how often everything was read anew."""

    def begin(self, open_survey: Callable[[], Survey], *, at: str, follow: float) -> None:
        """Before there is a screen."""
        self._open_survey, self._at, self._follow = open_survey, at, follow
        self.survey: Survey | None = None
        self.place = Place()
        self.sighted: Divergence | None = None
        self.compared = False
        self.turn = 0
        self.born_only = False
        self.finds: dict[str, str] = {}
        self.walker = Walker(self)
        self.arrived: Arrived | None = None
        self.chart: charting.Chart | None = None
        self._maps, self._minimaps, self._polls = (Latest(self._failed) for _ in range(3))
        self._fills: dict[Pane, Latest] = {}

    @property
    def idle(self) -> bool:
        """Is there nothing that is still being read? What it came to may still wait to be shown."""
        readers = (self._maps, self._minimaps, self._polls, *self._fills.values())
        return self.compared and self.walker.idle and all(reader.idle for reader in readers)

    def _post(self, message: Message) -> None:
        self.post_message(message)

    def _failed(self, text: str) -> None:
        self.post_message(Said(text, bad=True))

    def start_reading(self) -> None:
        """Open the traces."""
        self.run_worker(self._open, thread=True, group="open")

    def _open(self) -> None:
        survey = self._open_survey()
        self.post_message(Opened(survey))
        self._compare(survey)

    def _compare(self, survey: Survey) -> None:
        def progress(what: str, done: int, total: int) -> None:
            self.post_message(Progressed(what, done, total))

        survey.compare(progress, lambda first: self._post(Sighted(first)))
        self.post_message(Compared())

    def take(self, survey: Survey) -> None:
        """Look at this one from here on."""
        self.survey = self.walker.survey = survey
        self.sighted = None
        self.turn += 1
        self.headline()
        self.beside = "cause" if survey.other is not None or survey.runs is None else "schedule"
        if survey.runs is None:
            # there is room for the whole of what is wrong
            self.depth = Depth("cause")
        self.arrange()
        self.fill_all()

    def on_opened(self, message: Opened) -> None:
        """There is something to look at, before it is known what differs."""
        self.take(message.survey)
        if message.survey.runs is not None:
            self.walker.go(moves.start)
            if self._at:
                self.walker.go(partial(moves.goto, text=self._at))
        self.set_interval(self._follow, self._look_again)

    def on_compared(self, message: Compared) -> None:
        """Now it is known what differs."""
        keep_all()
        self.compared = True
        self.turn += 1
        self.headline()
        self.fill_all()
        if self.survey is not None and self.survey.runs is not None:
            # to the first divergence, unless somebody has gone elsewhere
            stay = self._at or self.walker.wanted > 1
            self.walker.go(moves.stay if stay else moves.start)

    def on_sighted(self, message: Sighted) -> None:
        """Where it differs first is known before what differs in all."""
        self.sighted = message.first
        self.headline()

    def on_progressed(self, message: Progressed) -> None:
        """A share, on the banner."""
        self.headline(f"{100 * message.done // max(message.total, 1)} %")

    def _look_again(self) -> None:
        """A recording that runs, and nothing else, is worth another look."""
        survey = self.survey
        if survey is None or all(known.status != "recording" for known in survey.conditions):
            return
        steps = 0 if survey.runs is None else survey.runs.recorded.n_steps

        def poll() -> None:
            if survey.refresh():
                self.post_message(Grown(steps))
                self._compare(survey)

        self._polls.do(poll)

    def on_grown(self, message: Grown) -> None:
        """More steps than a moment ago; who stood at the end stays at the end."""
        self.turn += 1
        self.headline()
        cell = self.place.cell
        at_end = cell is not None and cell.step == message.steps - 1
        self.walker.go(moves.to_end if at_end else moves.stay)

    def on_said(self, message: Said) -> None:
        """Something for the reader."""
        self.say(message.text, bad=message.bad)

    def headline(self, progress: str = "") -> None:
        """The banner."""
        shown = self.part(Banner)
        if self.survey is None:
            return
        shown.lines = banner.headline(self.survey, self.palette, progress=progress, sighted=self.sighted)

    def on_arrived(self, message: Arrived) -> None:
        """Somewhere else, or the same place known better."""
        if message.moves != self.walker.wanted:
            return
        self.arrived, before = message, self.place
        self.place = message.place
        self.show_place()
        if before.cell is None or (self.place.cell and before.cell.request != self.place.cell.request):
            self.fill(self.part(TokensPane))

    def show_place(self) -> None:
        """The map, the ops and the rows for the place; the way to it on the line above the keys."""
        arrived, survey = self.arrived, self.survey
        if arrived is None or survey is None or survey.runs is None or arrived.place.cell is None:
            return
        cell, alone = arrived.place.cell, survey.other is None
        self.show_map()
        looks: dict[str, Any] = {
            "alone": alone,
            "several": survey.runs.ranks > 1,
            "born_only": self.born_only,
        }
        if arrived.row is not None:
            find = self.finds.get("ops", "")
            self.part(OpsPane).show_row(arrived.row, cell.op, self.palette, find=find, **looks)
        find = self.finds.get("rows", "")
        name = survey.runs.ops[cell.op]
        self.part(RowsPane).show_rows(name, cell, arrived.rows, self.palette, find=find, **looks)
        self.fill(self.part(ElementsPane))
        self.show_way()

    def show_way(self) -> None:
        """step > layer > op > row: what has been chosen, the level one is at in bold."""
        cell, survey = self.place.cell, self.survey
        if cell is None or survey is None or survey.runs is None:
            return
        layer, _, op = survey.runs.ops[cell.op].rpartition(".")
        rank = "" if self.place.rank is None else f" rank {self.place.rank}"
        names = (
            f"step {cell.step}",
            f"layer {layer or '-'}",
            f"op {op}{rank}",
            f"row {words.place(cell)}",
            "element",
        )
        way = Text()
        for level, name in zip(Level, names, strict=True):
            here = level == self.depth.level
            way.append(" > " if level else "", self.palette.quiet)
            way.append(
                name, self.palette.strong if here else self.palette.quiet if level > self.depth.level else ""
            )
        found = self.arrived.row.ops[cell.op] if self.arrived and self.arrived.row else None
        if found is not None:
            way.append("   ").append_text(self.palette.named(found.state))
        self.part(Status).way = way

    def show_map(self) -> None:
        """The field for the place and the depth, and the cursor in it."""
        cell, survey = self.place.cell, self.survey
        if cell is None or survey is None or survey.runs is None:
            return
        chart = charting.chart_of(survey, cell, self.depth.map_level, self.place.rank, self.turn, self.chart)
        self.chart = chart
        heatmap = self.part(HeatMap)
        column = cell.step if self.depth.map_level is Level.STEP else cell.position
        heatmap.border_title = Text(charting.title_of(survey, cell, self.depth.map_level))
        heatmap.show(chart.field, line=chart.line_of(cell), column=column, born_only=self.born_only)

    def on_heat_map_window_wanted(self, message: HeatMap.WindowWanted) -> None:
        """Read it in a thread."""
        survey, key = self.survey, message.key
        if survey is None or not isinstance(key, charting.Key):
            return

        def read() -> None:
            window = charting.window_of(
                survey, key, message.start, message.until, message.bins, message.scale
            )
            self.post_message(Charted(window))

        self._maps.do(read)

    def on_heat_map_overview_wanted(self, message: HeatMap.OverviewWanted) -> None:
        """Read it in a thread, beside what is on the screen."""
        survey, key = self.survey, message.key
        if survey is None or not isinstance(key, charting.Key):
            return

        def read() -> None:
            found = charting.overview_of(survey, key, message.total, message.width)
            self.post_message(Overviewed(key, *found))

        self._minimaps.do(read)

    def on_charted(self, message: Charted) -> None:
        """A window of the map."""
        self.part(HeatMap).put(message.window)

    def on_overviewed(self, message: Overviewed) -> None:
        """The line under the map."""
        self.part(HeatMap).put_overview(message.key, message.density, message.born)

    def fill_all(self) -> None:
        """Every pane that does not follow the cursor."""
        for kind in (CausePane, SchedulePane, TokensPane, ManifestPane, KernelsPane):
            self.fill(self.part(kind))

    def fill(self, pane: Pane) -> None:
        """Read what a pane shows, in a thread."""
        survey, place = self.survey, self.place
        if survey is None:
            return
        find = pane.find = self.finds.get(pane.id or "", "")

        def read() -> None:
            self.post_message(Filled(pane, pane.read(survey, place), find))

        self._fills.setdefault(pane, Latest(self._failed)).do(read)

    def on_pane_widened(self, message: Pane.Widened) -> None:
        """What it shows may be cut otherwise."""
        self.fill(message.pane)

    def on_filled(self, message: Filled) -> None:
        """What a pane asked for."""
        message.pane.show_read(message.facts, self.palette, find=message.find)
