"""What writes the story of a survey to a file: the front door brings it, for it knows every form."""

from pathlib import Path
from typing import Any, Protocol

from detrec.replayer.survey.cell import Cell
from detrec.replayer.survey.survey import Progress, Survey


class Write(Protocol):
    """Writes to `path`, in the form that its ending asks for; DetrecError where it cannot be written."""

    def __call__(
        self,
        survey: Survey,
        path: str | Path,
        *,
        cell: Cell | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> Any:
        """`cell` is what the story is about."""
        ...
