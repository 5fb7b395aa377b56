"""The last line of a run of the tests says which failed: of a long log, its end is what is looked at."""

from collections.abc import Generator, Sequence

import pytest

ROOM = 200
"""Letters of that line, which must be seen whole where little more of a log is shown."""


def last_line(failed: Sequence[str]) -> str:
    """The node ids of what `failed`, as many as there is room for and one at least, and how many more."""
    names = list(dict.fromkeys(name.removeprefix("tests/") for name in failed))
    line, shown = f"failed: {names[0][:ROOM]}", 1
    while shown < len(names) and len(line) + len(names[shown]) + 2 <= ROOM:
        line, shown = f"{line}, {names[shown]}", shown + 1
    return f"{line}, and {len(names) - shown} more" if shown < len(names) else line


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """After all that pytest has to say."""
    yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    # a worker of pytest-xdist has none
    if reporter is None:
        return
    failed = [report.nodeid for kind in ("failed", "error") for report in reporter.stats.get(kind, ())]
    if failed:
        reporter.write_line(last_line(failed))
