"""Words that one GPU writes into another's memory: what Triton has no words for.

A word says by itself whether it has come: memory that waits for words holds EMPTY in each, and no word that
is sent is EMPTY. So no flag follows the data and nothing is fenced, which makes this the fastest way there is
to tell another GPU a little. (The idea: NCCL's low-latency protocol, and Lamport, "Concurrent reading and
writing", 1977.)

EMPTY is a word of ones, a NaN in every float dtype, and would be sent as another NaN: to a sum that is the
same, for a GPU knows only one NaN as a result.

Memory is read and written in units of WORDS 32-bit words, 4 or 2, at int64 addresses; in the interpreter by
loads and stores as they are, which a host's processes see in order.
"""

import time

from detrec.kernels.launch import INTERPRETED, tl, triton

EMPTY = tl.constexpr(0xFFFFFFFF)
_OTHER_NAN = tl.constexpr(0xFFFEFFFF)
_INTERPRETED = tl.constexpr(INTERPRETED)
_POINTER = tl.constexpr(tl.pointer_type(tl.uint32))
# in the interpreter a limit is a number of tries, each of about this many nanoseconds
_TRY = tl.constexpr(2_000_000)


def _names(first: int, words: int) -> str:
    return ", ".join(f"${first + word}" for word in range(words))


def _load(words: int) -> str:
    zeros = " ".join(f"mov.b32 ${word}, 0;" for word in range(words))
    return f"""{{
        .reg .pred live;
        setp.ne.b32 live, ${words + 1}, 0;
        {zeros}
        @live ld.relaxed.sys.global.v{words}.b32 {{{_names(0, words)}}}, [${words}];
    }}"""


def _store(words: int) -> str:
    # an asm must have a result: 0
    return f"""{{
        .reg .pred live;
        setp.ne.b32 live, ${words + 2}, 0;
        @live st.relaxed.sys.global.v{words}.b32 [$1], {{{_names(2, words)}}};
        mov.b32 $0, 0;
    }}"""


def _settle(words: int) -> str:
    """Look again until no word is EMPTY; now and then, whether it is too late, or was for another thread."""
    address, source, limit, failed, told = (f"${2 * words + place}" for place in range(5))
    full = " ".join(f"setp.ne.and.b32 full, ${word}, 0xFFFFFFFF, full;" for word in range(1, words))
    return f"""{{
        .reg .pred full, early;
        .reg .b32 tries, seen;
        .reg .b64 began, now;
        mov.b32 tries, 0;
        again:
        setp.ne.b32 full, $0, 0xFFFFFFFF;
        {full}
        @full bra done;
        ld.relaxed.sys.global.v{words}.b32 {{{_names(0, words)}}}, [{address}];
        add.u32 tries, tries, 1;
        and.b32 seen, tries, 31;
        setp.ne.b32 early, seen, 0;
        @early bra again;
        ld.relaxed.gpu.global.b32 seen, [{failed}];
        setp.ne.b32 full, seen, 0;
        @full bra done;
        mov.u64 now, %globaltimer;
        setp.eq.b32 full, tries, 32;
        @full mov.b64 began, now;
        sub.u64 now, now, began;
        setp.lo.u64 early, now, {limit};
        @early bra again;
        st.relaxed.sys.global.b32 [{told}], {source};
        st.relaxed.gpu.global.b32 [{failed}], {source};
        done:
    }}"""


_LOAD = {words: tl.constexpr(_load(words)) for words in (2, 4)}
_STORE = {words: tl.constexpr(_store(words)) for words in (2, 4)}
_SETTLE = {words: tl.constexpr(_settle(words)) for words in (2, 4)}
_LOAD_2, _LOAD_4 = _LOAD[2], _LOAD[4]
_STORE_2, _STORE_4 = _STORE[2], _STORE[4]
_SETTLE_2, _SETTLE_4 = _SETTLE[2], _SETTLE[4]


