"""The part of the explorer that reads: traces are opened, compared and followed."""

from collections.abc import Callable
from functools import partial

from textual.message import Message

from detrec.replayer.divergence import Divergence
from detrec.replayer.survey.survey import Survey
from detrec.tui import banner, moves
from detrec.tui.banner import Banner
from detrec.tui.filling import Filling
from detrec.tui.memory import keep_all
from detrec.tui.messages import Arrived, Compared, Grown, Opened, Progressed, Said, Sighted
from detrec.tui.stand import Depth
from detrec.tui.tokens_pane import TokensPane
from detrec.tui.walking import Latest, Walker


class Reading(Filling):
    """What is known, and how it comes to be."""

    def begin(self, open_survey: Callable[[], Survey], *, at: str, follow: float) -> None:
        """Before there is a screen."""
        self.empty()
        self._open_survey, self._at, self._follow = open_survey, at, follow
        self.sighted: Divergence | None = None
        self.compared = False
        self.walker = Walker(self)
        self._polls = Latest(self._failed)

    @property
    def idle(self) -> bool:
        """Is there nothing that is still being read? What it came to may still wait to be shown."""
        return self.compared and self.walker.idle and self._polls.idle and self.filled

    def _post(self, message: Message) -> None:
        self.post_message(message)

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
        if self.survey is not None:
            shown.lines = banner.headline(
                self.survey, self.palette, width=self.plan.width - 2, progress=progress, sighted=self.sighted
            )

    def on_arrived(self, message: Arrived) -> None:
        """Somewhere else, or the same place known better."""
        if message.moves != self.walker.wanted:
            return
        self.arrived, before = message, self.place
        self.place = message.place
        self.show_place()
        if before.cell is None or (self.place.cell and before.cell.request != self.place.cell.request):
            self.fill(self.part(TokensPane))
