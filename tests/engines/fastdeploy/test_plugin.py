"""The plugin in a runner of FastDeploy's surface: what it tells, what it leaves alone, how it gives up."""

import numpy as np
import pytest

from detrec.errors import EngineError
from detrec.recorder.reader import TraceReader
from tests.engines.fastdeploy.served import REQUESTS, Kept, Served
from tests.engines.fastdeploy.standin import installed


@pytest.fixture
def fake(tmp_path):
    with installed(tmp_path / "meta"):
        yield


def test_what_is_served_is_what_is_served_without_it(fake, tmp_path):
    alone = Served(None).run()
    journal = Kept(tmp_path / "run.zarr")
    assert Served(journal).run() == alone
    trace = TraceReader(tmp_path / "run.zarr")
    assert (trace.status, trace.taken_tokens()) == ("complete", alone)


def test_it_says_that_it_is_there_before_anything_runs(fake, tmp_path):
    journal = Kept(tmp_path / "run.zarr")
    Served(journal)
    ((what, manifest),) = journal.told
    assert (what, manifest["architectures"]) == ("active", ["Qwen2ForCausalLM"])


def test_runs_before_the_first_task_are_not_recorded(fake, tmp_path):
    """FastDeploy profiles and warms up with made-up rows."""
    journal = Kept(tmp_path / "run.zarr", job=None)
    served = Served(journal)
    served.runner.execute_model(None, 3)
    assert not (tmp_path / "run.zarr").exists()
    journal.requests = REQUESTS
    served.run()
    assert next(TraceReader(tmp_path / "run.zarr").steps()).slices[0].start == 0


def test_finished_requests_end_for_the_reason_that_they_had(fake, tmp_path):
    journal = Kept(tmp_path / "run.zarr")
    tokens = Served(journal).run()
    samples = TraceReader(tmp_path / "run.zarr").samples()
    ends = {REQUESTS[of].id: str(why) for of, why in zip(samples.request, samples.finish, strict=True) if why}
    assert ends == {name: "stop" if drawn[-1] == 1 else "length" for name, drawn in tokens.items()}
    assert not np.isfinite(samples.logprob).any()


def test_where_graphs_run_only_what_is_outside_them_is_recorded(fake, tmp_path, monkeypatch):
    """A replayed graph runs no hook: an op that some steps have and others have not is worse than none."""
    monkeypatch.setenv("FD_DETERMINISTIC_MODE", "1")
    journal = Kept(tmp_path / "run.zarr")
    # a split fits the budget, else deterministic mode would never begin
    Served(journal, graph_optimization_config={"use_cudagraph": True}, max_num_batched_tokens=16).run()
    assert journal.ops == ("logits", "sampled")
    assert journal.told[0][1]["holes"][0].startswith("cuda-graphs: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"enable_overlap_schedule": True}, "enable_overlap_schedule launches rows"),
        ({"speculative_config": {"method": "mtp"}}, "speculative decoding is not supported"),
    ],
)
def test_what_it_cannot_record_it_refuses_at_once_and_says_why(fake, tmp_path, arguments, said):
    journal = Kept(tmp_path / "run.zarr")
    with pytest.raises(EngineError, match=said):
        Served(journal, **arguments)
    ((what, reason),) = journal.told
    assert what == "refused"
    assert reason.startswith(said)


@pytest.mark.parametrize("op", ["0.attn", "logits", "sampled"])
def test_a_recording_that_breaks_ends_and_serving_goes_on(fake, tmp_path, op):
    alone = Served(None).run()
    journal = Kept(tmp_path / "run.zarr", broken_op=op)
    assert Served(journal).run() == alone
    assert journal.told[1:] == [("closed", "RuntimeError: the probe broke")]
    assert TraceReader(tmp_path / "run.zarr").status == "failed"


def test_a_slot_that_is_not_where_its_tasks_said_is_an_error(fake, tmp_path, monkeypatch):
    """The slots' own positions come with every step, and are held against the account of the tasks."""
    journal = Kept(tmp_path / "run.zarr")
    served = Served(journal)
    insert = served.runner.insert_tasks_v1

    def shifted(tasks, slots):
        insert(tasks, slots)
        served.runner.slots["seq_lens_decoder"][0] += 1

    monkeypatch.setattr(served.runner, "insert_tasks_v1", shifted)
    served.run(REQUESTS[:1])
    ((what, error),) = journal.told[1:]
    assert (what, error) == (
        "closed",
        "step 0: request a: FastDeploy runs from position 1, its tasks said 0",
    )


def test_a_request_that_nobody_announced_ends_the_recording(fake, tmp_path):
    journal = Kept(tmp_path / "run.zarr", job=REQUESTS[:1])
    served = Served(journal)
    assert set(served.run()) == {"a", "b"}
    assert journal.told[1:] == [("closed", "FastDeploy runs request b, which was not asked for")]


def test_seeds_are_read_where_they_are_used(fake, tmp_path):
    """All slots' seeds move at every step, by four: a request's own token count does not give them."""
    journal = Kept(tmp_path / "run.zarr")
    served, used = Served(journal), []
    draw = served.runner.sampler.forward

    def drawing(logits, metadata, idxs):
        used.append(metadata.seed.numpy()[:, 0].tolist())
        return draw(logits, metadata, idxs)

    served.runner.sampler.forward = drawing
    served.run()
    samples = TraceReader(tmp_path / "run.zarr").samples()
    slots = {"a": 0, "b": 1}
    expected = [
        used[step][slots[REQUESTS[of].id]] for step, of in zip(samples.step, samples.request, strict=True)
    ]
    assert samples.seed.tolist() == expected
    # b came a step after a, and began with its bare seed
    assert expected[samples.request.tolist().index(1)] == 7


def test_a_slot_that_waits_for_a_block_has_not_finished(fake, tmp_path):
    """FastDeploy stops it too, and starts it again once it has been given one."""
    journal = Kept(tmp_path / "run.zarr", job=REQUESTS[:1])
    served, waits = Served(journal), []
    settle = served.runner._settle

    def settling(slot, *step):
        settle(slot, *step)
        waits.append(bool(served.runner.slots["is_block_step"][slot]))

    served.runner._settle = settling
    served.run(REQUESTS[:1])
    trace = TraceReader(tmp_path / "run.zarr")
    assert any(waits)
    assert trace.status == "complete"
    assert [len(trace.finished(step.index)) for step in trace.steps()] == [*[0] * (trace.n_steps - 1), 1]
