"""Tasks as plain data, and made again of another version's classes."""

import json
from types import SimpleNamespace

import pytest

from detrec.config import SamplingParams
from detrec.engines.base import Request
from detrec.engines.fastdeploy.tasks import Batch, Maker, Task, installed_kit, prepared_of, task_of
from detrec.errors import EngineError, ReplayError
from tests.engines.fastdeploy.standin import installed

TASKS = [
    pytest.param(Task("prefill", "a", 0, (4, 5), 0, 6, 8, (9, 1)), id="preempted before"),
    pytest.param(Task("prefill", "a", 2, (4,), 4, 6, 6), id="chunk"),
    pytest.param(Task("decode", "a", 1, (4, 5, 6)), id="decode"),
    pytest.param(Task("preempted", "a", 1), id="preempted"),
    pytest.param(Task("abort", "a", 1), id="abort"),
]
REQUESTS = [Request("a", (1, 2, 3, 4, 5, 6), SamplingParams())]
PREPARED = {"a": {"eos_token_ids": [1], "max_tokens": 7, "seed": 3, "temperature": 0.5}}


@pytest.fixture
def kit(tmp_path):
    with installed(tmp_path):
        yield installed_kit()


@pytest.mark.parametrize("task", TASKS)
def test_a_task_survives_json(task):
    assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task
    batch = Batch((task, task), 3)
    assert Batch.from_json(json.loads(json.dumps(batch.to_json()))) == batch


@pytest.mark.parametrize("task", TASKS)
def test_a_task_made_again_reads_the_same(kit, task):
    assert task_of(Maker(kit, REQUESTS, PREPARED).make(task)) == task


def test_what_moves_bits_beside_tokens_is_made_again(kit):
    made = Maker(kit, REQUESTS, PREPARED).make(Task("prefill", "a", 0, (4,), 0, 6, 6))
    kept = prepared_of(made)
    assert {name: kept[name] for name in PREPARED["a"]} == PREPARED["a"]
    again = Maker(kit, REQUESTS, {"a": json.loads(json.dumps(kept))}).make(Task("prefill", "a", 0))
    assert prepared_of(again) == kept


def test_stop_sequences_are_kept_and_objects_are_not():
    params = SimpleNamespace(stop_token_ids=[[5, 6], [7]], seed=1, guided_decoding=object(), bad_words=None)
    kept = prepared_of(SimpleNamespace(eos_token_ids=(2,), sampling_params=params))
    assert kept == {"eos_token_ids": [2], "stop_token_ids": [[5, 6], [7]], "seed": 1}


def test_a_kind_that_is_not_known():
    given = SimpleNamespace(task_type=SimpleNamespace(name="SWAP"), request_id="a")
    with pytest.raises(EngineError, match="a task of the type SWAP, detrec knows abort, decode"):
        task_of(given)


@pytest.mark.parametrize("task", [Task("extend", "a", 0), Task("prefill", "b", 0)])
def test_a_task_that_cannot_be_made_again(kit, task):
    with pytest.raises(ReplayError, match="cannot be replayed"):
        Maker(kit, REQUESTS, PREPARED).make(task)
