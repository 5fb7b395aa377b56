"""One forward pass of a transformers model, told to a Probe op by op.

Every op that is expected is told once a step, or the step is refused: a trace with holes would be read as a
model that computes less.
"""

import functools
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from detrec.engines.base import SAMPLE_OPS, Probe, Step
from detrec.engines.builtin.model_config import ModelConfig
from detrec.engines.hooks import Hooks, Layout, PlacingProbe, Tap, Teller
from detrec.engines.transformers import library
from detrec.engines.transformers.draws import Draws
from detrec.engines.transformers.gathering import Gathering
from detrec.engines.transformers.names import HEAD, ROPE, rope_ops, taps
from detrec.errors import EngineError
from detrec.kernels import arrays
from detrec.kernels.device import Device


class Watch:
    """Hooks on `model` that tell `probe` of the ops in `names`, and `draws` of the logits of every step.

    `kernels` names what computes "attn", "act" and "rope", which are no module's output. `device` is the GPU
    that the model is on, None on a CPU. On a GPU, `probe` must be a GraphProbe that holds on to what it is
    told until it has given the work on it to the device: torch's allocator may then have the memory, because
    whoever gets it works in the same stream. Nothing here waits for the device.
    """

    def __init__(
        self,
        model: Any,
        config: ModelConfig,
        probe: Probe | None,
        names: Collection[str],
        kernels: Mapping[str, str],
        draws: Draws,
        device: Device | None = None,
    ) -> None:
        self._draws, self._device, self._probe = draws, device, probe
        self._names = frozenset(names) if probe is not None else frozenset()
        self._teller = Teller(probe, self._names) if probe is not None else None
        self._told: Counter[str] = Counter()
        self._layer = -1
        self._step: Step | None = None
        self._layout: Layout | None = None
        wanted = [tap for tap in taps(config, kernels) if tap.op in self._names]
        rotated = [rope_ops(layer) for layer in range(config.num_layers)]
        spoken = [Tap(op, "", kernel=kernels["rope"]) for ops in rotated for op in ops if op in self._names]
        self._paths = {tap.path for tap in wanted} | {HEAD}
        self._gathering: Gathering | None = None
        self._undo: list[Callable[[], None]] = []
        try:
            if device is not None and isinstance(probe, PlacingProbe):
                self._gathering = Gathering(model, config, wanted, spoken, probe)
                self._undo.append(self._gathering.remove)
                wanted = []
            self._hooks = Hooks(model, [*wanted, Tap("logits", HEAD)], self._took)
        except KeyError as error:
            raise library.moved(f"{type(model).__name__} has no module {error}") from None
        self._undo.append(self._hooks.remove)
        if spoken:
            self._watch_rope(model, kernels["rope"])

    def remove(self) -> None:
        """Leave the model and its module as they were."""
        while self._undo:
            self._undo.pop()()

    @contextmanager
    def step(self, step: Step, tokens: Sequence[int], layout: Layout) -> Iterator[None]:
        """Inside, the model runs `step`, its rows in outputs by `layout`."""
        self._told.clear()
        self._step, self._layout = step, layout
        if self._teller:
            self._teller.begin(step, tokens, layout)
        if self._gathering:
            self._gathering.begin(layout.launched)
        try:
            with self._hooks.watching():
                yield
        finally:
            if self._gathering:
                self._gathering.end()
        self._check(step)

    def _check(self, step: Step) -> None:
        runs, told = dict(self._hooks.calls), self._told
        if self._gathering:
            tally = self._gathering.tally()
            if tally is None and runs == {HEAD: 1}:
                return
            if tally is not None:
                runs |= tally[0]
                told = told + tally[1]
        for path in sorted(self._paths):
            if (times := runs.get(path, 0)) != 1:
                raise EngineError(
                    f"step {step.index}: {path} ran {times} times, expected once",
                    hint="is the model compiled, or are its layers run more than once?",
                )
        expected = self._names - set(SAMPLE_OPS)
        wrong = sorted(name for name in expected if told[name] != 1)
        if wrong:
            raise EngineError(
                f"step {step.index}: {wrong[0]} was told {told[wrong[0]]} times, expected once; "
                f"{len(wrong)} such ops",
                hint=f"detrec's adapter was tried with transformers {library.TRIED}",
            )
        if self._gathering:
            self._gathering.right()

    def _took(self, op: str, output: Any, kernel: str) -> None:
        if self._device is not None and not self._told:
            self._expect_stream(self._device)
        self._told[op] += 1
        if op == "logits":
            self._took_logits(output, kernel)
        elif self._teller:
            self._teller.op(op, output, kernel)

    def _expect_stream(self, device: Device) -> None:
        """Work in two streams would be fingerprinted before it is done."""
        found = arrays.current_stream("torch", device.name)
        if found != device.stream.handle:
            raise EngineError(
                f"the model runs in stream {found:#x}, expected {device.stream.handle:#x}",
                hint=f"detrec's adapter was tried with transformers {library.TRIED}",
            )

    def _took_logits(self, output: Any, kernel: str) -> None:
        """Keep the rows that sample; the head runs on as many rows as there are requests, these first."""
        assert self._step is not None
        assert self._layout is not None
        if self._gathering:
            self._gathering.tell()
        flat = output.detach().reshape(-1, output.shape[-1])
        if len(flat) != self._layout.drawn:
            raise EngineError(
                f"step {self._step.index}: {HEAD} gave {len(flat)} rows, expected {self._layout.drawn}",
                hint=f"detrec's adapter was tried with transformers {library.TRIED}",
            )
        # float32 of whatever dtype, as what the token is drawn from
        wide, samples = flat.float().contiguous(), self._layout.samples
        logits = arrays.host_view(wide) if self._device is None else arrays.device_view(wide)
        self._draws.take(logits, samples)
        if self._probe is None:
            return
        if "logits" in self._names and len(samples):
            self._probe.op("logits", logits[samples] if self._device is None else logits, 0, kernel)
        if self._device is not None:
            # the model's last op: what is left of the step is the wait for it
            self._probe.meanwhile()  # type: ignore[attr-defined]

    def _watch_rope(self, model: Any, kernel: str) -> None:
        """RoPE is a function of the model's module: told from there, the layer known by whose turn it is."""
        home = library.module(type(model).__module__)
        original = library.part(home, ROPE)

        heard = self._gathering

        def told(*args: Any, **kwargs: Any) -> Any:
            rotated = original(*args, **kwargs)
            # another model of this module may run beside this one
            if self._layer >= 0:
                for op, part in zip(rope_ops(self._layer), rotated, strict=True):
                    if heard and op in heard.numbers:
                        heard.hear(heard.numbers[op], part)
                    elif op in self._names:
                        # [1, heads, rows, head_dim]
                        self._took(op, part.transpose(1, 2), kernel)
            return rotated

        for index, layer in enumerate(model.model.layers):
            self._undo.append(self._name_layer(index, library.part(layer, "self_attn")))
        setattr(home, ROPE, told)
        self._undo.append(lambda: setattr(home, ROPE, original))

    def _name_layer(self, index: int, attention: Any) -> Callable[[], None]:
        """While `attention` runs, its layer is known; gives what undoes this."""
        forward = attention.forward

        @functools.wraps(forward)
        def named(*args: Any, **kwargs: Any) -> Any:
            self._layer = index
            try:
                return forward(*args, **kwargs)
            finally:
                self._layer = -1

        return library.stand_in(attention, named)
