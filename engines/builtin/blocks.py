"""The paged KV cache's bookkeeping: which physical block holds which tokens of which request.

Deterministic: blocks are taken from the front of one queue and given back at its end, so the same calls
give the same tables. A call that cannot be granted changes nothing.
"""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

import numpy as np

from detrec.config import EngineConfig
from detrec.engines.base import Request


class BlockManager:
    """`num_blocks` blocks of `block_size` positions; with `prefix_caching`, full blocks are found by content.

    A block's key is a digest over all tokens from position 0 to the block's end, so equal keys mean equal
    prefixes, and with batch-invariant kernels equal KV bits.
    """

    def __init__(self, num_blocks: int, block_size: int, *, prefix_caching: bool) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.prefix_caching = prefix_caching
        # int32 arrays, because a step's block tables are copied together from them
        self.tables: dict[str, array[int]] = {}
        self._users = [0] * num_blocks
        # blocks nobody uses, the next to be taken first; those with a key can still be found by content
        self._idle: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))
        self._key_of: dict[int, bytes] = {}
        self._block_of: dict[bytes, int] = {}
        self._chains: dict[str, list[bytes]] = {}

    @property
    def free(self) -> int:
        """How many blocks could be taken now."""
        return len(self._idle)

    def blocks_for(self, tokens: int) -> int:
        """How many blocks hold `tokens` positions."""
        return -(-tokens // self.block_size)

    def match(self, tokens: Sequence[int]) -> int:
        """How many leading positions are cached: whole blocks, and fewer than `len(tokens)`."""
        return len(self._cached_blocks(tokens)) * self.block_size

    def admit(self, request: str, tokens: Sequence[int], cached: int, stop: int) -> bool:
        """Give `request` its first `cached` positions from the cache and room up to `stop`."""
        hits = self._cached_blocks(tokens)[: cached // self.block_size]
        idle_hits = sum(self._users[block] == 0 for block in hits)
        if self.blocks_for(stop) - len(hits) > self.free - idle_hits:
            return False
        for block in hits:
            self._use(block)
        self.tables[request] = array("i", hits)
        self._chains[request] = [self._key_of[block] for block in hits]
        return self.grow(request, stop)

    def grow(self, request: str, stop: int) -> bool:
        """Give `request` room for positions up to `stop`."""
        table = self.tables[request]
        if stop <= len(table) * self.block_size:
            return True
        missing = self.blocks_for(stop) - len(table)
        if missing > self.free:
            return False
        for block in list(islice(self._idle, missing)):
            self._forget(block)
            self._use(block)
            table.append(block)
        return True

    def publish(self, request: str, tokens: Sequence[int], computed: int) -> None:
        """Make the full blocks of the first `computed` positions findable by content."""
        if not self.prefix_caching:
            return
        table, chain = self.tables[request], self._chains[request]
        for index in range(len(chain), computed // self.block_size):
            key = self._key(chain[-1] if chain else b"", tokens, index)
            chain.append(key)
            if key not in self._block_of:
                self._block_of[key] = table[index]
                self._key_of[table[index]] = key

    def release(self, request: str) -> None:
        """Take all blocks of `request` back; the last positions are the first to be reused."""
        self._chains.pop(request, None)
        for block in reversed(self.tables.pop(request, array("i"))):
            self._users[block] -= 1
            if not self._users[block]:
                self._idle[block] = None

    def _cached_blocks(self, tokens: Sequence[int]) -> list[int]:
        found: list[int] = []
        if not self.prefix_caching:
            return found
        key = b""
        # the last token is always computed: its row is what the next token is drawn from
        for index in range((len(tokens) - 1) // self.block_size):
            key = self._key(key, tokens, index)
            if key not in self._block_of:
                break
            found.append(self._block_of[key])
        return found

    def _key(self, parent: bytes, tokens: Sequence[int], index: int) -> bytes:
        part = tokens[index * self.block_size : (index + 1) * self.block_size]
        return hashlib.blake2b(parent + np.asarray(part, dtype="<i8").tobytes(), digest_size=16).digest()

    def _use(self, block: int) -> None:
        self._idle.pop(block, None)
        self._users[block] += 1

    def _forget(self, block: int) -> None:
        key = self._key_of.pop(block, None)
        if key is not None:
            del self._block_of[key]


def longest(engine: EngineConfig, request: Request) -> int:
    """How many KV blocks `request` can come to hold."""
    tokens = min(len(request.prompt) + request.sampling.max_tokens, engine.max_model_len)
    return -(-tokens // engine.block_size)


def num_blocks(engine: EngineConfig, requests: Sequence[Request]) -> int:
    """The KV blocks to allocate: what the config says, else what the largest batch of requests could need."""
    needs = sorted(longest(engine, request) for request in requests)
    return engine.num_gpu_blocks_override or sum(needs[-engine.max_num_seqs :])
