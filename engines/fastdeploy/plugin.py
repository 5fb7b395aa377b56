"""A FastDeploy model runner that tells a Probe what it runs, and runs recorded tasks again.

FastDeploy loads it by its entry point for model runners; `recording` makes it, as a subclass of FastDeploy's
own runner that adds no computation. Signatures moved between versions: arguments are passed on as they come.

Tried: on the CPU, as a subclass of a small runner of the same surface, and of FastDeploy's own GPUModelRunner
(develop of 15 April 2026) behind its own scheduler, with its compiled ops replaced. Not tried: on a GPU.
"""

from collections.abc import Callable
from typing import Any

from detrec.engines.fastdeploy.journal import Journal
from detrec.engines.fastdeploy.worker import Worker


def recording(base: type, journal_of: Callable[[int], Journal]) -> type:
    """A subclass of the model runner class `base` that tells the Journal that `journal_of(rank)` gives."""

    class RecordingRunner(base):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._detrec = Worker(self, journal_of(int(self.rank)))

        def load_model(self, *args: Any, **kwargs: Any) -> Any:
            loaded = super().load_model(*args, **kwargs)
            self._detrec.attach(self.model)
            return loaded

        def insert_tasks_v1(self, req_dicts: Any, num_running_requests: Any = None, **kwargs: Any) -> Any:
            self._detrec.inserted(req_dicts, num_running_requests)
            return super().insert_tasks_v1(req_dicts, num_running_requests, **kwargs)

        def execute_model(self, *args: Any, **kwargs: Any) -> Any:
            self._detrec.rerun()
            done = super().execute_model(*args, **kwargs)
            self._detrec.executed()
            return done

        def _execute(self, model_inputs: Any, *args: Any, **kwargs: Any) -> Any:
            with self._detrec.forward(model_inputs):
                return super()._execute(model_inputs, *args, **kwargs)

        def _postprocess(self, *args: Any, **kwargs: Any) -> Any:
            self._detrec.before_sampling()
            done = super()._postprocess(*args, **kwargs)
            self._detrec.after_sampling()
            return done

    RecordingRunner.__name__ = RecordingRunner.__qualname__ = f"Recording{base.__name__}"
    return RecordingRunner
