"""The part of the explorer that acts: replays, grafts, copies, writes files.

One act runs at a time, in a thread; it says how far it has come, and ends at the next word of its progress
once it is cancelled.
"""

import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from detrec.printable import counted, printable
from detrec.recorder.reader import TraceReader
from detrec.replayer.survey.cell import Cell
from detrec.replayer.survey.command import Replayed, view
from detrec.replayer.survey.measure import Measured, made_by, measure
from detrec.replayer.survey.survey import Progress, Survey
from detrec.tui import moves
from detrec.tui.ask import Ask
from detrec.tui.cause_pane import CausePane
from detrec.tui.elements_pane import ElementsPane
from detrec.tui.messages import Acted, Said, Underway
from detrec.tui.moving import Moving
from detrec.tui.notice import Notice
from detrec.tui.walking import FAILURES
from detrec.tui.writing import Write


class Cancelled(Exception):
    """Raised into an act by its own progress."""


def can_stop(recorded: TraceReader, how: Replayed) -> bool:
    """Can a replay made like this end with a recorded step?"""
    engine = recorded.manifest.get("config", {}).get("engine", {})
    foreign = engine.get("name") == "fastdeploy" or "engine.name=fastdeploy" in how.overrides
    return how.mode != "free" and not foreign


def _told(survey: Survey) -> str:
    """What a replay did, and what came of it."""
    found, runs, how = survey.comparison, survey.runs, survey.made_by
    if found is None or runs is None or how is None:
        return f"replayed {printable(survey.run)}: {survey.problem}"
    steps = runs.recorded.reader.all_steps
    if how.until is not None:
        far = f"replayed up to step {how.until}, of {counted(steps, 'step')}"
        return f"{far}: {found.verdict} so far; R replays the whole run"
    why = "" if can_stop(runs.recorded.reader, how) else ", which cannot stop at a recorded step"
    return f"replayed the whole run{why}, {counted(steps, 'step')}: {found.verdict}"


