"""The model of somebody's engine: bytes in, bytes out, a running mean where others have attention.

Nothing here knows of detrec.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import paddle
from paddle import nn

VOCABULARY, WIDTH, LAYERS = 256, 256, 2


@dataclass
class Memory:
    """What one layer keeps of one request: the toy's KV cache."""

    total: paddle.Tensor = field(default_factory=lambda: paddle.zeros([WIDTH]))
    count: int = 0


class Mix(nn.Layer):
    """Each row becomes the mean of its request's rows so far."""

    def forward(self, x, parts: Sequence[tuple[Memory, int]]):
        rows = []
        for memory, count in parts:
            for _ in range(count):
                memory.total, memory.count = memory.total + x[len(rows)], memory.count + 1
                rows.append(memory.total / memory.count)
        return paddle.stack(rows)


class Layer(nn.Layer):
    """One layer: mix, project, add."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.project = Mix(), nn.Linear(WIDTH, WIDTH)

    def forward(self, x, parts):
        return x + paddle.tanh(self.project(self.mix(x, parts)))


class Model(nn.Layer):
    """Weights are drawn from a seed, so that there is nothing to load."""

    def __init__(self) -> None:
        super().__init__()
        paddle.seed(7)
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.LayerList([Layer() for _ in range(LAYERS)])
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens, parts: Sequence[tuple[list[Memory], int]], drawn: Sequence[int]):
        """Run `tokens` of several requests; `parts` are their memories, one a layer, and numbers of rows.

        Gives the logits of the rows in `drawn`, None where there are none.
        """
        x = self.embed(tokens)
        for index, layer in enumerate(self.layers):
            x = layer(x, [(memories[index], count) for memories, count in parts])
        return self.head(x[drawn]) if drawn else None
