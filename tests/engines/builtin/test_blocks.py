"""The KV block bookkeeping: nothing is lost, nothing is shared that should not be."""

import random

from detrec.engines.builtin.blocks import BlockManager


def manager(blocks: int = 8, size: int = 4, caching: bool = True) -> BlockManager:
    return BlockManager(blocks, size, prefix_caching=caching)


def test_a_refused_request_changes_nothing():
    blocks = manager(blocks=2)
    assert not blocks.admit("a", list(range(12)), 0, 12)
    assert blocks.free == 2
    assert "a" not in blocks.tables
    assert blocks.admit("b", [1], 0, 1)
    assert not blocks.grow("b", 9)
    assert list(blocks.tables["b"]) == [0]


def test_equal_prefixes_share_full_blocks():
    blocks = manager()
    tokens = list(range(10))
    assert blocks.match(tokens) == 0
    blocks.admit("a", tokens, 0, 10)
    blocks.publish("a", tokens, 10)
    assert blocks.match(tokens) == 8
    assert blocks.admit("b", tokens, 8, 10)
    assert blocks.tables["b"][:2] == blocks.tables["a"][:2]
    assert blocks.tables["b"][2] != blocks.tables["a"][2]


def test_the_last_token_is_never_served_from_the_cache():
    blocks = manager()
    tokens = list(range(8))
    blocks.admit("a", tokens, 0, 8)
    blocks.publish("a", tokens, 8)
    assert blocks.match(tokens) == 4


def test_a_block_is_found_by_all_tokens_before_it():
    blocks = manager()
    blocks.admit("a", [1, 2, 3, 4, 5, 6, 7, 8], 0, 8)
    blocks.publish("a", [1, 2, 3, 4, 5, 6, 7, 8], 8)
    assert blocks.match([9, 2, 3, 4, 5, 6, 7, 8, 9]) == 0
    assert blocks.match([1, 2, 3, 4, 5, 6, 7, 9, 9]) == 4


def test_released_blocks_are_found_until_they_are_reused():
    blocks = manager(blocks=3)
    tokens = list(range(9))
    blocks.admit("a", tokens, 0, 9)
    blocks.publish("a", tokens, 9)
    blocks.release("a")
    assert blocks.free == 3
    assert blocks.match(tokens) == 8
    # the last block of the prefix is the first to go
    blocks.admit("b", [50] * 5, 0, 5)
    assert blocks.match(tokens) == 4


def test_nothing_is_cached_when_caching_is_off():
    blocks = manager(caching=False)
    blocks.admit("a", list(range(9)), 0, 9)
    blocks.publish("a", list(range(9)), 9)
    assert blocks.match(list(range(9))) == 0


def test_no_block_is_lost_or_used_twice_in_a_random_life():
    generator = random.Random(5)
    blocks = manager(blocks=12, size=4)
    alive: dict[str, list[int]] = {}
    for turn in range(2000):
        if alive and generator.random() < 0.4:
            name = generator.choice(sorted(alive))
            blocks.release(name)
            del alive[name]
        else:
            name, tokens = f"r{turn}", [generator.randrange(2) for _ in range(generator.randint(1, 20))]
            cached = blocks.match(tokens)
            if blocks.admit(name, tokens, cached, len(tokens)):
                blocks.publish(name, tokens, len(tokens))
                alive[name] = tokens
        owners: dict[int, set[str]] = {}
        for name, table in blocks.tables.items():
            assert len(table) == len(set(table)) == blocks.blocks_for(len(alive[name]))
            for block in table:
                owners.setdefault(block, set()).add(name)
        assert blocks.free == 12 - len(owners)
        for block, names in owners.items():
            prefixes = {tuple(alive[name][: (blocks.tables[name].index(block) + 1) * 4]) for name in names}
            assert len(prefixes) == 1
