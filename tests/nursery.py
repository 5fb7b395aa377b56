"""`detrec` commands as forks of one process, which has imported what takes longer than a command to run.

Each is a process of its own, from its arguments to its exit; what it does at import is not seen. Reads a JSON
list a line, [folder, environment, file for stdout, file for stderr, arguments, when it dies, or null, as
tests/mortal.py has it], and answers with the exit code.
"""

import gc
import json
import os
import sys

import paddle  # noqa: F401

from detrec import main
from detrec.engines.builtin import cpu_runner, engine  # noqa: F401
from detrec.recorder import record  # noqa: F401
from detrec.replayer import diagnose, replay  # noqa: F401
from tests.mortal import mortal


def born() -> bool:
    """Fork at each line; True in the child that is to run a command, False at the end of the lines."""
    # a child need not look through what was imported
    gc.freeze()
    for line in sys.stdin:
        folder, environment, out, err, arguments, dies = json.loads(line)
        child = os.fork()
        if not child:
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environment)
            sys.argv = ["detrec", *arguments]
            if dies:
                mortal(*dies)
            for descriptor, path in enumerate(("/dev/null", out, err)):
                file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
                os.dup2(file, descriptor)
                os.close(file)
            return True
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return False


if __name__ == "__main__" and born():
    main.main()
