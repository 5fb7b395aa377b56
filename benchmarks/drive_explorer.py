"""How quickly the explorer's screen follows its keys, and the memory it takes, on a terminal of its own.

The command itself runs in a pseudo-terminal. A look is over when the last of what a key has led to has been
drawn: its time is from the key to the last byte before the terminal is quiet.
"""

import os
import select
import time
from dataclasses import dataclass

from tests.tui.terminal import Terminal

_QUIET = 0.4
_PATIENCE = 120.0
# as a terminal sends it that has keys of its own for it; others make the explorer wait for what may follow
_ESCAPE = "\x1b[27u"
_PAGE_UP, _PAGE_DOWN = "\x1b[5~", "\x1b[6~"


@dataclass(frozen=True, slots=True)
class Look:
    """`keys`, each a look of its own. `asked`: of a text that was typed it is the enter key that is timed."""

    name: str
    keys: tuple[str, ...]
    asked: bool = False


LOOKS = (
    Look("next", ("n",) * 6),
    Look("layer", ("}",) * 4 + ("{",) * 4),
    Look("request", (".",) * 4 + (",",) * 4),
    Look("goto", (":r600:40", ":step 1000", ":step 4000", ":step 2000"), asked=True),
    Look("zoom", ("+",) * 4 + ("-",) * 4),
    Look("along", (_PAGE_DOWN,) * 4 + (_PAGE_UP,) * 4),
    Look("map of steps", (_ESCAPE, "\r") * 3),
    Look("schedule", ("s", "1") * 3),
    Look("tokens", ("7", "1") * 3),
    Look("pane", ("\t",) * 9),
    Look("ask", (":", "r", "6", _ESCAPE) * 2),
    Look("find", ("6", "/", "r", "6", "0", _ESCAPE, "1")),
    Look("help", ("?", _ESCAPE) * 2),
)


class Watched(Terminal):
    """The explorer on a screen that is looked at."""

    def look(self, keys: str = "") -> float:
        """Seconds from `keys` to the last byte that they have led to."""
        begin = last = time.perf_counter()
        if keys:
            self.press(keys)
        while (now := time.perf_counter()) - last < _QUIET:
            if select.select([self._screen], [], [], _QUIET - (now - last))[0]:
                self.drawn += os.read(self._screen, 1 << 16)
                last = time.perf_counter()
        return last - begin

    def slowest(self, look: Look) -> float:
        """Seconds of the slowest of a look's keys."""
        seconds = []
        for keys in look.keys:
            if look.asked:
                self.look(keys)
            seconds.append(self.look("\r" if look.asked else keys))
        return max(seconds)

    @property
    def peak(self) -> float:
        """The most memory that was ever resident, MB."""
        with open(f"/proc/{self._process.pid}/status", encoding="utf-8") as lines:
            kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        return kilobytes / 1024


def driven(run: str, other: str, columns: int, lines: int) -> list[str]:
    """The cells of one line of the table: seconds until something is seen and until the verdict, the slowest
    of each look in milliseconds, and MB.
    """
    begin = time.perf_counter()
    with Watched("explore", run, other, columns=columns, lines=lines) as terminal:
        terminal.until("COMPARING", _PATIENCE)
        opened = time.perf_counter() - begin
        terminal.until("DIVERGED", _PATIENCE)
        compared = time.perf_counter() - begin
        terminal.look()
        times = [terminal.slowest(look) for look in LOOKS]
        peak = terminal.peak
        terminal.press("q")
        terminal.end()
    return [
        f"{opened:.2f}",
        f"{compared:.2f}",
        *(f"{1000 * seconds:.0f}" for seconds in times),
        f"{peak:.0f}",
    ]
