import math

import numpy as np
import pytest

from detrec.kernels.cpu import sample as module
from detrec.kernels.cpu.portable import exp32, log32
from detrec.kernels.cpu.sample import SAMPLE_DTYPE, sample
from detrec.kernels.cpu.softmax import log_softmax
from tests.bits import assert_same_bits

F = np.float32
MASK, G = (1 << 64) - 1, 0x9E3779B97F4A7C15


def logprobs(rows: int, vocabulary: int, seed: int = 12, grain: float = 0.0) -> np.ndarray:
    """Rows of log-softmax; a grain gives ties."""
    x = np.random.default_rng(seed).standard_normal((rows, vocabulary)) * 3
    x = (np.round(x / grain) * grain if grain else x).astype(F)
    return log_softmax(x, np.empty_like(x))


def drawn(rows: np.ndarray, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=42, counter=0) -> np.ndarray:
    n = len(rows)
    kinds = (
        (temperature, F),
        (top_k, np.int32),
        (top_p, F),
        (min_p, F),
        (seed, np.uint64),
        (counter, np.uint64),
    )
    given = [np.broadcast_to(np.asarray(value).astype(kind), n).copy() for value, kind in kinds]
    out = np.frombuffer(b"\xff" * (32 * n), SAMPLE_DTYPE).copy()
    return sample(rows, *given, out)


