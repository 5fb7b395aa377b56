"""A rule: what has to be measured, when it holds, and what it then says."""

from collections.abc import Callable
from dataclasses import dataclass

from detrec.replayer.findings import Findings


@dataclass(frozen=True, slots=True)
class Rule:
    """`holds` looks at the place of the divergence and at the findings in `rests_on`.

    `rests_on` names fields of Findings that must have been measured: of a field that lists differences, one
    must be there. Whatever else `holds` looks at can only keep it from holding. `says` makes the summary.
    """

    name: str
    cause: str
    rests_on: tuple[str, ...]
    holds: Callable[[Findings], bool]
    says: Callable[[Findings], str]

    def __call__(self, findings: Findings) -> bool:
        """Was all that it rests on measured, and does it hold?"""
        return all(getattr(findings, name) not in (None, ()) for name in self.rests_on) and self.holds(
            findings
        )
