"""Every error detrec raises on purpose.

    DetrecError                 exit 2: the run could not be done
    ├── ConfigError             serve.yaml, an option or a variable says something detrec cannot accept
    ├── ModelError              a model cannot be loaded, or cannot run the requests it was given
    ├── EngineError             the engine cannot go on, or cannot be had on this machine
    │   └── RankLost            another of the engine's ranks died, gave up, left, or does not come
    ├── TraceError              a trace cannot be read or written
    │   ├── TraceIncomplete     its recorder is still running, or died before closing it
    │   ├── TraceCorrupt        its bytes are not those that were recorded
    │   └── TraceVersion        another detrec wrote it
    └── ReplayError             the engine cannot follow the recorded schedule

A divergence is not here: it is what detrec is for, so it is a result, not an error.
"""

from typing import ClassVar


class DetrecError(Exception):
    """Base of all of them. `hint` is the next thing to try, shown under the message."""

    usual_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint or self.usual_hint


class ConfigError(DetrecError):
    """serve.yaml, an option or an environment variable says something detrec cannot accept."""

    usual_hint = "the README describes every key of serve.yaml"


class ModelError(DetrecError):
    """A model cannot be loaded, or cannot run the requests it was given."""

    usual_hint = "check the model's files, or fetch them again"


class EngineError(DetrecError, RuntimeError):
    """The engine cannot go on, or cannot be had on this machine. A RuntimeError too, as kernels raise it."""

    usual_hint = "detrec doctor says what this machine can run"


class RankLost(EngineError):
    """Another of the engine's ranks died, gave up, left, or does not come."""

    usual_hint = "was it killed, or is the machine out of memory?"


class TraceError(DetrecError):
    """A trace cannot be read or written."""

    usual_hint = "name a trace that detrec record made"


class TraceIncomplete(TraceError):
    """The trace's recorder is still running, or died before closing it."""


class TraceCorrupt(TraceError):
    """The trace's bytes are not those that were recorded."""

    usual_hint = "detrec verify lists what is wrong; record it again"


class TraceVersion(TraceError):
    """Another detrec wrote the trace."""


class ReplayError(DetrecError):
    """The engine cannot follow the recorded schedule."""

    usual_hint = "replay with --mode tokens or --mode free, which let the scheduler decide"
