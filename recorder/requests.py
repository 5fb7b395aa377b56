"""Requests as arrays, and back: one column per sampling parameter, prompts end to end.

What is not a number (ids, stop strings, stop token ids) is JSON in the group's attributes. Seed None is -1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from detrec.config import SamplingParams
from detrec.engines.base import Request
from detrec.recorder.schema import GROUPS, ArraySpec, group_metadata

_DTYPES: Mapping[Any, str] = {int: "int64", int | None: "int64", float: "float64", bool: "bool"}
_NUMBERS = {field.name: _DTYPES[field.type] for field in fields(SamplingParams) if field.type in _DTYPES}
_LISTS = tuple(field.name for field in fields(SamplingParams) if field.name not in _NUMBERS)

REQUEST_ARRAYS = {
    spec.path: spec
    for spec in (
        ArraySpec("requests/prompt", "int32", ("prompt_token",), 65536, ""),
        ArraySpec("requests/prompt_stop", "int64", ("request",), 1024, ""),
        ArraySpec("requests/arrival", "int64", ("request",), 1024, ""),
        *(ArraySpec(f"requests/{name}", dtype, ("request",), 1024, "") for name, dtype in _NUMBERS.items()),
    )
}


def requests_to_arrays(requests: Sequence[Request]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays by path, and the attributes of the group. ValueError where an id is used twice."""
    ids = [request.id for request in requests]
    if len(set(ids)) != len(ids):
        raise ValueError("a request id is used twice")
    values: dict[str, list[Any]] = {
        "prompt": [token for request in requests for token in request.prompt],
        "prompt_stop": list(np.cumsum([len(request.prompt) for request in requests])),
        "arrival": [request.arrival for request in requests],
    }
    for name in _NUMBERS:
        column = [getattr(request.sampling, name) for request in requests]
        values[name] = [-1 if value is None else value for value in column]
    arrays = {path: np.array(values[path.split("/")[1]], spec.dtype) for path, spec in REQUEST_ARRAYS.items()}
    lists = {name: [list(getattr(request.sampling, name)) for request in requests] for name in _LISTS}
    return arrays, {"ids": ids, **lists}


def requests_from_arrays(
    arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]
) -> tuple[Request, ...]:
    """The requests that `requests_to_arrays` was given."""
    column = {path.split("/")[1]: array.tolist() for path, array in arrays.items()}
    column["seed"] = [None if seed < 0 else seed for seed in column["seed"]]
    stops = column["prompt_stop"]
    requests = []
    for index, name in enumerate(attributes["ids"]):
        numbers: dict[str, Any] = {parameter: column[parameter][index] for parameter in _NUMBERS}
        lists: dict[str, Any] = {parameter: tuple(attributes[parameter][index]) for parameter in _LISTS}
        prompt = column["prompt"][stops[index - 1] if index else 0 : stops[index]]
        requests.append(
            Request(name, tuple(prompt), SamplingParams(**numbers, **lists), column["arrival"][index])
        )
    return tuple(requests)


def fixed_files(requests: Sequence[Request]) -> dict[str, bytes]:
    """Files that do not change after the start: groups and requests."""
    arrays, attributes = requests_to_arrays(requests)
    files = {
        f"{group}/zarr.json": group_metadata(attributes if group == "requests" else {}) for group in GROUPS
    }
    for path, values in arrays.items():
        spec = REQUEST_ARRAYS[path]
        files[f"{path}/zarr.json"] = spec.metadata(len(values))
        for chunk in range(spec.chunks(len(values))):
            part = values[chunk * spec.chunk : (chunk + 1) * spec.chunk]
            whole = np.zeros(spec.chunk, spec.dtype)
            whole[: len(part)] = part
            files[spec.key(chunk)] = spec.encode(whole)
    return files
