"""The explorer driven by its keys, and what is then on the screen as text."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual import events

from detrec.replayer.survey.survey import Survey
from detrec.story.write import write
from detrec.tui.app import Explorer
from detrec.tui.status import Status

SMALL, LARGE = (80, 24), (200, 60)


class Driver:
    """An open explorer. `press` waits until what a key has led to is on the screen."""

    def __init__(self, app: Explorer, pilot: Any) -> None:
        self.app, self._pilot = app, pilot

    async def settle(self, limit: float = 30.0) -> None:
        """Until nothing is being read or drawn."""
        quiet = 0
        for _ in range(int(limit / 0.01)):
            await self._pilot.pause()
            # what was read is shown by the next look, unless showing it has asked for more
            quiet = quiet + 1 if self.app.idle and self.lines else 0
            if quiet == 3:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the explorer did not come to rest")

    async def press(self, *keys: str) -> None:
        """Keys one after the other."""
        for key in keys:
            await self._pilot.press(key)
            await self.settle()

    async def write(self, text: str) -> None:
        """A text pasted into the line that asks for it, and enter."""
        self.app.focused.post_message(events.Paste(text))
        await self.press("enter")

    async def until(self, reached: Callable[[], bool], limit: float = 30.0) -> None:
        """Until something has happened that takes its time."""
        for _ in range(int(limit / 0.02)):
            await self._pilot.pause()
            if reached():
                await self.settle()
                return
            await asyncio.sleep(0.02)
        raise AssertionError("it did not happen")

    async def click(self, selector: str, x: int, y: int, times: int = 1) -> None:
        """The mouse on a widget."""
        await self._pilot.click(selector, offset=(x, y), times=times)
        await self.settle()

    async def wheel(self, selector: str, x: int, y: int, *, up: bool) -> None:
        """One notch of the mouse's wheel."""
        event = events.MouseScrollUp if up else events.MouseScrollDown
        await self._pilot._post_mouse_events([event], selector, offset=(x, y), button=0)
        await self.settle()

    async def resize(self, width: int, height: int) -> None:
        """Another size of the screen."""
        await self._pilot.resize_terminal(width, height)
        await self.settle()

    @property
    def lines(self) -> list[str]:
        """The screen, line by line."""
        return [strip.text.rstrip() for strip in self.app.screen._compositor.render_strips()]

    @property
    def screen(self) -> str:
        """The screen."""
        return "\n".join(self.lines)

    @property
    def status(self) -> str:
        """What is said above the keys, of however many lines."""
        return self.app.part(Status).render().plain

    def pane(self, name: str) -> Any:
        """A pane."""
        return self.app.pane(name)


@asynccontextmanager
async def driven(survey: Callable[[], Survey], size: tuple[int, int] = SMALL, **options: Any) -> Any:
    """An explorer of what `survey` opens, at rest."""
    app = Explorer(survey, write, **options)
    with pytest.MonkeyPatch.context() as patch:
        # on a busy machine a message would be gone before it is read
        patch.setattr("detrec.tui.status._SECONDS", 3600.0)
        async with app.run_test(size=size) as pilot:
            driver = Driver(app, pilot)
            await driver.settle()
            yield driver


def drive(
    survey: Callable[[], Survey],
    steps: Callable[[Driver], Any],
    size: tuple[int, int] = SMALL,
    **options: Any,
) -> Any:
    """Run `steps`, a coroutine function, on an explorer of its own."""

    async def run() -> Any:
        async with driven(survey, size, **options) as driver:
            return await steps(driver)

    return asyncio.run(run())


def holds(text: str, parts: Iterable[str]) -> bool:
    """Are all of them in it?"""
    return all(part in text for part in parts)
