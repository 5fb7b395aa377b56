"""What two runs were told differently: manifests and requests, key by key."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from detrec.engines.base import Request
from detrec.replayer.trace import Trace

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class ManifestDifference:
    """`key` is dotted. Values are JSON-ready; None also where a run does not have the key."""

    key: str
    recorded: Any
    replayed: Any


def manifest_diff(recorded: Trace, replayed: Trace) -> tuple[ManifestDifference, ...]:
    """Every difference between the manifests, the number of ranks and the requests.

    Of a prompt, its length and its first token that differs.
    """
    found = differences(recorded.manifest, replayed.manifest)
    found += differences(recorded.ranks, replayed.ranks, "ranks")
    if recorded.requests != replayed.requests:
        ours, theirs = ({request.id: request for request in run.requests} for run in (recorded, replayed))
        found += differences([*ours], [*theirs], "requests.ids")
        for name in ours.keys() & theirs.keys():
            found += _request_differences(ours[name], theirs[name])
    return tuple(sorted(found, key=lambda difference: difference.key))


def differences(recorded: Any, replayed: Any, key: str = "") -> list[ManifestDifference]:
    """Where two JSON-like values differ. Lists of one length differ by element, others as a whole."""
    if isinstance(recorded, Mapping) and isinstance(replayed, Mapping):
        found = []
        for name in sorted({*recorded, *replayed}, key=str):
            below = f"{key}.{name}" if key else str(name)
            found += differences(recorded.get(name, _ABSENT), replayed.get(name, _ABSENT), below)
        return found
    if _is_list(recorded) and _is_list(replayed) and len(recorded) == len(replayed):
        return [
            difference
            for index, (ours, theirs) in enumerate(zip(recorded, replayed, strict=True))
            for difference in differences(ours, theirs, f"{key}[{index}]")
        ]
    # True == 1 in Python, and they are two settings
    if recorded == replayed and isinstance(recorded, bool) == isinstance(replayed, bool):
        return []
    return [ManifestDifference(key, _shown(recorded), _shown(replayed))]


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _shown(value: Any) -> Any:
    return None if value is _ABSENT else value


def _request_differences(recorded: Request, replayed: Request) -> list[ManifestDifference]:
    key = f"requests.{recorded.id}"
    found = differences(recorded.arrival, replayed.arrival, f"{key}.arrival")
    found += differences(asdict(recorded.sampling), asdict(replayed.sampling), f"{key}.sampling")
    found += differences(len(recorded.prompt), len(replayed.prompt), f"{key}.prompt.length")
    for position, (ours, theirs) in enumerate(zip(recorded.prompt, replayed.prompt, strict=False)):
        if ours != theirs:
            return [*found, ManifestDifference(f"{key}.prompt[{position}]", ours, theirs)]
    return found
