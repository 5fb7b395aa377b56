"""bitflip: one bit of one element of one row, once; in the KV cache it stays."""

import numpy as np
import pytest

from detrec.errors import ConfigError
from tests.engines.faults.broken import Broken, assert_seen, broken
from tests.engines.small import prompt, request

REQUESTS = [
    request("a", prompt(1, 6), max_tokens=6),
    request("b", prompt(2, 4), 1, temperature=1.0, seed=3, max_tokens=6, ignore_eos=True),
]
# step 1: the second token of `a`, then the four of `b`
PLACES = {0: ("a", 6), 1: ("b", 0), 4: ("b", 3)}


def flipped(run: Broken, step: int, name: str) -> np.ndarray:
    """Which bits of an op's output the fault turned, as the words' exclusive or."""
    right, wrong = (run.output(side, step, name) for side in (run.right, run.wrong))
    word = np.uint64 if right.dtype.names else f"u{right.dtype.itemsize}"
    return (right.view(word) ^ wrong.view(word)).reshape(len(right), -1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("op", "row", "element", "bit"),
    [
        ("embedding", 0, 0, 0),
        ("0.qkv", 1, 5, 3),
        ("1.attn", 4, 3, 9),
        ("2.kv_write", 1, 40, 11),
        ("3.output", 0, 63, 15),
        ("final_norm", 4, 7, 6),
    ],
)
def test_one_bit_of_one_row_is_flipped_in_its_step(dtype, op, row, element, bit):
    fault = f"bitflip:step=1,op={op},row={row},element={element},bit={bit}"
    run = broken(fault, REQUESTS, follow=True, dtype=dtype)
    first = assert_seen(run, "bitflip")
    assert (first.step, first.request, first.position, first.name) == (1, *PLACES[row], op)
    bits = flipped(run, 1, op)
    assert np.argwhere(bits).tolist() == [[row, element]]
    assert bits[row, element] == 1 << bit
    assert [step for step, kernel in run.kernels(op) if kernel == "bit flipped"] == [1]


@pytest.mark.parametrize(("op", "bit"), [("logits", 20), ("logits_penalised", 31), ("logprobs", 0)])
def test_rows_that_draw_are_counted_by_themselves(op, bit):
    run = broken(f"bitflip:step=1,op={op},row=1,element=400,bit={bit}", REQUESTS, follow=True)
    first = assert_seen(run, "bitflip")
    assert (first.request, first.position, first.name) == ("b", 3, op)
    assert np.argwhere(flipped(run, 1, op)).tolist() == [[1, 400]]


def test_what_an_op_only_hands_on_was_right_before():
    """At one rank all_reduce gives its own input: the flip is after it, not in it."""
    run = broken("bitflip:step=1,op=0.o_proj,row=0,element=0,bit=4", REQUESTS, follow=True)
    assert not flipped(run, 1, "0.o_partial").any()
    assert np.argwhere(flipped(run, 1, "0.o_proj")).tolist() == [[0, 0]]
    assert flipped(run, 1, "0.attn_residual").any()


# the highest bit of the fraction
@pytest.mark.parametrize(("dtype", "bit"), [("float32", 22), ("bfloat16", 6)])
def test_a_flip_in_the_cache_is_read_again_by_every_later_step(dtype, bit):
    # 64 numbers of K, then V: number 6 of the first of two heads, which two query heads of 32 read
    fault = f"bitflip:step=1,op=0.kv_write,row=1,element=70,bit={bit}"
    run = broken(fault, REQUESTS, follow=True, dtype=dtype)
    assert_seen(run, "bitflip")
    for step in run.wrong.steps[2:]:
        # K and V of new tokens are right in the first layer; what reads the old ones is not
        assert not flipped(run, step.index, "0.kv_write").any()
        rows, columns = np.nonzero(flipped(run, step.index, "0.attn"))
        assert {step.slices[row].request for row in rows.tolist()} == {"b"}
        assert set(columns.tolist()) <= {6, 32 + 6}


@pytest.mark.parametrize(("element", "field"), [(0, "token"), (1, "seed"), (2, "counter"), (3, "logprob")])
def test_a_sample_is_a_record_of_words(element, field):
    run = broken(f"bitflip:step=1,op=sampled,row=1,element={element},bit=2", REQUESTS, follow=True)
    assert_seen(run, "bitflip")
    right, wrong = (run.output(side, 1, "sampled")[1] for side in (run.right, run.wrong))
    assert [name for name in right.dtype.names if right[name].tobytes() != wrong[name].tobytes()] == [field]


REFUSED = [
    ("op=1.attn,row=5", "row 5: 1.attn has 5 there in step 1"),
    ("op=logits,row=2", "row 2: logits has 2 there in step 1"),
    ("op=1.attn,element=128", "element 128: 1.attn has 128 there in step 1"),
    ("op=logits,bit=32", "bit 32: logits has 32 there in step 1"),
    ("op=sampled,element=4", "element 4: sampled has 4 there in step 1"),
    ("op=sampled,bit=64", "bit 64: sampled has 64 there in step 1"),
]


@pytest.mark.parametrize(("parameters", "message"), REFUSED)
def test_a_bit_that_is_not_there_is_refused(parameters, message):
    with pytest.raises(ConfigError) as refused:
        broken(f"bitflip:step=1,{parameters}", REQUESTS)
    assert str(refused.value) == f"--fault bitflip: {message}"


def test_a_bit_past_the_storage_is_refused():
    with pytest.raises(ConfigError, match=r"bit 16: 1\.attn has 16 there in step 1"):
        broken("bitflip:step=1,op=1.attn,bit=16", REQUESTS, dtype="bfloat16")


@pytest.mark.parametrize("bit", [12, 63])
def test_a_token_that_no_text_could_have_is_refused(bit):
    with pytest.raises(ConfigError, match=f"bit {bit} makes the token -?[0-9]+, which is not in the vocab"):
        broken(f"bitflip:step=1,op=sampled,element=0,bit={bit}", REQUESTS)


def test_an_op_that_does_not_run_in_that_step_is_not_flipped_in_another():
    run = broken("bitflip:step=0,op=logits", REQUESTS, max_num_batched_tokens=4, split_kv_size=4)
    assert not run.right.steps[0].sample_rows
    assert run.notices == ["fault bitflip: changed no bit in this run"]
    assert run.first() is None


def test_a_step_that_never_comes_changes_nothing_and_is_told():
    run = broken("bitflip:step=99", REQUESTS)
    assert run.notices == ["fault bitflip: changed no bit in this run"]
    assert run.first() is None
