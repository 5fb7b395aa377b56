"""The part of the explorer that moves: through the runs, and through the panes."""

from functools import partial

from detrec.tui import layout, moves
from detrec.tui.ask import Ask
from detrec.tui.elements_pane import UNITS, ElementsPane
from detrec.tui.heatmap import HeatMap
from detrec.tui.listing import Listing
from detrec.tui.ops_pane import OpsPane
from detrec.tui.pane import Pane
from detrec.tui.reading import Reading
from detrec.tui.rows_pane import RowsPane
from detrec.tui.stand import Depth, Level

_FINDS = "what a line should hold"
_GOTO = "step 12, a request, request:45, 14.attn, or several of these"


class Moving(Reading):
    """Actions whose end is another place, another pane or another look."""

    def go(self, move: moves.Move) -> None:
        """Make a move; what was said before is over."""
        self.hush()
        self.walker.go(move)

    def action_next(self) -> None:
        """The next divergence."""
        self.go(partial(moves.following, back=False, born_only=self.born_only))

    def action_previous(self) -> None:
        """The previous one."""
        self.go(partial(moves.following, back=True, born_only=self.born_only))

    def action_first(self) -> None:
        """The first one."""
        self.go(moves.first)

    def action_step(self, by: int) -> None:
        """Another step."""
        self.go(partial(moves.by_step, by=by))

    def action_layer(self, by: int) -> None:
        """Another layer."""
        self.go(partial(moves.by_layer, by=by))

    def action_rank(self, by: int) -> None:
        """Another rank."""
        self.go(partial(moves.by_rank, by=by))

    def action_request(self, by: int) -> None:
        """Another request."""
        self.go(partial(moves.by_request, by=by))

    def action_born(self) -> None:
        """Born divergences alone, or all of them."""
        self.born_only = not self.born_only
        self.show_place()
        self.say("born divergences alone" if self.born_only else "born and inherited divergences")

    def action_unit(self) -> None:
        """Elements by another unit."""
        units = [*UNITS]
        pane = self.part(ElementsPane)
        pane.unit = units[(units.index(pane.unit) + 1) % len(units)]
        self.fill(pane)
        self.say(f"elements by {UNITS[pane.unit]}")

    def action_show(self, pane: str) -> None:
        """Put a pane in front."""
        self.hush()
        self.stand_in(Depth(pane, self.depth.map_level))
        if pane in ("manifest", "kernels") and self.survey is not None and self.survey.comparison is not None:
            self._say_what_differs(pane)

    def _say_what_differs(self, pane: str) -> None:
        found = self.survey.comparison if self.survey else None
        if pane == "manifest" and found is not None and not found.manifest_diff:
            self.say("both runs were told the same")

    def action_pane(self, by: int) -> None:
        """The pane beside this one."""
        ask = self.part(Ask)
        if ask.has_class("-open"):
            ask.action_leave()
            return
        names = [name for name, _ in layout.PANES]
        self.action_show(names[(names.index(self.depth.pane) + by) % len(names)])

    def stand_in(self, depth: Depth) -> None:
        """Another depth: what is in front, what the map shows."""
        self.depth = depth
        self.arrange()
        self.show_map()
        self.show_way()

    def action_down(self) -> None:
        """One level deeper; from a pane beside the levels, to what its line is about."""
        pane, level = self.pane(self.depth.pane), self.depth.level
        if isinstance(pane, Pane) and self.depth.pane in layout.BESIDE:
            way = pane.way_in()
            if isinstance(way, str):
                self.say(way)
            else:
                self.go(way)
                if not self.plan.split:
                    self.stand_in(Depth("ops" if self.depth.pane == "kernels" else "map", Level.LAYER))
            return
        deeper = self.depth.down()
        if deeper is None:
            self.say("an element is as deep as it gets")
            return
        if level is Level.STEP:
            self.go(moves.into_step)
        elif level is Level.LAYER:
            self.go(moves.into_layer)
        else:
            self.hush()
        self.stand_in(deeper)

    def action_up(self) -> None:
        """One level up; first of all out of a filter."""
        self.hush()
        if self.finds.pop(self.depth.pane, ""):
            self._refill()
            return
        higher = self.depth.up()
        if higher is None:
            self.say("this is the top: q leaves")
        else:
            self.stand_in(higher)

    def action_find(self) -> None:
        """Keep the lines that hold a text; the map's lines are the ops."""
        on_map = self.depth.pane == "map"
        pane = "ops" if on_map else self.depth.pane
        # first, so that the pane does not take the focus back
        self.part(Ask).open("find", "/", _FINDS, self.finds.get(pane, ""))
        if on_map:
            self.stand_in(Depth("ops", Level.OP))
        found = self.pane(pane)
        if isinstance(found, Pane):
            self.call_after_refresh(self.expect_find, found)

    def action_goto(self) -> None:
        """Go to a place by its name."""
        self.part(Ask).open("goto", ":", _GOTO)

    def on_ask_typed(self, message: Ask.Typed) -> None:
        """What is found is seen at every letter."""
        if message.what == "find":
            self.finds[self.depth.pane] = message.text
            self._refill()

    def on_ask_answered(self, message: Ask.Answered) -> None:
        """The end of it."""
        if message.what == "goto" and message.text:
            text = message.text
            self.go(lambda survey, place: moves.goto(survey, place, text))
        elif message.what == "find" and message.text is None:
            self.finds.pop(self.depth.pane, "")
            self._refill()
        self.arrange()

    def _refill(self) -> None:
        pane = self.pane(self.depth.pane)
        if isinstance(pane, Pane):
            self.fill(pane)
        else:
            self.show_place()

    def on_heat_map_moved(self, message: HeatMap.Moved) -> None:
        """The cursor of the map is where one stands."""
        if self.chart is None:
            return
        column, ops = message.column, self.chart.ops_of(message.line)
        along = moves.to_step if self.depth.map_level is Level.STEP else moves.to_position
        if message.sideways:
            self.go(lambda survey, place: along(survey, place, column))
        if message.updown:
            self.go(partial(moves.to_layer, ops=ops))

    def on_heat_map_opened(self, message: HeatMap.Opened) -> None:
        """As if enter had been pressed."""
        self.action_down()

    def on_listing_opened(self, message: Listing.Opened) -> None:
        """As if enter had been pressed."""
        self.action_down()

    def on_listing_moved(self, message: Listing.Moved) -> None:
        """The cursor of ops and of rows is where one stands."""
        pane, line = message.listing, message.line
        if isinstance(pane, OpsPane) and line < len(pane.ops):
            self.go(partial(moves.to_op, op=pane.ops[line]))
        elif isinstance(pane, RowsPane) and line < len(pane.cells):
            cell = pane.cells[line]
            self.go(lambda survey, place: moves.to_cell(place, cell))
