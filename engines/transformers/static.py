"""Plain `generate` over batches that are padded on the left, a forward pass at a time.

`generate` decides when it goes on; so it runs in a thread of its own that stops before each forward pass and
before each choice of tokens until it is told to go on. Only one of the two threads ever runs.
"""

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from detrec.engines.base import Step
from detrec.engines.builtin.state import RequestState
from detrec.engines.hooks import Layout
from detrec.engines.transformers import library
from detrec.engines.transformers.batches import Batch
from detrec.errors import EngineError

_PAD = 0


class _Stopped(Exception):
    """Nobody asks for another step."""


class StaticBatches:
    """Batches of at most `size` requests in the order of their admission, each run until all have ended."""

    # what a plan is checked against: nothing here can be made to follow one
    detrec_step: Step | None = None
    stream = 0
    """The handle of the CUDA stream that the model runs in: torch's default, in whatever thread."""

    def __init__(self, model: Any, states: Mapping[str, RequestState], size: int) -> None:
        self.scheduler = self
        self._model, self._states, self.size = model, states, size
        self._waiting: list[tuple[str, int, Sequence[int]]] = []
        self._group: list[tuple[str, int, Sequence[int]]] = []
        self._ended: set[str] = set()
        self._thread: threading.Thread | None = None
        self._said: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._answers: queue.Queue[Any] = queue.Queue()
        self._drawn: list[int] = []
        self._index = 0

    def admit(self, request: str, limit: int, eos: Sequence[int]) -> None:
        """From the next batch on `request` may run, for at most `limit` tokens or until one of `eos`."""
        self._waiting.append((request, limit, eos))

    def prepare(self) -> Batch | None:
        """What runs next; None where nothing is left to run."""
        while True:
            if self._thread is None:
                if not self._waiting:
                    return None
                self._begin()
            what, about = self._said.get()
            if what == "forward":
                return self._batch(**about)
            self._join(about)

    def compute(self) -> None:
        """Run the batch that was prepared."""
        self._answers.put("go")
        what, about = self._said.get()
        if what == "ended":
            self._join(about or EngineError(f"step {self._index - 1}: generate ended before it drew a token"))
        self._drawn = about

    def settle(self, step: Step, take: Callable[[str, int], int]) -> dict[str, tuple[int, int]]:
        """By request of `step`, the token drawn and the one it goes on with, which `take` says."""
        drawn = {name: token for (name, *_), token in zip(self._group, self._drawn, strict=True)}
        taken = {part.request: (drawn[part.request], 0) for part in step.slices}
        taken = {name: (token, take(name, token)) for name, (token, _) in taken.items()}
        for name, limit, eos in self._group:
            if name in taken and (taken[name][1] in eos or self._states[name].generated + 1 >= limit):
                self._ended.add(name)
        for part in step.slices:
            self._states[part.request].computed = part.stop
        self._answers.put([taken[name][1] if name in taken else _PAD for name, *_ in self._group])
        return taken

    def running(self, request: str) -> bool:
        """Whether `request` has not ended."""
        return request not in self._ended

    def stop(self) -> None:
        """Let a `generate` that has not ended do so now."""
        if self._thread is not None:
            self._answers.put(None)
            self._thread.join()
            self._thread = None

    def _begin(self) -> None:
        self._group, self._waiting = self._waiting[: self.size], self._waiting[self.size :]
        self._thread = threading.Thread(target=self._generate, name="generate", daemon=True)
        self._thread.start()

    def _join(self, error: BaseException | None) -> None:
        assert self._thread is not None
        self._thread.join()
        self._thread = None
        if error is not None:
            raise error
        left = [name for name, *_ in self._group if name not in self._ended]
        if left:
            raise EngineError(
                f"step {self._index}: generate ended while request {left[0]} goes on",
                hint=f"detrec's adapter was tried with transformers {library.TRIED}",
            )

    def _batch(self, tokens: Any, positions: Any) -> Batch:
        """The rows of a forward pass: those of requests that have not ended, without padding."""
        columns = tokens.shape[1]
        slices, samples = [], []
        rows: list[int] = []
        for line, (name, *_) in enumerate(self._group):
            state = self._states[name]
            if name in self._ended:
                continue
            part = state.cut(len(state.tokens) - state.computed, -1)
            slices.append(part)
            samples.append(line)
            # padding is on the left: a line ends with the request's newest token
            end = (line + 1) * columns
            rows += range(end - (part.stop - part.start), end)
        step = Step(self._index, tuple(slices))
        self._index += 1
        known = [t for part in slices for t in self._states[part.request].tokens[part.start : part.stop]]
        places = [position for part in slices for position in range(part.start, part.stop)]
        for name, found, expected in (("input_ids", tokens, known), ("position_ids", positions, places)):
            if found is None or found.expand(len(self._group), -1).reshape(-1)[rows].tolist() != expected:
                raise EngineError(
                    f"step {step.index}: generate's {name} are not those of the requests' slices",
                    hint=f"detrec's adapter was tried with transformers {library.TRIED}",
                )
        layout = Layout(len(self._group) * columns, np.array(rows), len(self._group), np.array(samples))
        return Batch(step, known, layout)

    def _ask(self, what: str, about: Any) -> Any:
        """Tell the other thread, and wait for its answer."""
        self._said.put((what, about))
        answer = self._answers.get()
        if answer is None:
            raise _Stopped
        return answer

    def _generate(self) -> None:
        """The other thread."""
        torch, transformers = library.module("torch"), library.module("transformers")
        prompts = [self._states[name].request.prompt for name, *_ in self._group]
        longest = max(map(len, prompts))
        ids = torch.full((len(prompts), longest), _PAD)
        mask = torch.zeros_like(ids)
        for line, prompt in enumerate(prompts):
            ids[line, longest - len(prompt) :] = torch.tensor(prompt)
            mask[line, longest - len(prompt) :] = 1

        def enter(module: Any, args: Any, kwargs: Any) -> None:
            about = {"tokens": kwargs.get("input_ids"), "positions": kwargs.get("position_ids")}
            self._ask("forward", about)

        def decide(_: Any, scores: Any) -> Any:
            taken = self._ask("computed", scores.argmax(-1).tolist())
            forced = torch.full_like(scores, float("-inf"))
            forced[torch.arange(len(taken)), torch.tensor(taken, device=scores.device)] = 0.0
            return forced

        def over(_: Any, scores: Any, **kwargs: Any) -> Any:
            return torch.tensor([name in self._ended for name, *_ in self._group], device=self._model.device)

        hook = self._model.register_forward_pre_hook(enter, with_kwargs=True)
        try:
            self._model.generate(
                ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                do_sample=False,
                max_new_tokens=max(limit for _, limit, _ in self._group),
                pad_token_id=_PAD,
                eos_token_id=None,
                logits_processor=transformers.LogitsProcessorList([decide]),
                stopping_criteria=transformers.StoppingCriteriaList([over]),
            )
            self._said.put(("ended", None))
        except _Stopped:
            pass
        except BaseException as error:
            self._said.put(("ended", error))
        finally:
            hook.remove()
