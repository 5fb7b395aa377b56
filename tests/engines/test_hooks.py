"""Hooks on another framework's modules: which output of which call, and which of its rows are the step's."""

import numpy as np
import pytest

from detrec.engines.base import Kind, Slice, Step
from detrec.engines.hooks import Hooks, Layout, Tap, Teller
from detrec.kernels import arrays
from tests.engines.small import Told

STEP = Step(0, (Slice("a", 0, 2, Kind.PREFILL, False), Slice("b", 4, 5, Kind.DECODE, True)))
# five rows of which three are the step's; three slots of which one samples
LAYOUT = Layout(5, np.array([0, 2, 3]), 3, np.array([2]))


def layer(framework):
    """A module that gives a tuple, and runs its inner one twice."""
    if framework == "paddle":
        paddle = pytest.importorskip("paddle")
        nn, base, tensor = paddle.nn, paddle.nn.Layer, lambda values: paddle.to_tensor(values)
    else:
        torch = pytest.importorskip("torch")
        nn, base, tensor = torch.nn, torch.nn.Module, torch.from_numpy

    class Twice(base):
        def __init__(self):
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, x):
            return self.inner(x), self.inner(x * 2)

    class Model(base):
        def __init__(self):
            super().__init__()
            self.layers = nn.LayerList([Twice()]) if framework == "paddle" else nn.ModuleList([Twice()])

        def forward(self, x):
            return self.layers[0](x)

    return Model(), tensor


@pytest.fixture(params=["paddle", "torch"])
def made(request):
    return layer(request.param)


TAPS = [
    Tap("0.first", "layers.0.inner", call=0),
    Tap("0.second", "layers.0.inner", call=1),
    Tap("0.output", "layers.0", output=0),
    Tap("0.residual", "layers.0", output=1),
    Tap("0.absent", "layers.0", output=2),
]


def heard(made, times=1, *, watched=True):
    model, tensor = made
    told = []
    hooks = Hooks(model, TAPS, lambda op, output, kernel: told.append((op, arrays.to_numpy(output), kernel)))
    for _ in range(times):
        if watched:
            with hooks.watching():
                model(tensor(np.ones((2, 3), np.float32)))
        else:
            model(tensor(np.ones((2, 3), np.float32)))
    return told, hooks


def test_calls_and_outputs_are_told_apart(made):
    told, _ = heard(made)
    assert [(op, float(output[0, 0]), kernel) for op, output, kernel in told] == [
        ("0.first", 1.0, "Identity"),
        ("0.second", 2.0, "Identity"),
        ("0.output", 1.0, "Twice"),
        ("0.residual", 2.0, "Twice"),
    ]


def test_calls_are_counted_anew_in_every_step(made):
    told, _ = heard(made, times=2)
    assert [op for op, *_ in told[:4]] == [op for op, *_ in told[4:]]


def test_what_runs_outside_a_step_is_not_told(made):
    assert heard(made, watched=False)[0] == []


def test_a_model_whose_hooks_were_removed_tells_nothing(made):
    model, tensor = made
    told, hooks = heard(made)
    hooks.remove()
    with hooks.watching():
        model(tensor(np.ones((2, 3), np.float32)))
    assert len(told) == 4


def test_a_path_that_the_model_does_not_have(made):
    with pytest.raises(KeyError, match=r"layers\.1"):
        Hooks(made[0], [Tap("x", "layers.1")], lambda *told: None)


def test_rows_of_others_are_left_out_on_the_host(made):
    _, tensor = made
    probe = Told()
    teller = Teller(probe, {"0.x", "logits"})
    teller.begin(STEP, [1, 2, 3], LAYOUT)
    teller.op("0.x", tensor(np.arange(10, dtype=np.float32).reshape(5, 2)), "k")
    # leading axes count as one: a padded batch of three by one
    teller.op("logits", tensor(np.arange(12, dtype=np.float32).reshape(3, 1, 4)), "k")
    teller.op("0.unwanted", tensor(np.zeros((9, 9), np.float32)), "k")
    (first, second) = probe.ops[0]
    assert first[1].tolist() == [[0, 1], [4, 5], [6, 7]]
    assert second[1].tolist() == [[8, 9, 10, 11]]


def test_only_a_probe_that_places_rows_is_told_where_they_lie():
    placed = []

    class Placing(Told):
        def place(self, layout):
            placed.append((self.steps, layout))

    for probe in (Placing(), Told()):
        Teller(probe, {"0.x"}).begin(STEP, [1, 2, 3], LAYOUT)
    ((steps, layout),) = placed
    assert len(steps) == 1
    assert layout is LAYOUT


def test_an_output_of_other_rows_than_the_layout_says(made):
    _, tensor = made
    teller = Teller(Told(), {"0.x"})
    teller.begin(STEP, [1, 2, 3], LAYOUT)
    with pytest.raises(ValueError, match="reshape"):
        teller.op("0.x", tensor(np.zeros((4, 3), np.float32)), "k")


def test_a_host_probe_is_given_the_memory_itself_where_all_rows_are_the_steps(made):
    """No copy for what is looked at only."""
    _, tensor = made
    seen = []

    class Looking(Told):
        def op(self, name, output, rank, kernel):
            seen.append(output.ctypes.data)

    teller = Teller(Looking(), {"0.x"})
    teller.begin(STEP, [1, 2, 3], Layout(3, np.arange(3), 0, np.arange(0)))
    x = tensor(np.ones((3, 2), np.float32))
    teller.op("0.x", x, "k")
    assert seen == [x.data_ptr()]


def test_what_enters_a_module_and_several_outputs_as_one_op(made):
    model, tensor = made
    told = []
    taps = [
        Tap("0.input", "layers.0", entering=True, kernel="mine"),
        Tap("0.both", "layers.0.inner", call=1, part=1, parts=2),
        Tap("0.both", "layers.0.inner", call=0, part=0, parts=2),
    ]
    hooks = Hooks(model, taps, lambda *heard: told.append(heard))
    with hooks.watching():
        model(tensor(np.full((2, 3), 5, np.float32)))
    (both, parts, kernel), (entering, x, mine) = told
    assert (both, kernel, entering, mine) == ("0.both", "Identity", "0.input", "mine")
    assert [float(arrays.host_view(part)[0, 0]) for part in parts] == [5.0, 10.0]
    assert float(arrays.host_view(x)[0, 0]) == 5.0
    assert hooks.calls == {"layers.0": 1, "layers.0.inner": 2}


def test_parts_stand_side_by_side_on_the_host(made):
    _, tensor = made
    probe = Told()
    teller = Teller(probe, {"0.x"})
    teller.begin(STEP, [1, 2, 3], LAYOUT)
    first, second = np.arange(5, dtype=np.float32), np.arange(10, dtype=np.float32) + 10
    teller.op("0.x", [tensor(first.reshape(5, 1)), tensor(second.reshape(1, 5, 2))], "k")
    assert probe.ops[0][0][1].tolist() == [[0, 10, 11], [2, 14, 15], [3, 16, 17]]


def test_half_an_op_is_not_told_and_not_kept(made):
    model, tensor = made
    told = []
    taps = [
        Tap("0.both", "layers.0.inner", call=0, parts=2),
        Tap("0.both", "layers.0.inner", 0, 5, part=1, parts=2),
    ]
    hooks = Hooks(model, taps, lambda *heard: told.append(heard))
    for _ in range(2):
        with hooks.watching():
            model(tensor(np.ones((2, 3), np.float32)))
    assert told == []
    assert hooks._parts == {}
