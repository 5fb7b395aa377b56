"""Ctrl-C once a command has said all it had to say."""

import subprocess
import sys

# modules go when Python has given up its own handlers: a signal would then end the process by itself
LATE = """
import os, signal, sys
from detrec.main import main

class Late:
    def __del__(self, kill=os.kill, process=os.getpid(), number=signal.SIGINT):
        kill(process, number)

late = Late()
sys.argv = ["detrec", "--version"]
main()
"""


def test_a_ctrl_c_while_the_process_ends_is_not_heard():
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("detrec ")
