"""A story on its way into a file, in the form that the file's ending asks for."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from detrec.errors import ConfigError
from detrec.recorder.digests import require_outside
from detrec.replayer.survey.cell import Cell
from detrec.replayer.survey.survey import Progress, Survey
from detrec.story.facts import facts
from detrec.story.html import to_html, to_svg
from detrec.story.markdown import to_markdown

FORMS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    ".html": to_html,
    ".md": to_markdown,
    ".svg": to_svg,
    ".json": lambda found: json.dumps(found, indent=2, allow_nan=False) + "\n",
}


def check_free(path: str | Path, *, overwrite: bool = False) -> None:
    """Raise ConfigError unless a story can be written to `path`: a known ending, and nothing there
    to lose. TraceError in a trace, which a file more would make corrupt.
    """
    file = Path(path)
    if file.suffix.lower() not in FORMS:
        raise ConfigError(
            f"{path}: expected a name that ends in {', '.join(FORMS)}", hint="such as report.html"
        )
    require_outside(path)
    if os.path.isdir(path):
        raise ConfigError(f"{path}: is a folder", hint="name a file in it")
    if not os.path.isdir(file.parent):
        raise ConfigError(f"{path}: {file.parent} is not a folder", hint="create it first")
    try:
        there = bool(os.lstat(path))
    except FileNotFoundError:
        there = False
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: cannot be a file's name: {what}", hint="name another file") from None
    if there and not overwrite:
        raise ConfigError(f"{path}: exists already", hint="--overwrite replaces it, -o names another file")


def write(
    survey: Survey,
    path: str | Path,
    *,
    cell: Cell | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the story of `survey`, about `cell` if one is given; the facts that were written.

    ConfigError where the file cannot be written; one that was there is whole until the new one is.
    """
    check_free(path, overwrite=overwrite)
    found = facts(survey, cell=cell, progress=progress)
    _replace(Path(path), FORMS[Path(path).suffix.lower()](found))
    return found


def _replace(path: Path, text: str) -> None:
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}-", delete=False
        ) as file:
            try:
                # surrogates of a path that is no text would stop the writing half way
                file.write(text.encode("utf-8", "backslashreplace").decode())
                file.close()
                os.chmod(file.name, 0o666 & ~_umask())
                os.replace(file.name, path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written: {error.strerror or error}", hint="name another file"
        ) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
