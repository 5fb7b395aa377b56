"""The steps of both runs as text: a slice, an event, and of every pair what can be searched for."""

from itertools import pairwise

from detrec.engines.base import Event
from detrec.printable import printable
from detrec.recorder.schema import EVENT_KINDS
from detrec.replayer.survey.schedule import Schedule
from detrec.replayer.survey.side import Side


def slice_text(name: str, start: int, stop: int, samples: bool) -> str:
    """Positions of a request of that printable name, * where a token is drawn."""
    return f"{name}[{start}:{stop}){'*' if samples else ''}"


def event_text(event: Event) -> str:
    """What happened to a request before a step, or that it is done."""
    request = printable(event.request)
    return f"{request} done" if event.kind == "finished" else f"{request} {event.kind} {event.tokens}"


def searched(schedule: Schedule) -> list[str]:
    """Of every pair all its words, in small letters. Of all at once: a pair made by itself takes longer."""
    texts = [_steps(side) for side in schedule.sides]
    found = []
    for index, pair in enumerate(schedule.steps.tolist()):
        sides = [of[step] for of, step in zip(texts, pair, strict=False) if step >= 0]
        found.append(" ".join([*schedule.differs(index), *dict.fromkeys(sides)]).lower())
    return found


def _steps(side: Side) -> list[str]:
    """Number, slices and events of each step."""
    ids = [request.id for request in side.requests]
    names = [printable(id) for id in ids]
    columns = (side.column(f"slices/{name}").tolist() for name in ("request", "start", "stop", "samples"))
    slices = [
        slice_text(names[number], start, stop, samples)
        for number, start, stop, samples in zip(*columns, strict=True)
    ]
    words = [
        [str(step), *slices[first:last]]
        for step, (first, last) in enumerate(pairwise(side.step_slices.tolist()))
    ]
    columns = (side.column(f"events/{name}").tolist() for name in ("step", "kind", "request", "tokens"))
    for step, kind, number, tokens in zip(*columns, strict=True):
        words[step].append(event_text(Event(EVENT_KINDS[kind], ids[number], tokens)))
    return [" ".join(of) for of in words]
