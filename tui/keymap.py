"""Every key of the explorer, once: the app, the last line and the help are made from it."""

from textual.binding import Binding

SECTIONS = {
    "go": "Go to what differs",
    "move": "Move",
    "look": "Look",
    "ask": "Ask",
    "tell": "Tell others",
    "app": "The explorer",
}
"""By the first part of a binding's id."""


def _key(
    id: str,
    key: str,
    action: str,
    name: str,
    help: str,
    *,
    display: str | None = None,
    priority: bool = False,
) -> Binding:
    return Binding(key, action, name, tooltip=help, id=id, key_display=display, priority=priority)


KEYMAP = [
    _key("go.next", "n", "next", "next", "next divergence"),
    _key("go.previous", "N", "previous", "previous", "previous divergence"),
    _key("go.first", "f", "first", "first", "first divergence"),
    _key("go.born", "b", "born", "born only", "born divergences alone, or inherited ones too"),
    _key(
        "go.find",
        "slash",
        "find",
        "find",
        "keep the lines of a pane that hold a text",
        display="/",
        priority=True,
    ),
    _key(
        "go.goto", "colon", "goto", "goto", "go to a step, request:position or op", display=":", priority=True
    ),
    _key(
        "move.down", "enter", "down", "in", "one level deeper: step, layer, op, row, element", display="enter"
    ),
    _key("move.up", "escape", "up", "up", "one level up", display="esc"),
    _key("move.step_next", "right_square_bracket", "step(1)", "step", "next step", display="]"),
    _key("move.step_previous", "left_square_bracket", "step(-1)", "step", "previous step", display="["),
    _key("move.layer_next", "right_curly_bracket", "layer(1)", "layer", "next layer", display="}"),
    _key("move.layer_previous", "left_curly_bracket", "layer(-1)", "layer", "previous layer", display="{"),
    _key("move.rank_next", "greater_than_sign", "rank(1)", "rank", "next rank", display=">"),
    _key("move.rank_previous", "less_than_sign", "rank(-1)", "rank", "previous rank", display="<"),
    _key("move.request_next", "full_stop", "request(1)", "request", "next request", display="."),
    _key("move.request_previous", "comma", "request(-1)", "request", "previous request", display=","),
    _key("look.pane", "tab", "pane(1)", "pane", "next pane", priority=True),
    _key("look.pane_back", "shift+tab", "pane(-1)", "pane", "previous pane", priority=True),
    _key("look.schedule", "s", "show('schedule')", "schedule", "schedule of both runs"),
    _key("look.manifest", "c", "show('manifest')", "manifest", "what the runs were told differently"),
    _key("look.kernels", "k", "show('kernels')", "kernels", "which kernels ran"),
    _key("look.unit", "u", "unit", "unit", "elements by ULP, difference or bits"),
    _key("ask.graft", "g", "graft", "graft", "run both ops on the other's inputs, get the tensors"),
    _key("ask.replay", "r", "replay(False)", "replay", "run the trace again up to the end of this step"),
    _key("ask.replay_all", "R", "replay(True)", "replay all", "run the whole trace again"),
    _key("tell.copy", "y", "copy", "copy", "copy the command that reproduces this"),
    _key("tell.export", "e", "export", "export", "write json, markdown, svg or html", priority=True),
    _key("app.help", "question_mark", "help", "help", "every key", display="?"),
    _key("app.palette", "ctrl+p", "command_palette", "commands", "every command by name", priority=True),
    _key("app.quit", "q", "quit", "quit", "leave"),
]
"""`id` is section and name, `description` one word for the last line, `tooltip` a line for the help."""

_FIRST = (
    "app.help", "go.next", "go.first", "move.down", "move.up", "look.pane", "go.find", "app.quit",
    "ask.graft", "ask.replay", "tell.copy", "tell.export", "go.goto", "go.born", "look.schedule",
    "look.manifest", "look.kernels", "look.unit",
)  # fmt: skip


def first_keys() -> list[Binding]:
    """Those that the last line shows, the most wanted first."""
    by_id = {binding.id: binding for binding in KEYMAP}
    return [by_id[id] for id in _FIRST]


def shown_key(binding: Binding) -> str:
    """A key as it is written on a keyboard."""
    return binding.key_display or binding.key
