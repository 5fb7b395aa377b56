"""The requests of serve.yaml: given inline, or in a .jsonl file with one object a line."""

from pathlib import Path
from typing import Any

from detrec.config_settings import RequestConfig, SamplingParams
from detrec.config_text import from_json, text_of
from detrec.errors import ConfigError
from detrec.schema import build, kind_of, section


def requests_of(data: Any, base: Path, where: str) -> tuple[RequestConfig, ...]:
    """The checked requests; a file is relative to `base`. Raises ConfigError."""
    if isinstance(data, str):
        path = base / data
        where = str(path)
        # no other line end than this: JSON may hold what Python takes for one
        lines = text_of(path, hint="requests: takes a list or a .jsonl file").split("\n")
        data, places = [], []
        for number, line in enumerate(lines, start=1):
            if line.strip():
                data.append(from_json(line, f"{path}:{number}"))
                places.append(f"{path}:{number}")
    elif isinstance(data, list | tuple):
        places = [f"{where}: requests[{index}]" for index in range(len(data))]
    else:
        raise ConfigError(f"{where}: requests: expected a list or a .jsonl file, got {kind_of(data)}")
    requests = tuple(
        _request(entry, place, index) for index, (entry, place) in enumerate(zip(data, places, strict=True))
    )
    seen: set[str] = set()
    for request in requests:
        if request.id in seen:
            raise ConfigError(
                f"{where}: request id {request.id!r} is used twice",
                hint="ids tell requests apart in the trace",
            )
        seen.add(request.id)
    return requests


def _request(data: Any, where: str, index: int) -> RequestConfig:
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected a mapping, got {kind_of(data)}")
    entry = {"id": f"r{index}", **data}
    entry["sampling"] = build(SamplingParams, section(entry, "sampling", where), f"{where}: sampling")
    request: RequestConfig = build(RequestConfig, entry, where)
    if not request.id:
        raise ConfigError(f"{where}: id is empty", hint="leave it out, or name the request")
    given = [
        name for name in ("prompt", "messages", "prompt_token_ids") if getattr(request, name) is not None
    ]
    if len(given) != 1:
        raise ConfigError(
            f"{where}: expected one of prompt, messages and prompt_token_ids, got {given or 'none'}"
        )
    if not getattr(request, given[0]):
        raise ConfigError(f"{where}: {given[0]} is empty", hint="a request needs at least one token")
    return request
