"""The part of the explorer that fills: the map, the lists and the panes, each read in a thread of its own."""

from functools import partial
from typing import Any

from rich.text import Text

from detrec.replayer.survey.survey import Survey
from detrec.tui import charting, words
from detrec.tui.cause_pane import CausePane
from detrec.tui.elements_pane import ElementsPane
from detrec.tui.framing import Framing
from detrec.tui.heatmap import HeatMap
from detrec.tui.kernels_pane import KernelsPane
from detrec.tui.manifest_pane import ManifestPane
from detrec.tui.messages import Arrived, Charted, Filled, Overviewed, Said
from detrec.tui.ops_pane import OpsPane
from detrec.tui.pane import Pane
from detrec.tui.rows_pane import RowsPane
from detrec.tui.schedule_pane import SchedulePane
from detrec.tui.stand import Level, Place
from detrec.tui.status import Status
from detrec.tui.tokens_pane import TokensPane
from detrec.tui.walking import Latest


class Filling(Framing):
    """What is shown for the place one stands at. `turn` counts how often everything was read anew."""

    def empty(self) -> None:
        """Before there is a screen."""
        self.survey: Survey | None = None
        self.place = Place()
        self.turn = 0
        self.born_only = False
        self.finds: dict[str, str] = {}
        self.arrived: Arrived | None = None
        self.chart: charting.Chart | None = None
        self._maps, self._minimaps = Latest(self._failed), Latest(self._failed)
        self._fills: dict[Pane, Latest] = {}

    @property
    def filled(self) -> bool:
        """Is nothing being read that was asked for?"""
        return all(reader.idle for reader in (self._maps, self._minimaps, *self._fills.values()))

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
        self.part(SchedulePane).follow(cell.step)
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

    def expect_find(self, pane: Pane) -> None:
        """Let a pane make ready, in a thread, while a text to find is typed."""
        if self.survey is not None:
            job = partial(pane.expect_find, self.survey)
            self._fills.setdefault(pane, Latest(self._failed)).do(job)

    def on_pane_widened(self, message: Pane.Widened) -> None:
        """What it shows may be cut otherwise."""
        self.fill(message.pane)

    def on_filled(self, message: Filled) -> None:
        """What a pane asked for."""
        message.pane.show_read(message.facts, self.palette, find=message.find)

    def _failed(self, text: str) -> None:
        self.post_message(Said(text, bad=True))
