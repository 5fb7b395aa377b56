"""Tokens that differ: what follows them is inherited, and what was given differently is not."""

from detrec.replayer.compare import compare
from tests.replayer.fakes import FakeTrace, fake_trace, part
from tests.replayer.schedules import STEPS


def flipped(position: int) -> FakeTrace:
    """STEPS, with another token in r0 from `position` on."""
    return fake_trace(STEPS, token=lambda name, at: at + 1 + 100 * (name == "r0" and at >= position))


def test_all_that_follows_another_token_is_inherited_from_the_draw():
    replayed = flipped(4)
    for position, op in ((3, "sampled"), (4, "embedding"), (5, "embedding"), (5, "sampled")):
        replayed.change("r0", position, op)
    found = compare(fake_trace(STEPS), replayed)
    assert (found.first.op, found.first.position) == ("sampled", 3)
    assert (found.counts.born, found.counts.inherited) == (1, 3)
    flip = found.tokens.first_flip
    assert (flip.request, flip.position, flip.recorded, flip.replayed, flip.margin) == ("r0", 3, 5, 105, 0.25)


def test_an_input_that_was_given_differently_is_born_at_the_first_op():
    replayed = flipped(2)
    replayed.drawn.token = fake_trace(STEPS).drawn.token
    replayed.change("r0", 2, "embedding")
    found = compare(fake_trace(STEPS), replayed)
    assert (found.first.op, found.first.position, found.counts.born) == ("embedding", 2, 1)


def test_a_token_flip_is_a_divergence_where_no_fingerprint_differs():
    found = compare(fake_trace(STEPS), flipped(6))
    assert found.verdict == "diverged"
    assert found.first is None
    assert found.tokens.first_flip.position == 5


def test_rows_missing_after_another_token_are_told_apart():
    longer = [*STEPS, [part("r0", 6, 7), part("r1", 7, 8)]]
    replayed = fake_trace(longer, token=lambda name, at: at + 1 + 100 * (name == "r0" and at >= 6))
    found = compare(fake_trace(STEPS), replayed)
    assert (found.rows.missing, found.rows.after_flip) == (2, 1)
