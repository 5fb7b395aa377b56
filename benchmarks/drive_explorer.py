"""How quickly the explorer's screen follows its keys, and the memory it takes, on a terminal of its own.

The command itself runs in a pseudo-terminal. A look is over when the last of what a key has led to has been
drawn: its time is from the key to the last byte before the terminal is quiet.
"""

import os
import select
import time
from dataclasses import dataclass

from tests.tui.terminal import Terminal

QUIET = 0.4
PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Look:
    """`keys`, one after another, each a look of its own; the slowest counts."""

    name: str
    keys: tuple[str, ...]


LOOKS = (
    Look("next", ("n",) * 6),
    Look("layer", ("}",) * 4 + ("{",) * 4),
    Look("another request", (".",) * 4 + (",",) * 4),
    Look("a row far away", (":r600:40\r", ":step 1000\r", ":step 4000\r", ":step 2000\r")),
    Look("zoom", ("+",) * 4 + ("-",) * 4),
    Look("along", ("\x1b[6~",) * 4 + ("\x1b[5~",) * 4),
    Look("map of a layer", ("\r", "\x1b") * 3),
    Look("map of steps", ("\x1b", "\r") * 3),
    Look("schedule", ("s", "1") * 3),
    Look("tokens", ("7", "1") * 3),
)


class Watched(Terminal):
    """The explorer on a screen that is looked at."""

    def look(self, keys: str = "") -> float:
        """Seconds from `keys` to the last byte that they have led to."""
        begin = last = time.perf_counter()
        if keys:
            self.press(keys)
        while (now := time.perf_counter()) - last < QUIET:
            ready, _, _ = select.select([self._screen], [], [], QUIET - (now - last))
            if ready:
                self.drawn += os.read(self._screen, 1 << 16)
                last = time.perf_counter()
        return last - begin

    @property
    def peak(self) -> float:
        """The most memory that was ever resident, MB."""
        with open(f"/proc/{self._process.pid}/status", encoding="utf-8") as lines:
            kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        return kilobytes / 1024


def driven(run: str, other: str, columns: int, lines: int, verdict: str = "DIVERGED") -> list[str]:
    """The cells of one line of the table: seconds until there is something to see and until the verdict, the
    slowest of each look in milliseconds, and the memory.
    """
    begin = time.perf_counter()
    with Watched("explore", run, other, columns=columns, lines=lines) as terminal:
        terminal.until("COMPARING", PATIENCE)
        opened = time.perf_counter() - begin
        terminal.until(verdict, PATIENCE)
        compared = time.perf_counter() - begin
        terminal.look()
        at_rest = terminal.peak
        times = [max(terminal.look(keys) for keys in look.keys) for look in LOOKS]
        peak = terminal.peak
        terminal.press("q")
        terminal.end()
    looks = [f"{1000 * seconds:.0f}" for seconds in times]
    return [f"{opened:.2f}", f"{compared:.2f}", *looks, f"{at_rest:.0f}", f"{peak:.0f}"]
