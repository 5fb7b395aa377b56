"""The explorer's screen as SVG, the same for the same screen: for the README, and to see what moved."""

import asyncio
import re
from collections.abc import Callable, Sequence

from detrec.replayer.survey.survey import Survey
from detrec.tui.app import Explorer
from detrec.tui.writing import Write

_SECONDS = 60.0
_LOOK = 0.02


def picture(
    open_survey: Callable[[], Survey], write: Write, size: tuple[int, int], keys: Sequence[str] = ()
) -> str:
    """What is seen on a screen of (columns, lines) once `keys` have been pressed and all is read."""

    async def draw() -> str:
        app = Explorer(open_survey, write)
        async with app.run_test(size=size) as pilot:
            await _rest(app, pilot.pause)
            for key in keys:
                await pilot.press(key)
                await _rest(app, pilot.pause)
            return _plain(app.export_screenshot(title="detrec"))

    return asyncio.run(draw())


async def _rest(app: Explorer, pause: Callable[[], object]) -> None:
    """Until nothing is being read, and what was read is drawn."""
    quiet = 0
    for _ in range(int(_SECONDS / _LOOK)):
        await pause()  # type: ignore[misc]
        quiet = quiet + 1 if app.idle else 0
        if quiet > 3:
            return
        await asyncio.sleep(_LOOK)
    raise TimeoutError("the explorer did not come to rest")


def _plain(svg: str) -> str:
    """Without what changes from one picture to the next, and without fonts from elsewhere."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return re.sub(r"terminal-\d+", "terminal", svg).rstrip() + "\n"
