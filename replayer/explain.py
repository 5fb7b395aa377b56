"""From two traces that diverge to a cause: measure, then classify. Where that fails, the verdict stands."""

from dataclasses import replace

from detrec.errors import DetrecError
from detrec.recorder.reader import TraceReader
from detrec.replayer.classify import classify
from detrec.replayer.comparison import Comparison
from detrec.replayer.diagnose import Made, find, inspect
from detrec.replayer.diagnosis import Diagnosis
from detrec.replayer.stale import stale_row
from detrec.replayer.trace import engines_of


def explain_traces(recorded: TraceReader, replayed: TraceReader, comparison: Comparison) -> Diagnosis | None:
    """What two traces tell by themselves, nothing being run; None where no fingerprint differs."""
    if comparison.first is None:
        return None
    own = engines_of(recorded, replayed) == {"builtin"}
    return classify(inspect(recorded, replayed, comparison), can_run_again=own)


def explain_replay(
    recorded: TraceReader, replayed: TraceReader, comparison: Comparison, made: Made
) -> Diagnosis | None:
    """Why a replay diverged, by running both sides again; None where no fingerprint differs.

    None too, and `made.notify` told why, where it cannot be looked into.
    """
    if comparison.first is None:
        return None
    try:
        found = find(recorded, replayed, comparison, made)
    except DetrecError as error:
        made.notify(f"not diagnosed: {error}")
        return None
    return classify(replace(found, stale=stale_row(recorded, replayed, comparison)))