class Acting(Moving):
    """Actions whose end is outside: another run, the clipboard, a file."""

    write: Write
    _cancel: threading.Event | None = None
    _scratch: tempfile.TemporaryDirectory[str] | None = None

    @property
    def busy(self) -> bool:
        """Is an act under way?"""
        return self._cancel is not None

    def _act(self, what: str, job: Callable[[Progress], Callable[[], None]]) -> None:
        """Run `job` in a thread; what it returns is done on the screen at its end."""
        if self.busy:
            self.say("one thing at a time: esc cancels what is running")
            return
        cancel = self._cancel = threading.Event()

        def progress(step: str, done: int, total: int) -> None:
            if cancel.is_set():
                raise Cancelled
            self.post_message(Underway(what, step, done, total))

        def work() -> None:
            ending: Callable[[], None] | None = None
            try:
                ending = job(progress)
            except Cancelled:
                pass
            except FAILURES as error:
                self.post_message(Said(f"{what}: {error}", bad=True))
            except Exception as error:
                # a fault of detrec's own, in which what one was looking at must not be lost
                text = f"{what}: failed by {type(error).__name__}: {error}; detrec replay has the traceback"
                self.post_message(Said(text, bad=True))
            if cancel.is_set():
                ending = None
                self.post_message(Said(f"{what}: cancelled"))
            self.post_message(Acted(ending))

        self.say(f"{what}: starting, esc cancels", lasting=True)
        self.run_worker(work, thread=True, group="act")

    def on_underway(self, message: Underway) -> None:
        """How far."""
        if self._cancel is not None and not self._cancel.is_set():
            share = 100 * message.done // max(message.total, 1)
            text = f"{message.what}: {message.step} {share} %, esc cancels"
            self.say(text, lasting=True)

    def on_acted(self, message: Acted) -> None:
        """The end."""
        self._cancel = None
        if message.ending is not None:
            message.ending()

    def action_up(self) -> None:
        """First of all it ends what is running."""
        if self._cancel is None:
            super().action_up()
        elif not self._cancel.is_set():
            self._cancel.set()
            self.say("cancelling: the step that runs comes to its end first")

    def _folder(self, name: str) -> Path:
        """A new folder that goes when the explorer does."""
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="detrec-")
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._scratch.name))

    def on_unmount(self) -> None:
        """Nothing stays behind."""
        if self._cancel is not None:
            self._cancel.set()
        if self._scratch is not None:
            self._scratch.cleanup()

    def action_graft(self) -> None:
        """Measure the cell one stands at."""
        survey, cell, rank = self.survey, self.place.cell, self.place.rank
        if survey is None or cell is None:
            self.say("there is nothing to graft")
            return
        folder = str(self._folder("tensors"))

        def job(progress: Progress) -> Callable[[], None]:
            found = measure(survey, cell, folder, rank=rank, progress=progress)
            return partial(self._measured, survey, found)

        self._act("graft", job)

    def _measured(self, survey: Survey, found: Measured) -> None:
        survey.measured = found
        if found.folder:
            survey.tensor_folder = found.folder
        if found.first:
            survey.diagnosis = found.diagnosis
        self.headline()
        self.fill(self.part(CausePane))
        self.fill(self.part(ElementsPane))
        grafted = next((each.text for each in found.diagnosis.evidence if each.kind == "graft"), "")
        self.say("; ".join([*found.notes, grafted or found.diagnosis.summary]), bad=bool(found.notes))

    def action_replay(self, whole: bool) -> None:
        """Run RUN again as OTHER was made, or as it was recorded, and go on from here with that.

        Up to the end of the step one stands in, unless the `whole` is wanted or nothing can stop there.
        """
        survey, cell = self.survey, self.place.cell
        if survey is None or survey.runs is None:
            self.say(survey.problem if survey else "there is nothing to replay", bad=True)
            return
        compared = survey.comparison
        how = survey.made_by or (Replayed() if compared is None else made_by(compared))
        recorded = survey.runs.recorded.reader
        until = None if whole or cell is None or not can_stop(recorded, how) else cell.step
        how = replace(how, until=None if until is None or until >= recorded.all_steps - 1 else until)
        path, tensors = str(self._folder("replay") / "replayed.zarr"), str(self._folder("tensors"))

        def job(progress: Progress) -> Callable[[], None]:
            from detrec.replayer.replay import replay

            done = replay(
                survey.run,
                path,
                overrides=how.overrides,
                mode=how.mode,
                fault=how.fault,
                until=how.until,
                diagnose=True,
                keep_tensors=tensors,
                progress=progress,
            )
            again = Survey(
                survey.run,
                path,
                comparison=done.comparison,
                diagnosis=done.diagnosis,
                replayed=how,
                tensors=tensors if done.diagnosis is not None else None,
            )
            return partial(self._replayed, again, cell)

        self._act("replay" if how.until is None else f"replay up to step {how.until}", job)

    def _replayed(self, survey: Survey, cell: Cell | None) -> None:
        self.take(survey)
        if cell is not None:
            place = f"{cell.request}:{cell.position} {survey.runs.ops[cell.op]}" if survey.runs else ""
            self.walker.go(lambda survey, here: moves.goto(survey, here, place))
        self.say(_told(survey))

    def action_copy(self) -> None:
        """The command that opens this view again, to the clipboard and to the screen."""
        survey, cell = self.survey, self.place.cell
        if survey is None or survey.runs is None or cell is None:
            self.say("there is nothing to reproduce")
            return
        at = f"{cell.request}:{cell.position} {survey.runs.ops[cell.op]}"
        text = view(at, survey.run, survey.other, survey.made_by)
        self.copy_to_clipboard(text)
        self.push_screen(Notice("Copied: this opens the view again", text, self.palette))

    def action_export(self) -> None:
        """Ask for a file; its ending says what is written."""
        if self.survey is None or self.survey.runs is None:
            self.say("there is nothing to write")
            return
        self.part(Ask).open(
            "export", "write to", "a name that ends in .json, .md, .svg or .html", "divergence.html"
        )

    def on_ask_answered(self, message: Ask.Answered) -> None:
        """The name of a file is for here; Textual tells the class above of it as well."""
        survey, cell = self.survey, self.place.cell
        if message.what != "export" or not message.text or survey is None:
            return
        path = Path(message.text).expanduser()

        def job(progress: Progress) -> Callable[[], None]:
            self.write(survey, path, cell=cell, progress=progress)
            return partial(self.say, f"written: {path}")

        self._act("export", job)
