"""Both sides' tensors of one op, as files that numpy reads."""

import json
import os
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detrec.errors import ConfigError
from detrec.kernels.cpu.packed import PackedWeight
from detrec.recorder.digests import require_outside
from detrec.replayer.arguments import ARGUMENTS
from detrec.replayer.capture import Moment


def check_folder(folder: str | Path) -> None:
    """Raise ConfigError unless tensors can be kept in `folder`, which need not be there yet.

    TraceError in a trace, which a file more would make corrupt.
    """
    require_outside(Path(folder) / "README.json")
    there = next(each for each in (Path(folder), *Path(folder).absolute().parents) if os.path.lexists(each))
    if not there.is_dir():
        which = "" if there == Path(folder) else f"{there} "
        raise ConfigError(f"--keep-tensors {folder}: {which}is a file", hint="name a folder")
    if not os.access(there, os.W_OK):
        raise ConfigError(
            f"--keep-tensors {folder}: {there} cannot be written to", hint="name a folder that can be made"
        )


def keep(folder: str | Path, **sides: Moment | None) -> None:
    """Save inputs and output of each side as `{side}.{name}.npy`; README.json says what they are.

    bfloat16 is its bits in uint16, a packed weight is unpacked to [N, K]. A side that is None is left out.
    ConfigError where the folder cannot be written.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        about = {side: _side(path, side, moment) for side, moment in sides.items() if moment is not None}
        (path / "README.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"--keep-tensors {folder}: cannot be written: {error.strerror or error}",
            hint="name a folder that can be made",
        ) from None


def _side(path: Path, side: str, moment: Moment) -> dict[str, Any]:
    files, scalars = {}, {}
    named = zip((name for name, _ in ARGUMENTS[moment.field]), moment.args, strict=True)
    values = [*(leaf for name, value in named for leaf in _leaves(name, value)), ("output", moment.output)]
    for name, value in values:
        if isinstance(value, np.ndarray):
            file = f"{side}.{name}.npy"
            np.save(path / file, value)
            files[file] = {"shape": list(value.shape), "dtype": str(value.dtype)}
        else:
            scalars[name] = value
    return {
        "op": moment.name,
        "kernel": moment.kernel,
        "step": moment.step.index,
        "rows": [{"request": request, "position": position} for request, position in moment.places],
        "files": files,
        "scalars": scalars,
    }


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, PackedWeight):
        yield name, value.unpacked()
    elif is_dataclass(value):
        for field in fields(value):
            yield f"{name}.{field.name}", getattr(value, field.name)
    else:
        yield name, value
