"""The story as one HTML file: nothing is fetched, and everything can be read without a script.

Request ids, prompts and paths are a stranger's words: the template escapes all that is not marked as ours,
and the page's own policy lets no other script run.
"""

import base64
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from detrec.printable import counted
from detrec.replayer.survey.cell import State
from detrec.story.drawing import heat_map, line_of
from detrec.story.maps import LETTERS

OPS_BEFORE, OPS_AFTER = 4, 10
FLIPS_SHOWN = 8
_WORDS = {
    "diverged": "Diverged",
    "identical": "Identical",
    "incomplete": "Could not tell",
    None: "One run",
}


def to_html(facts: Mapping[str, Any]) -> str:
    """The page."""
    style, script = (Markup(_text(name)) for name in ("report.css", "report.js"))
    context = {
        **facts,
        "style": style,
        "script": script,
        "script_digest": f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
        "first": facts.get("first"),
        "counts": facts.get("counts"),
        "manifest_diff": facts.get("manifest_diff", []),
        "schedule_diff": facts.get("schedule_diff", []),
        "two": facts["replayed"] is not None,
        "verdict_word": "Could not tell" if facts["problem"] else _WORDS[facts["verdict"]],
        "headline_rest": facts["headline"].partition(": ")[2],
        "drawings": [heat_map(each) for each in facts["maps"]],
        "states_shown": _states(facts["maps"]),
        "ops_near": _near(facts["row"]),
        "row": _marked(facts["row"]),
        "kernels_here": _kernels_here(facts),
        "flips": _flips(facts["text"]),
        "kv_lines": _kv_lines(facts),
        "manifest_text": json.dumps(facts["manifest"], indent=2),
        "json_command": shlex.join(
            ["detrec", "report", facts["trace"], *filter(None, [facts["replayed"]]), "--json"]
        ),
    }
    return _environment().get_template("report.html.j2").render(context)


def to_svg(facts: Mapping[str, Any]) -> str:
    """The heat map of the story's request, or of all steps, as a file of its own."""
    shown = facts["maps"][-1]
    drawing = heat_map(shown)
    heading = f"{facts['headline'].partition(':')[0]}: {drawing.title}"
    page = _environment().get_template("map.svg.j2")
    return page.render(map=drawing, alone=True, heading=heading, states=_states([shown])).lstrip()


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("detrec.story"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(number=_number, counted=counted, short=_short, plain=json.dumps)
    environment.globals.update(shown_token=_shown_token)
    return environment


def _text(name: str) -> str:
    return files("detrec.story").joinpath("templates", name).read_text(encoding="utf-8").strip()


def _number(value: int) -> str:
    return f"{value:,}"


def _short(value: float | None) -> str:
    """A float by the digits that tell two float32 apart."""
    return "not finite" if value is None else f"{value:.9g}"


def _shown_token(text: str, token: int | None) -> str:
    """A token's text, its line breaks visible; its id where there is no text."""
    return text.replace("\n", "⏎\n").replace("\t", "⇥") if text else f"{token} "


def _states(maps: Sequence[Mapping[str, Any]]) -> list[str]:
    """The states that any of `maps` shows, the worst first."""
    letters = {letter for each in maps for line in each["lines"] for letter in line}
    return [
        state.name.lower() for state in sorted(State, reverse=True) if state and LETTERS[state] in letters
    ]


def _marked(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The row, the op that it is told around marked as such."""
    if row is None:
        return None
    return {**row, "ops": [{**op, "is_here": index == row["at"]} for index, op in enumerate(row["ops"])]}


def _near(row: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The ops around that one."""
    marked = _marked(row)
    if marked is None:
        return []
    at = marked["at"]
    ops: list[dict[str, Any]] = marked["ops"][max(at - OPS_BEFORE, 0) : at + OPS_AFTER + 1]
    return ops


def _kernels_here(facts: Mapping[str, Any]) -> dict[str, str]:
    """The kernels of the first divergence: the row knows them if it is that one's, else they are known
    where they differ.
    """
    first, row = facts.get("first"), facts["row"]
    differing: dict[str, str] = facts.get("kernels") or {"recorded": "", "replayed": ""}
    if first is None or row is None:
        return differing
    same = (row["request"], row["position"]) == (first["request"], first["position"])
    op = next((op for op in row["ops"] if (op["layer"], op["op"]) == (first["layer"], first["op"])), None)
    if not same or op is None:
        return differing
    return {"recorded": op["recorded_kernel"], "replayed": op["replayed_kernel"]}


def _flips(text: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if text is None:
        return []
    return [token for token in text["shown"] if token["differs"] and not token["prompt"]][:FLIPS_SHOWN]


def _kv_lines(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One run's line, or both where they are not the same."""
    named = [
        {"name": name, **use}
        for name, use in zip(("recorded", "replayed"), facts["kv"], strict=False)
        if use is not None and use["held"]
    ]
    if len(named) == 2 and named[0]["held"] == named[1]["held"]:
        named = [{**named[0], "name": "both runs"}]
    for use in named:
        most = max(use["most"], use["blocks"] or 0)
        use["points"] = line_of(use["held"], most, 640, 72)
        use["limit"] = None if not use["blocks"] else round(72 - 72 * use["blocks"] / most, 2)
    return named
