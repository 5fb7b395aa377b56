"""`detrec report`: from two paths to a file, or to the facts alone."""

from collections.abc import Mapping
from typing import Any

from detrec.errors import ConfigError, TraceError
from detrec.replayer.survey.survey import Progress, Survey
from detrec.story.facts import facts
from detrec.story.write import check_free, write

_EXIT_CODES = {"identical": 0, "diverged": 1, "incomplete": 2}


def tell(
    run: str,
    other: str | None,
    output: str | None,
    *,
    at: str = "",
    tensors: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The facts of one run or of two, written to `output` if that is a file's name.

    `at` names the row to tell of; `tensors` is a folder that --keep-tensors filled. ConfigError for a file
    that cannot be written or a place that is not there, TraceError for a trace that cannot be read.
    """
    if output is not None:
        check_free(output, overwrite=overwrite)
    survey = Survey(run, other, tensors=tensors)
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
    if output is None:
        return facts(survey, cell=cell, progress=progress)
    return write(survey, output, cell=cell, overwrite=overwrite, progress=progress)


def exit_code(found: Mapping[str, Any]) -> int:
    """0 identical, or one run that could be read; 1 diverged, 2 could not tell."""
    if found["problem"]:
        return 2
    return 0 if found["verdict"] is None else _EXIT_CODES[found["verdict"]]
