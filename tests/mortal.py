"""A detrec that dies on time: `python -m tests.mortal STEP SECONDS ARGS` is `detrec ARGS`, killed SECONDS
after it wrote step STEP; -1 is before the first.

Its own clock kills it, as suddenly as kill -9, so that it cannot get away from a killer who is late because
the machine is busy. Where SECONDS is "wait" it goes no further than STEP, for whoever interrupts it.
"""

import os
import signal
import sys
import time
from typing import Any

from detrec import main
from detrec.recorder.steps import Record
from detrec.recorder.writer import TraceWriter


def end(seconds: float | str) -> None:
    """Die in so many seconds."""
    if seconds == "wait":
        time.sleep(600)
    elif float(seconds):
        signal.setitimer(signal.ITIMER_REAL, float(seconds))
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def mortal(last: int, seconds: float | str) -> None:
    """Let every TraceWriter end this process after step `last`."""
    begin, write = TraceWriter.__init__, TraceWriter.step

    def beginning(self: TraceWriter, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        if last < 0:
            end(seconds)

    def writing(self: TraceWriter, record: Record) -> None:
        write(self, record)
        if record.step.index == last:
            end(seconds)

    TraceWriter.__init__, TraceWriter.step = beginning, writing


if __name__ == "__main__":
    mortal(int(sys.argv.pop(1)), sys.argv.pop(1))
    main.main()