@triton.jit
def load_units(address, live, WORDS: tl.constexpr):
    """The words at `address` where `live`, else 0: a tuple of WORDS uint32 tensors."""
    if _INTERPRETED:
        words = tl.tuple(())
        for word in tl.static_range(WORDS):
            words += (tl.load((address + 4 * word).to(_POINTER), mask=live, other=0),)
        return words
    elif WORDS == 4:  # noqa: RET505  Triton compiles one branch
        return tl.inline_asm_elementwise(
            _LOAD_4, "=&r,=&r,=&r,=&r,l,r", [address, live.to(tl.int32)],
            dtype=(tl.uint32, tl.uint32, tl.uint32, tl.uint32), is_pure=False, pack=1,
        )  # fmt: skip
    else:
        return tl.inline_asm_elementwise(
            _LOAD_2, "=&r,=&r,l,r", [address, live.to(tl.int32)],
            dtype=(tl.uint32, tl.uint32), is_pure=False, pack=1,
        )  # fmt: skip


@triton.jit
def store_units(address, words, live):
    """Write `words`, a tuple of 4 or 2 uint32 tensors, to `address` where `live`."""
    if _INTERPRETED:
        for word in tl.static_range(len(words)):
            tl.store((address + 4 * word).to(_POINTER), words[word], mask=live)
    elif len(words) == 4:
        tl.inline_asm_elementwise(
            _STORE_4, "=r,l,r,r,r,r,r",
            [address, words[0], words[1], words[2], words[3], live.to(tl.int32)],
            dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip
    else:
        tl.inline_asm_elementwise(
            _STORE_2, "=r,l,r,r,r", [address, words[0], words[1], live.to(tl.int32)],
            dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip


@triton.jit
def sendable(words):
    """`words` with EMPTY replaced: what `store_units` may send."""
    out = tl.tuple(())
    for word in tl.static_range(len(words)):
        out += (tl.where(words[word] == EMPTY, _OTHER_NAN, words[word]),)
    return out


@triton.jit
def _missing(words):
    found = words[0] == EMPTY
    for word in tl.static_range(1, len(words)):
        found = found | (words[word] == EMPTY)
    return tl.max(found.to(tl.int32), axis=0) != 0


def _let_others_run():
    time.sleep(5e-4)


@triton.jit
def _look_again():
    pass


_rest = _let_others_run if INTERPRETED else _look_again


@triton.jit
def settle(words, address, live, source, limit, failed, told):
    """`words`, as `load_units` has just found them at `address` where `live`, once all of them have come.

    Waits for at most `limit` nanoseconds, then writes `source`, who has not sent them and is not 0, to the
    uint32 at `failed`, where this GPU's other threads see it, and at `told`, where the host does. What is
    given then, or when another thread has given up, is not to be used.
    """
    if _INTERPRETED:
        tries = 0
        while _missing(words) & (tries < limit // _TRY) & (tl.load(failed.to(_POINTER)) == 0):
            _rest()
            words = load_units(address, live, len(words))
            tries += 1
        if _missing(words):
            tl.store(failed.to(_POINTER), source)
            tl.store(told.to(_POINTER), source)
        return words
    elif len(words) == 4:  # noqa: RET505  Triton compiles one branch
        return tl.inline_asm_elementwise(
            _SETTLE_4, "=&r,=&r,=&r,=&r,0,1,2,3,l,r,l,l,l",
            [words[0], words[1], words[2], words[3], address, source, limit, failed, told],
            dtype=(tl.uint32, tl.uint32, tl.uint32, tl.uint32), is_pure=False, pack=1,
        )  # fmt: skip
    else:
        return tl.inline_asm_elementwise(
            _SETTLE_2, "=&r,=&r,0,1,l,r,l,l,l",
            [words[0], words[1], address, source, limit, failed, told],
            dtype=(tl.uint32, tl.uint32), is_pure=False, pack=1,
        )  # fmt: skip