def mix(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def noise(seed: int, counter: int, token: int) -> np.float32:
    key = mix((mix((seed + G) & MASK) + counter * G + G) & MASK)
    n = mix((key + (token + 1) * G) & MASK) >> 41
    return -F(log32(-F(log32((F(n) + F(0.5)) * F(2.0**-23)))))


def kept_by_sorting(row, temperature, top_k, top_p, min_p) -> list[int]:
    """What the module says is kept, by a sort and Python's integers."""
    x = (row - row.max()) / F(temperature)
    weight = [int(F(exp32(v)) * F(2.0**32)) for v in x]
    least = max(1, math.ceil(F(min_p) * F(2.0**32)))
    order = [t for t in sorted(range(row.size), key=lambda t: (-row[t], t)) if weight[t] >= least]
    if top_k > 0:
        order = order[:top_k]
    if top_p < 1:
        total, p, reached, prefix = sum(weight[t] for t in order), int(F(top_p) * F(2.0**32)), 0, []
        need = max(1, -(-total * p >> 32))
        for token in order:
            if reached >= need:
                break
            reached += weight[token]
            prefix.append(token)
        order = prefix
    return order


def by_sorting(row, temperature, top_k, top_p, min_p, seed, counter) -> int:
    kept = kept_by_sorting(row, temperature, top_k, top_p, min_p)
    x = (row - row.max()) / F(temperature)
    return max(sorted(kept), key=lambda t: x[t] + noise(seed, counter, t))


def test_greedy_takes_the_highest():
    rows = logprobs(50, 5000)
    got = drawn(rows, temperature=0.0)
    assert (got["token"] == rows.argmax(axis=1)).all()
    best = np.sort(rows, axis=1)
    assert_same_bits(got["logprob"], best[:, -1])
    assert_same_bits(got["margin"], best[:, -1] - best[:, -2])
    assert not got["seed"].any()
    assert not got["counter"].any()


def test_ties_go_to_the_lowest_token():
    # of 1024 lanes, 1500 and 2524 share one; 4000 has another
    for second in (2524, 4000):
        rows = np.full((1, 5000), -9.0, F)
        rows[0, [1500, second]] = -1.0
        got = drawn(rows, temperature=0.0)[0]
        assert (got["token"], got["margin"]) == (1500, 0.0)
        assert drawn(rows, top_k=1)[0]["token"] == 1500


# found by search: two tokens share the highest noise, within a block of 1024 and across blocks
@pytest.mark.parametrize(
    ("vocabulary", "counter", "first", "second"), [(1000, 4112, 854, 870), (3000, 96, 485, 2547)]
)
def test_ties_of_noise_go_to_the_lowest_token(vocabulary, counter, first, second):
    assert noise(42, counter, first) == noise(42, counter, second)
    assert drawn(np.zeros((1, vocabulary), F), seed=42, counter=counter)[0]["token"] == first


def test_writes_its_own_seed_counter_and_logprob():
    rows = logprobs(4, 300)
    got = drawn(rows, seed=2**63 + 5, counter=[0, 1, 2, 3])
    assert (got["seed"].view(np.uint64) == 2**63 + 5).all()
    assert got["counter"].tolist() == [0, 1, 2, 3]
    assert_same_bits(got["logprob"], rows[np.arange(4), got["token"]])


@pytest.mark.parametrize("keyed", ["seed", "counter"])
def test_draws_follow_softmax(keyed):
    """Pearson's chi-square over 20000 draws; 31.3 is passed once in a thousand with 11 degrees of freedom."""
    row, draws, temperature = logprobs(1, 12), 20000, 1.7
    p = np.exp(row[0].astype(np.float64) / temperature)
    expected = p / p.sum() * draws
    got = drawn(np.repeat(row, draws, axis=0), temperature=temperature, **{keyed: np.arange(draws)})
    counts = np.bincount(got["token"], minlength=12)
    assert ((counts - expected) ** 2 / expected).sum() < 31.3


def test_a_sharper_temperature_would_not_pass_for_softmax():
    """Negative control of the test above."""
    row, draws = logprobs(1, 12), 20000
    expected = np.exp(row[0].astype(np.float64)) * draws
    got = drawn(np.repeat(row, draws, axis=0), temperature=0.9, counter=np.arange(draws))
    assert ((np.bincount(got["token"], minlength=12) - expected) ** 2 / expected).sum() > 31.3


FILTERS = [
    pytest.param(1.0, 0, 1.0, 0.0, id="none"),
    pytest.param(0.7, 5, 1.0, 0.0, id="top_k"),
    pytest.param(1.0, 0, 0.8, 0.0, id="top_p"),
    pytest.param(1.3, 0, 1.0, 0.05, id="min_p"),
    pytest.param(2.0, 13, 0.9, 0.01, id="all"),
    pytest.param(1.0, 0, 0.0, 0.0, id="top_p of nothing keeps one"),
    pytest.param(1.0, 10**9, 0.999999, 0.0, id="top_k beyond the vocabulary"),
    pytest.param(0.05, 0, 0.5, 1.0, id="min_p of one"),
]


@pytest.mark.parametrize(("temperature", "top_k", "top_p", "min_p"), FILTERS)
# 0.0: no ties. 1.5: many, so that a cut falls between equal logprobs.
@pytest.mark.parametrize("grain", [0.0, 1.5])
def test_a_cut_keeps_what_sorting_would(temperature, top_k, top_p, min_p, grain):
    for vocabulary, cases in ((2, 10), (40, 40), (2500, 2)):
        rows = logprobs(cases, vocabulary, vocabulary, grain)
        got = drawn(rows, temperature, top_k, top_p, min_p, 7, np.arange(cases))["token"]
        meant = [by_sorting(row, temperature, top_k, top_p, min_p, 7, c) for c, row in enumerate(rows)]
        assert got.tolist() == meant


@pytest.mark.parametrize(("temperature", "top_k", "top_p", "min_p"), FILTERS[1:5])
def test_many_draws_reach_all_that_is_kept_and_no_more(temperature, top_k, top_p, min_p):
    row = logprobs(1, 40, 3, 1.5)
    got = drawn(np.repeat(row, 4000, axis=0), temperature, top_k, top_p, min_p, 1, np.arange(4000))
    kept = kept_by_sorting(row[0], temperature, top_k, top_p, min_p)
    assert set(got["token"].tolist()) <= set(kept)
    assert len(set(got["token"].tolist())) > len(kept) // 2


def mixed(rows: int) -> dict[str, np.ndarray]:
    n = np.arange(rows)
    return {
        "temperature": np.where(n % 4 == 0, 0.0, 0.5 + n % 3),
        "top_k": n % 5 * 20,
        "top_p": 1.0 - n % 3 * 0.1,
        "min_p": n % 2 * 0.001,
        "seed": n * 977,
        "counter": n,
    }


def test_row_does_not_see_its_batch():
    rows, given = logprobs(24, 3000), mixed(24)
    alone = [drawn(rows[i : i + 1], **{k: v[i : i + 1] for k, v in given.items()}) for i in range(24)]
    assert drawn(rows, **given).tobytes() == np.concatenate(alone).tobytes()
    turned = drawn(rows[::-1].copy(), **{k: v[::-1] for k, v in given.items()})
    assert drawn(rows, **given).tobytes() == turned[::-1].tobytes()


def test_threads_do_not_move_a_bit(monkeypatch):
    rows, given = logprobs(24, 3000), mixed(24)
    monkeypatch.setattr(module, "PARALLEL_ELEMENTS", 1 << 60)
    serial = drawn(rows, **given)
    monkeypatch.setattr(module, "PARALLEL_ELEMENTS", 0)
    assert drawn(rows, **given).tobytes() == serial.tobytes()


def test_another_seed_or_counter_gives_other_noise():
    """Negative control of the tests above: the same rows, keyed otherwise, draw other tokens."""
    rows = logprobs(200, 300)
    first = drawn(rows, seed=1, counter=1)["token"]
    for other in (drawn(rows, seed=1, counter=2)["token"], drawn(rows, seed=2, counter=1)["token"]):
        assert (first != other).sum() > 100


def test_noise_is_finite_at_both_ends():
    for n in (0, (1 << 23) - 1):
        u = (F(n) + F(0.5)) * F(2.0**-23)
        assert 0 < u < 1
        assert np.isfinite(log32(-F(log32(u))))


def test_a_banned_token_is_never_drawn():
    rows = np.full((500, 3), -np.inf, F)
    rows[:, 1:] = np.log(0.5)
    got = drawn(rows, temperature=1e6, counter=np.arange(500))
    assert set(got["token"].tolist()) == {1, 2}


def test_a_lone_token_has_an_infinite_margin():
    got = drawn(np.zeros((1, 1), F))[0]
    assert (got["token"], got["logprob"], got["margin"]) == (0, 0.0, np.inf)


def test_no_rows():
    assert drawn(np.empty((0, 9), F)).shape == (0,)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": [1, -1]}, "row 1 has a temperature"),
        ({"temperature": [np.inf, 1]}, "row 0 has a temperature"),
        ({"top_p": [1, 1.5]}, "row 1 has a top_p"),
        ({"min_p": [0, np.nan]}, "row 1 has a min_p"),
    ],
)
def test_rejects_parameters_outside_their_range(given, message):
    with pytest.raises(ValueError, match=message):
        drawn(logprobs(2, 9), **given)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_broken_row_gives_a_token_all_the_same(temperature):
    nothing = drawn(np.full((1, 9), np.nan, F), temperature=[temperature])[0]
    assert (nothing["token"], nothing["margin"]) == (0, 0)
    assert np.isnan(nothing["logprob"])
    assert drawn(np.full((1, 9), -np.inf, F), temperature=[temperature])[0]["token"] == 0
    infinite = logprobs(1, 9)
    infinite[0, 4] = np.inf
    assert drawn(infinite, temperature=[temperature])[0]["token"] == 4


def test_rejects_parameters_of_another_length():
    out, one = np.empty(2, SAMPLE_DTYPE), np.ones(2, F)
    with pytest.raises(ValueError, match=r"must have shape \[2\]"):
        sample(logprobs(2, 9), one[:1], one, one, one, one, one, out)


def test_rejects_out_of_another_dtype():
    one, none = np.ones(2, F), np.zeros(2, np.uint64)
    with pytest.raises(ValueError, match="expected SAMPLE_DTYPE"):
        sample(logprobs(2, 9), one, none.astype(np.int32), one, one, none, none, np.empty(2, np.int64))
