"""Two runs that were not asked the same: another prompt, other sampling parameters."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from detrec.config import SamplingParams
from detrec.engines.base import Request
from detrec.engines.builtin.batch import Draws, Penalties
from detrec.engines.faults.base import Fault, FaultyOp
from detrec.engines.ops import Ops
from detrec.errors import ConfigError
from detrec.printable import counted

# the generation_config.json of a Qwen2.5 model
GENERATION_CONFIG: dict[str, Any] = {
    "repetition_penalty": 1.05,
    "temperature": 0.7,
    "top_k": 20,
    "top_p": 0.8,
}


class _OtherRequest(Fault):
    cause = "input"

    def __init__(self, notify: Callable[[str], None], *, step: int = 0, request: str = "") -> None:
        super().__init__(notify, step=step)
        self.request = request

    def chosen(self, requests: Sequence[Request]) -> list[Request]:
        """The request of that name; with no name, those that arrive at the step or later."""
        if self.request:
            return [request for request in requests if request.id == self.request]
        return [request for request in requests if request.arrival >= self.from_step]


class ChangedPrompt(_OtherRequest):
    """One token of one prompt is another."""

    name = "changed_prompt"
    summary = (
        "token `back` before the last of a prompt is another; `request`, or the first to arrive at `step`"
    )
    source = "a prompt that was tokenised again"
    expects = "the prompts differ at that position"

    def __init__(
        self, notify: Callable[[str], None], *, step: int = 0, request: str = "", back: int = 0
    ) -> None:
        super().__init__(notify, step=step, request=request)
        self.back = back
        self._place = ("", -1)
        self._token = -1

    def requests(self, requests: Sequence[Request]) -> Sequence[Request]:
        """All of them, one with another token in its prompt."""
        for request in self.chosen(requests)[:1]:
            position = len(request.prompt) - 1 - self.back
            if position < 0:
                raise ConfigError(
                    f"--fault changed_prompt: back {self.back}: the prompt of {request.id} has "
                    f"{counted(len(request.prompt), 'token')}"
                )
            self._place, self._token = (request.id, position), request.prompt[position]
            prompt = list(request.prompt)
            prompt[position] = self._token - 1 if self._token else 1
            changed = replace(request, prompt=tuple(prompt))
            return [changed if each is request else each for each in requests]
        return requests

    def equip(self, ops: Ops) -> Ops:
        """See where the token goes in."""

        def see(name: str, embedded: np.ndarray, tokens: np.ndarray, table: Any) -> None:
            rows = self.rows()
            if self.sighting is None and self._place in rows and len(rows) == len(tokens):
                asked = tokens.copy()
                asked[rows.index(self._place)] = self._token
                self.compare(name, ops.embedding(name, asked, table), embedded, rows)

        return replace(ops, embedding=FaultyOp(ops.embedding, see))


class SamplingDefaults(_OtherRequest):
    """What a request leaves open is filled in from the model's generation_config.json."""

    name = "sampling_defaults"
    summary = (
        "`key` of `request`, or of all that arrive from `step` on, is the model's own where none was given"
    )
    source = "dgx-spark #6"
    expects = "the effective sampling parameters differ"

    def __init__(
        self,
        notify: Callable[[str], None],
        *,
        step: int = 0,
        request: str = "",
        key: str = "repetition_penalty",
    ) -> None:
        super().__init__(notify, step=step, request=request)
        if key not in GENERATION_CONFIG:
            raise ConfigError(
                f"--fault sampling_defaults: key: no {key!r} in a generation_config.json",
                hint=f"keys: {', '.join(GENERATION_CONFIG)}",
            )
        self.key = key
        self._asked: set[str] = set()
        (self._default,) = (field.default for field in fields(SamplingParams) if field.name == key)

    def requests(self, requests: Sequence[Request]) -> Sequence[Request]:
        """All of them, with the model's own value where they have detrec's."""
        self._asked = {r.id for r in self.chosen(requests) if getattr(r.sampling, self.key) == self._default}
        other = {self.key: GENERATION_CONFIG[self.key]}
        return [
            replace(r, sampling=replace(r.sampling, **other)) if r.id in self._asked else r for r in requests
        ]

    def equip(self, ops: Ops) -> Ops:
        """See what the other value does."""
        entry = {"repetition_penalty": "repetition"}.get(self.key, self.key)
        field = "penalise" if entry == "repetition" else "sample"
        op = getattr(ops, field)

        def see(name: str, given: np.ndarray, x: np.ndarray, by: Penalties | Draws) -> None:
            rows = self.sample_rows()
            if self.sighting is None and len(rows) == len(x):
                asked = getattr(by, entry).copy()
                asked[[request in self._asked for request, _ in rows]] = self._default
                self.compare(name, op(name, x, replace(by, **{entry: asked})), given, rows)

        return replace(ops, **{field: FaultyOp(op, see)})
