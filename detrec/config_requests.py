"""The requests of serve.yaml: given inline, or in a .jsonl file with one object a line."""

import json
from pathlib import Path
from typing import Any

from detrec.config_settings import RequestConfig, SamplingParams
from detrec.errors import ConfigError
from detrec.schema import build


def requests_of(data: Any, base: Path, where: str) -> tuple[RequestConfig, ...]:
    """The checked requests; a file is relative to `base`. Raises ConfigError."""
    if isinstance(data, str):
        path = base / data
        where = str(path)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{path}: cannot be read: {error}", hint="requests: takes a list or a .jsonl file"
            ) from None
        data, places = [], []
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    data.append(json.loads(line))
                except json.JSONDecodeError as error:
                    raise ConfigError(f"{path}:{number}: not JSON: {error.msg}") from None
                places.append(f"{path}:{number}")
    elif isinstance(data, list | tuple):
        places = [f"{where}: requests[{index}]" for index in range(len(data))]
    else:
        raise ConfigError(f"{where}: requests: expected a list or a .jsonl file, got {type(data).__name__}")
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
        raise ConfigError(f"{where}: expected a mapping, got {type(data).__name__}")
    entry = {"id": f"r{index}", **data}
    entry["sampling"] = build(SamplingParams, entry.get("sampling") or {}, f"{where}: sampling")
    request: RequestConfig = build(RequestConfig, entry, where)
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
