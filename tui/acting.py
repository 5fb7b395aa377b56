"""The part of the explorer that acts: replays, grafts, copies, writes files."""

from detrec.tui.moving import Moving


class Acting(Moving):
    """Actions whose end is outside."""

    def action_graft(self) -> None:
        """g."""
        self.say("not yet")

    def action_replay(self) -> None:
        """r."""
        self.say("not yet")

    def action_copy(self) -> None:
        """y."""
        self.say("not yet")

    def action_export(self) -> None:
        """e."""
        self.say("not yet")
