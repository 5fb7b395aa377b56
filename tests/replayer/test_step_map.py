"""Where cells differ, by step."""

import numpy as np

from detrec.replayer import step_map
from detrec.replayer.step_map import DIFFERS, MISSING, StepMap


def test_rows_of_one_step_are_one_and_later_notes_add_to_it():
    steps = StepMap(np.array([0, 0, 1, 2]), 3, ops=4, lanes=1)
    differ, missing = np.zeros((2, 2, 4, 1), bool)[..., :2, :]
    differ[1, 0], missing[0, 1] = True, True
    steps.note(np.array([0, 1]), np.array([1, 3]), differ, missing)
    steps.note(np.array([3]), np.array([1, 3]), differ[1:], missing[1:])
    steps.note(np.array([1]), np.array([1, 3]), missing[:1], differ[1:])
    assert steps.flags[:, :, 0].tolist() == [
        [0, DIFFERS | MISSING, 0, MISSING | DIFFERS],
        [0, 0, 0, 0],
        [0, DIFFERS, 0, 0],
    ]


def test_a_run_of_many_steps_is_noted_in_buckets(monkeypatch):
    monkeypatch.setattr(step_map, "MOST_BUCKETS", 4)
    steps = StepMap(np.arange(10), 10, ops=1, lanes=2)
    assert (steps.per, steps.flags.shape) == (3, (4, 1, 2))
    differ = np.zeros((2, 1, 2), bool)
    differ[1, 0, 1] = True
    steps.note(np.array([2, 9]), np.array([0]), differ, np.zeros_like(differ))
    assert steps.flags[:, 0].tolist() == [[0, 0], [0, 0], [0, 0], [0, DIFFERS]]
