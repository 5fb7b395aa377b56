"""A transformers model with the checkpoint's weights, which is made without any others first."""

from contextlib import nullcontext

import pytest

from detrec.engines.builtin.weights import open_checkpoint
from detrec.engines.transformers import model as building
from tests.engines.transformers.tiny import REASON

torch = pytest.importorskip("torch", reason=REASON)
pytest.importorskip("transformers", reason=REASON)


def built(name, dtype="float32"):
    return building.build(open_checkpoint(f"builtin:{name}"), dtype, "cpu", "sdpa")


@pytest.mark.parametrize("name", ["qwen2-tiny", "qwen3-tiny", "llama-tiny"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nothing_of_what_memory_held_is_left(name, dtype, monkeypatch):
    """Each parameter is the checkpoint's and each buffer what the model's own constructor gives it."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *args, **kwargs: empty(*args, **kwargs).fill_(torch.nan))
    ours = built(name, dtype)
    monkeypatch.undo()
    monkeypatch.setattr(building, "_undrawn", lambda torch: nullcontext())
    plain = built(name, dtype)
    assert ours.state_dict().keys() == plain.state_dict().keys()
    assert (ours.lm_head.weight is ours.model.embed_tokens.weight) == ours.config.tie_word_embeddings
    for found, expected in (
        (ours.named_parameters(), plain.named_parameters()),
        (ours.named_buffers(), plain.named_buffers()),
    ):
        for (name, one), (other_name, other) in zip(found, expected, strict=True):
            assert (name, one.dtype) == (other_name, other.dtype)
            assert torch.equal(one, other), name


def test_no_random_weights_are_drawn():
    """They would be thrown away, and take longer than all the rest of the start."""
    before = torch.random.get_rng_state()
    built("qwen3-tiny")
    assert torch.equal(torch.random.get_rng_state(), before)
