"""What a text is compared with when something else may end it, change it or keep it company."""

import pytest

from tests.engines.builtin.one_text import DRAWN, LENGTH, PROMPT
from tests.engines.small import request, started, tokens


@pytest.fixture(scope="session")
def text() -> list[int]:
    """What the model says after PROMPT, by the default seed, never stopped: no two tokens are equal."""
    output = tokens(started([request("r", PROMPT, **DRAWN)]))["r"]
    assert len(set(output)) == len(output) == LENGTH
    return output
