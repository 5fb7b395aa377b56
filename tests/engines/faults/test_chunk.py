"""unaligned_chunk: one boundary moves past its multiple, and attention partitions KV there."""

import pytest

from tests.engines.faults.broken import assert_seen, broken
from tests.engines.small import prompt, request

REQUESTS = [
    request("a", prompt(1, 60), max_tokens=4),
    request("b", prompt(2, 40), 1, max_tokens=4),
    request("c", prompt(3, 9), 2, max_tokens=4),
]
ENGINE = {"max_num_batched_tokens": 32, "split_kv_size": 16}
CUT = "cut at the chunk"


def boundaries(steps) -> list[tuple[int, str, int]]:
    """(step, request, stop) of every chunk that ends before its prompt does."""
    return [
        (step.index, part.request, part.stop) for step in steps for part in step.slices if not part.samples
    ]


@pytest.mark.parametrize(
    ("follow", "step", "by", "cut"),
    [
        pytest.param(True, 0, 5, (0, "a", 37), id="a recorded plan"),
        pytest.param(True, 1, 3, (2, "b", 19), id="a later step of it"),
        pytest.param(False, 0, 5, (0, "a", 37), id="the scheduler's own rule"),
        pytest.param(False, 3, 1, (3, "b", 33), id="a later step of its own"),
    ],
)
def test_one_boundary_moves_and_attention_shows_it_in_the_next_chunk(follow, step, by, cut):
    run = broken(f"unaligned_chunk:step={step},by={by}", REQUESTS, follow=follow, **ENGINE)
    right, wrong = boundaries(run.right.steps), boundaries(run.wrong.steps)
    assert all(stop % 16 == 0 for _, _, stop in right)
    assert [each for each in wrong if each[2] % 16] == [cut]
    first = assert_seen(run, "unaligned_chunk")
    # the row at the cut sees KV on both sides of it
    assert (first.request, first.position, first.name) == (cut[1], cut[2], "0.attn")
    assert first.step > cut[0]
    cuts = {at for at, kernel in run.kernels("0.attn") if kernel.endswith(CUT)}
    assert cuts == {first.step}


@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize(
    ("parameters", "engine"),
    [
        pytest.param("", {"enable_chunked_prefill": False}, id="prompts that are never cut"),
        pytest.param(":step=99", {}, id="a step that never comes"),
        pytest.param(":by=60", {}, id="further than any prompt goes on"),
    ],
)
def test_without_a_boundary_to_move_nothing_changes_and_that_is_told(follow, parameters, engine):
    run = broken(f"unaligned_chunk{parameters}", REQUESTS, follow=follow, **{**ENGINE, **engine})
    assert run.notices == ["fault unaligned_chunk: changed no bit in this run"]
    assert run.first() is None
    assert run.wrong.steps == run.right.steps
