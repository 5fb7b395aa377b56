"""How each state of a cell is told: by a symbol, by a colour and by its name, none of them alone."""

from dataclasses import dataclass

from detrec.replayer.survey.cell import State


@dataclass(frozen=True, slots=True)
class Look:
    """`symbol` is one character wide; `style` is the component class that colours it."""

    state: State
    symbol: str
    style: str
    meaning: str

    @property
    def word(self) -> str:
        """Its name."""
        return self.state.name.lower()


LOOKS = (
    Look(State.ABSENT, " ", "state--absent", "no cell is due here"),
    Look(State.RECORDED, "∘", "state--recorded", "recorded, and nothing to hold against it"),
    Look(State.EQUAL, "·", "state--equal", "both runs have the same bits"),
    Look(State.MISSING, "?", "state--missing", "due, and not in both runs: never equal"),
    Look(State.CORRUPT, "!", "state--corrupt", "its bytes are not those that were recorded"),
    Look(State.INHERITED, "▒", "state--inherited", "other bits, as has something it was computed from"),
    Look(State.BORN, "█", "state--born", "other bits, though all it was computed from is equal"),
)
"""By the number of the state."""

assert [look.state for look in LOOKS] == list(State)
