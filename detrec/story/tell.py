"""`detrec report`: from two paths to a file, or to the facts alone."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detrec import report
from detrec.errors import ConfigError, TraceError
from detrec.replayer.diagnosis import Diagnosis, Evidence
from detrec.replayer.survey.survey import Progress, Survey
from detrec.story.facts import facts
from detrec.story.write import check_free, write

_CAUSE = "detrec replay RUN -o OTHER --json > cause.json writes it, of RUN and OTHER"


def tell(
    run: str,
    other: str | None,
    output: str | None,
    *,
    at: str = "",
    tensors: str | None = None,
    cause: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The facts of one run or of two, written to `output` if that is a file's name.

    `at` names the row to tell of; `tensors` is a folder that --keep-tensors filled. ConfigError for a file
    that cannot be written or a place that is not there, TraceError for a trace that cannot be read.
    """
    if output is not None:
        check_free(output, overwrite=overwrite)
    diagnosis, first = (None, None) if cause is None else _diagnosis(cause)
    survey = Survey(run, other, tensors=tensors, diagnosis=diagnosis)
    for found in survey.conditions:
        if not found.readable:
            raise TraceError(found.detail, hint=found.hint)
    cell = None
    if at and survey.runs is not None:
        try:
            cell = survey.goto(at)
        except ValueError as error:
            raise ConfigError(f"--at {at}: {error}", hint="detrec info RUN lists the requests") from None
    if tensors is not None and survey.tensors() is None:
        raise ConfigError(
            f"--tensors {survey.problem}", hint="detrec replay RUN --keep-tensors DIR fills one"
        )
    if diagnosis is not None:
        _require_same(survey, first, f"--cause {cause}", progress)
    if output is None:
        return facts(survey, cell=cell, progress=progress)
    return write(survey, output, cell=cell, overwrite=overwrite, progress=progress)


def _diagnosis(path: str) -> tuple[Diagnosis, Any]:
    """The cause in what `replay --json` printed, and the divergence it is of."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        cause, first = found["cause"], found["first"]
        evidence = tuple(Evidence(each["kind"], each["text"], each["facts"]) for each in cause["evidence"])
        return Diagnosis(cause["class"], cause["rule"], cause["summary"], evidence), first
    except OSError as error:
        raise ConfigError(f"--cause {path}: cannot be read: {error.strerror or error}", hint=_CAUSE) from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"--cause {path}: holds no cause of a divergence", hint=_CAUSE) from None


def _require_same(survey: Survey, first: Any, where: str, progress: Progress | None) -> None:
    """Refuse the cause of another divergence."""
    comparison = survey.compare(progress)
    own = (
        None if comparison is None else report.to_json(comparison, trace="", replayed="", seconds=0)["first"]
    )
    if own != first:
        raise ConfigError(f"{where}: is the cause of another divergence than that of these runs", hint=_CAUSE)


def exit_code(found: Mapping[str, Any]) -> int:
    """0 identical, or one run that could be read whole; 1 diverged, 2 could not tell."""
    if found["problem"]:
        return 2
    if found["verdict"] is not None:
        return report.EXIT_CODES[found["verdict"]]
    return 2 if any(trace["status"] == "corrupt" for trace in found["traces"]) else 0
