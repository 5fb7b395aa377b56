"""`--fault NAME[:key=value,...]`: what it builds, and what it refuses."""

import pytest

from detrec.engines.builtin.model import op_names
from detrec.engines.builtin.seeded import SeededCheckpoint
from detrec.engines.faults import FAULTS, arm
from detrec.errors import ConfigError

OPS = tuple(op_names(SeededCheckpoint("qwen2-tiny").config))
USUAL = "the README describes every key of serve.yaml"
MOST = (1 << 31) - 1


def armed(text: str):
    return arm(text, OPS, lambda text: None)


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_can_be_armed_by_its_name_alone(name):
    for text in (name, name + ":", f"{name}:step=12"):
        assert type(armed(text)) is FAULTS[name]
    assert armed(f"{name}:step=12").from_step == 12
    assert armed(f"{name}:step={MOST}").from_step == MOST


def test_parameters_are_taken_in_any_order_and_with_a_comma_too_many():
    fault = armed("bitflip:bit=1,op=0.act,,row=2,element=0,step=0,")
    assert (fault.from_step, fault.op, fault.row, fault.element, fault.bit) == (0, "0.act", 2, 0, 1)
    fault = armed("split_k_by_batch:splits=2,rows=1,op=logits")
    assert (fault.op, fault.max_rows, fault.splits) == ("logits", 1, 2)
    assert armed("unaligned_chunk:by=1").by == 1
    assert armed(f"seed_drift:by={MOST}").by == MOST


REFUSED = [
    pytest.param("bitflop", "unknown fault 'bitflop'", "did you mean bitflip?", id="a near name"),
    pytest.param("rope", "unknown fault 'rope'", "did you mean wrong_rope_base?", id="a part of a name"),
    pytest.param("", "unknown fault ''", f"known faults: {', '.join(FAULTS)}", id="no name"),
    pytest.param(
        "bitflip:bits=1",
        "'bits=1' is not a parameter",
        "parameters: step, op, row, element, bit",
        id="a parameter of none",
    ),
    pytest.param(
        "seed_drift:op=logits", "'op=logits' is not a parameter", "parameters: step, by", id="another's"
    ),
    pytest.param("seed_drift:by", "'by' is not a parameter", "parameters: step, by", id="no value"),
    pytest.param("seed_drift:notify=1", "'notify=1' is not a parameter", "parameters: step, by", id="inside"),
    pytest.param("seed_drift:by=x", "by: expected a whole number, got 'x'", USUAL, id="a word"),
    pytest.param("seed_drift:by=1.5", "by: expected a whole number, got '1.5'", USUAL, id="a fraction"),
    pytest.param("seed_drift:by=", "by: expected a whole number, got ''", USUAL, id="an empty value"),
    pytest.param("seed_drift:step=-1", f"step: expected 0 to {MOST}, got -1", USUAL, id="a step before all"),
    pytest.param(
        f"bitflip:row={MOST + 1}",
        f"row: expected 0 to {MOST}, got {MOST + 1}",
        USUAL,
        id="a number too large",
    ),
    pytest.param("seed_drift:by=0", f"by: expected 1 to {MOST}, got 0", USUAL, id="no drift"),
    pytest.param("unaligned_chunk:by=0", f"by: expected 1 to {MOST}, got 0", USUAL, id="aligned"),
    pytest.param("split_k_by_batch:rows=0", f"rows: expected 1 to {MOST}, got 0", USUAL, id="no rows"),
    pytest.param("split_k_by_batch:splits=1", "splits: expected 2 to 1024, got 1", USUAL, id="one leaf"),
    pytest.param("split_k_by_batch:splits=1025", "splits: expected 2 to 1024, got 1025", USUAL, id="leaves"),
    pytest.param("bitflip:op=1.atn", "no op '1.atn'", "did you mean 1.attn?", id="a near op"),
    pytest.param("bitflip:op=99.attn", "no op '99.attn'", "did you mean ", id="a layer of none"),
    pytest.param(
        "split_k_by_batch:op=1.attn",
        "cannot act on 1.attn",
        "it acts on qkv, o_partial, gate_up, down_partial, logits, of any layer",
        id="an op that is no matmul",
    ),
]


@pytest.mark.parametrize(("text", "message", "hint"), REFUSED)
def test_what_it_cannot_be_is_refused(text, message, hint):
    with pytest.raises(ConfigError) as refused:
        armed(text)
    assert str(refused.value) == f"--fault {text}: {message}"
    assert refused.value.hint.startswith(hint)


def test_split_k_acts_on_every_matmul_of_every_layer():
    kinds = FAULTS["split_k_by_batch"].acts_on
    matmuls = [op for op in OPS if op.rpartition(".")[2] in kinds]
    assert len(matmuls) == 4 * SeededCheckpoint("qwen2-tiny").config.num_layers + 1
    for op in matmuls:
        assert armed(f"split_k_by_batch:op={op}").op == op


def test_a_parameter_given_twice_is_refused():
    with pytest.raises(ConfigError, match="step is given twice"):
        arm("bitflip:step=1,step=9", OPS, print)


def test_a_fault_that_never_acted_says_so():
    told: list[str] = []
    arm("bitflip:step=999", OPS, told.append).end()
    assert told == ["fault bitflip: changed no bit in this run"]
