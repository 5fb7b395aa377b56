"""weight_bitflip: one bit of the weight that the engine holds, from one step on."""

from typing import Any

import numpy as np
import pytest

from detrec.errors import ConfigError
from tests.engines.faults.broken import ENGINE, assert_seen, broken, pair
from tests.engines.faults.rows import changed
from tests.engines.small import request, started, told


def stored(engine: Any, op: str) -> np.ndarray:
    """The weight of an op as [N, K] or [C], in bits."""
    layer, _, bare = op.rpartition(".")
    names = {"o_partial": "o_proj", "down_partial": "down_proj"}
    holder = engine.decoder.layers[int(layer)] if layer else engine.decoder
    weight = getattr(holder, {"logits": "lm_head"}.get(bare, names.get(bare, bare)))
    values = weight.unpacked() if hasattr(weight, "panels") else weight.copy()
    return values.reshape(-1).view(f"u{values.dtype.itemsize}")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("step", "op", "element", "bit"),
    [
        (0, "0.qkv", 128 * 200 + 77, 10),
        (3, "1.gate_up", 1000, 10),
        (2, "3.down_partial", 32767, 12),
        (4, "2.attn_norm", 5, 18),
        (1, "final_norm", 127, 18),
        (2, "logits", 128 * 511, 10),
    ],
)
def test_one_bit_of_one_element_is_turned_and_stays(dtype, step, op, element, bit):
    fault = f"weight_bitflip:step={step},op={op},element={element},bit={bit}"
    notices: list[str] = []
    right, wrong = (
        started(pair(), start=start, dtype=dtype, **ENGINE)
        for start in ({}, {"fault": fault, "notify": notices.append})
    )
    told(right)
    told(wrong)
    bits = stored(right, op) ^ stored(wrong, op)
    assert np.flatnonzero(bits).tolist() == [element]
    assert bits[element] == 1 << bit
    assert f"first bit changed at step {step}, " in notices[-1]


@pytest.mark.parametrize("seed", [1, 5, 9])
@pytest.mark.parametrize(("step", "op"), [(0, "0.qkv"), (3, "1.gate_up"), (5, "3.o_partial")])
def test_the_first_bit_is_in_its_step_and_its_op_under_the_kernels_own_name(step, op, seed):
    run = broken(f"weight_bitflip:step={step},op={op}", pair(seed), follow=True, **ENGINE)
    first = assert_seen(run, "weight_bitflip")
    assert (first.step, first.name) == (step, op)
    assert {kernel for _, kernel in run.kernels(op)} == {"cpu.matmul fma-chain k=0..K"}
    if op == "0.qkv":
        assert set(changed(run, op)) == {each.index for each in run.wrong.steps}


@pytest.mark.parametrize(
    ("model", "tied"),
    [pytest.param("qwen2-tiny", True, id="tied"), pytest.param("qwen3-tiny", False, id="not")],
)
def test_a_row_of_an_embedding_shows_where_it_is_first_read(model, tied):
    """Element 900 is of token 7, which is the last of `b`; tied logits read every row at each step."""
    run = broken(
        "weight_bitflip:step=0,op=embedding,element=900,bit=10",
        [request("a", [5] * 24, max_tokens=6), request("b", [6] * 16 + [7], 1, max_tokens=1)],
        follow=True,
        model=model,
        **ENGINE,
    )
    first = assert_seen(run, "weight_bitflip")
    assert (first.step, first.name) == ((1, "logits") if tied else (3, "embedding"))
    assert changed(run, "embedding") == {3: {("b", 16)}}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("op=1.qkv,element=32768", "element 32768: the weight of 1.qkv has 32768"),
        ("op=final_norm,element=128", "element 128: the weight of final_norm has 128"),
        ("op=1.qkv,bit=32", "bit 32: the weight of 1.qkv has 32"),
    ],
)
def test_a_bit_that_is_not_there_is_refused(parameters, message):
    with pytest.raises(ConfigError) as refused:
        broken(f"weight_bitflip:step=1,{parameters}", pair(), **ENGINE)
    assert str(refused.value) == f"--fault weight_bitflip: {message}"


def test_a_step_that_never_comes_changes_nothing_and_is_told():
    run = broken("weight_bitflip:step=99", pair(), **ENGINE)
    assert run.notices == ["fault weight_bitflip: changed no bit in this run"]
    assert run.first() is None
