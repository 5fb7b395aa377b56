"""The explorer: it holds the survey and where one stands in it; widgets show what they are given.

What reads a trace runs in threads, which post messages. A fact that is shown comes from the survey.
"""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import ClassVar

from textual import events
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.theme import Theme

from detrec.replayer.survey.survey import Survey
from detrec.tui import layout
from detrec.tui.acting import Acting
from detrec.tui.ask import Ask
from detrec.tui.banner import Banner, opening
from detrec.tui.cause_pane import CausePane
from detrec.tui.elements_pane import ElementsPane
from detrec.tui.heatmap import HeatMap
from detrec.tui.help import Help
from detrec.tui.kernels_pane import KernelsPane
from detrec.tui.keymap import KEYMAP, first_keys
from detrec.tui.keys import Keys
from detrec.tui.manifest_pane import ManifestPane
from detrec.tui.moving import Moving
from detrec.tui.ops_pane import OpsPane
from detrec.tui.reading import Reading
from detrec.tui.rows_pane import RowsPane
from detrec.tui.schedule_pane import SchedulePane
from detrec.tui.status import Status
from detrec.tui.tabs import Tabs
from detrec.tui.terminal import hung_up, leaving_clean
from detrec.tui.theme import THEMES
from detrec.tui.tokens_pane import TokensPane
from detrec.tui.writing import Write

_LOOK_S = 1.0


class Explorer(Acting, Moving, Reading, App[None]):
    """`open_survey` opens the traces, in a thread of the explorer's: RUN alone, or RUN and OTHER.

    `paths` are the traces', to say what is being opened. `at` names the place to begin at, "" for the first
    divergence. A trace that grows is looked at again every `follow` seconds.
    """

    CSS_PATH = "explorer.tcss"
    TITLE = "detrec"
    BINDINGS: ClassVar[list[BindingType]] = [*KEYMAP]
    AUTO_FOCUS = ""

    def __init__(
        self,
        open_survey: Callable[[], Survey],
        write: Write,
        *,
        paths: Sequence[str] = (),
        at: str = "",
        follow: float = 1.0,
    ) -> None:
        # without colours the terminal's own are kept, and weight and reverse tell things apart
        mono = "NO_COLOR" in os.environ
        super().__init__(ansi_color=True if mono else None)
        self.driver_class = leaving_clean(self.driver_class)
        self.colour, self.write, self._paths = not mono, write, paths
        self.begin(open_survey, at=at, follow=follow)
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = THEMES[0].name

    def compose(self) -> ComposeResult:
        """All panes, of which the layout shows some."""
        # first of all: what lies under it keeps its place in the order, and is not drawn anew when this opens
        yield Ask(id="ask")
        yield Banner(id="banner")
        yield Tabs(layout.PANES, id="tabs")
        with Horizontal(id="panes"):
            with Vertical(id="left"):
                yield HeatMap(id="map", title="Map")
                yield CausePane(id="cause")
                yield SchedulePane(id="schedule")
                yield TokensPane(id="tokens")
                yield ManifestPane(id="manifest")
                yield KernelsPane(id="kernels")
            with Vertical(id="right"):
                yield OpsPane(id="ops")
                yield RowsPane(id="rows")
                yield ElementsPane(id="elements")
        yield Status(id="status")
        yield Keys(first_keys(), id="keys")

    def on_mount(self) -> None:
        """Open the traces while the screen is there already."""
        self.plan = layout.Layout.of(*self.size)
        self.arrange()
        self.part(Banner).lines = opening(self._paths, self.palette)
        self.theme_changed_signal.subscribe(self, self._recolour)
        self.start_reading()
        if not self.is_headless:
            self.set_interval(_LOOK_S, self._leave_if_nobody_sees_it)

    def _leave_if_nobody_sees_it(self) -> None:
        # Textual would read the end of the terminal's input for ever
        if hung_up(sys.__stdin__.fileno()):  # type: ignore[union-attr]
            self.exit(return_code=2)

    def on_resize(self, event: events.Resize) -> None:
        """Other panes may fit."""
        self.plan = layout.Layout.of(*event.size)
        self.arrange()
        self.headline()

    def _recolour(self, _: Theme) -> None:
        """What was put together in the colours of another theme."""
        if self.survey is not None:
            self.headline()
            self.fill_all()
            self.show_place()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A key that opens the line below is one of the text's own letters where that is open."""
        if action in ("find", "goto", "export"):
            return len(self.screen_stack) == 1 and not self.part(Ask).has_class("-open")
        return super().check_action(action, parameters)

    def action_help(self) -> None:
        """Every key."""
        self.push_screen(Help(self.palette))

    def action_help_quit(self) -> None:
        """Ctrl-C, which ends other programs."""
        self.say("q leaves")

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The explorer's own commands, and its themes."""
        for binding in KEYMAP:
            if binding.id != "app.palette":
                help = f"key {binding.key_display or binding.key}"
                name = binding.tooltip[0].upper() + binding.tooltip[1:]
                yield SystemCommand(name, help, partial(self.run_action, binding.action))
        yield SystemCommand("Change the theme", "dark, light and others", self.action_change_theme)

    def on_key(self, event: events.Key) -> None:
        """A key that nothing wanted."""
        if (
            event.is_printable
            and len(self.screen_stack) == 1
            and event.key not in self.screen.active_bindings
        ):
            if event.character and event.character in "123456789":
                self.action_show(layout.PANES[int(event.character) - 1][0])
            else:
                self.say(f"{event.character} does nothing here; ? lists the keys")

    def on_tabs_chosen(self, message: Tabs.Chosen) -> None:
        """A name was clicked."""
        self.action_show(message.pane)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """A pane was clicked: it is in front now."""
        # an event may be late: who has the focus by now is who counts
        if not self.screen_stack or event.widget is not self.focused:
            return
        name = event.widget.id
        if name in dict(layout.PANES) and name != self.depth.pane:
            self.action_show(name)
