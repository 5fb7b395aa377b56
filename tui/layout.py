"""Which panes are seen at which size of the screen. Pure."""

from dataclasses import dataclass

PANES = (
    ("map", "Map"), ("ops", "Ops"), ("rows", "Rows"), ("elements", "Elements"), ("cause", "Cause"),
    ("schedule", "Schedule"), ("tokens", "Tokens"), ("manifest", "Manifest"), ("kernels", "Kernels"),
)  # fmt: skip
"""In the order of the tab key: id and name."""

BESIDE = ("cause", "schedule", "tokens", "manifest", "kernels")
"""Panes that share one place on a large screen."""

WIDE, HIGH = 120, 30
"""From here on, panes stand beside each other."""


@dataclass(frozen=True, slots=True)
class Layout:
    """`split`: the map, what is under the cursor and one pane more are seen together.

    `width`: columns of the screen.
    """

    split: bool
    width: int = 80

    @classmethod
    def of(cls, width: int, height: int) -> "Layout":
        """What fits."""
        return cls(width >= WIDE and height >= HIGH, width)

    def shown(self, pane: str, beside: str) -> frozenset[str]:
        """The panes that are seen with `pane` in front; `beside` is the last of BESIDE that was."""
        if not self.split:
            return frozenset({pane})
        return frozenset({name for name, _ in PANES if name not in BESIDE} | {beside})
