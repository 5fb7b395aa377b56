"""Reported causes that nothing here can show: what an engine would need for each."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Needed:
    """A cause that stays in the list, so that nobody takes its absence for coverage.

    `needs` is what the built-in engine on a CPU lacks; the rest is as in a Fault.
    """

    name: str
    number: tuple[int, ...]
    summary: str
    source: str
    cause: str
    expects: str
    needs: str


PARALLEL = "tensor parallelism"
EXPERTS = "a mixture-of-experts model"
STATE_SPACE = "a state-space model"

NEEDED: dict[str, Needed] = {
    each.name: each
    for each in (
        Needed(
            *("state_recompute", (10,)),
            "after a preemption a state is recomputed by a scan instead of step by step",
            *("vLLM #54993", "cache", "the state after the request resumed", STATE_SPACE),
        ),
        Needed(
            *("chunked_state", (11,)),
            "a state rounds otherwise in chunks than in single steps",
            *("vLLM #55627", "kernel-choice", "the state op of the first decoded token", STATE_SPACE),
        ),
        Needed(
            *("expert_rank_order", (14,)),
            "the outputs of experts are summed in another order of ranks",
            *("vLLM #45683", "collective", "the combine of experts", f"{EXPERTS} and {PARALLEL}"),
        ),
        Needed(
            *("expert_atomics", (15,)),
            "the outputs of experts are added with atomics, duplicates as they come",
            *("transformers #43362", "race", "the combine of experts; repeated, it varies", EXPERTS),
        ),
        Needed(
            *("expert_slots", (16,)),
            "rows take their slots within an expert with atomics",
            *("SGLang #33511", "race", "the indices that align experts; repeated, they vary", EXPERTS),
        ),
        Needed(
            *("expert_streams", (17,)),
            "two streams race on an expert's half-precision sum",
            *("SGLang #26627", "race", "the experts; repeated, they vary", f"{EXPERTS} on a GPU"),
        ),
        Needed(
            *("router_ties", (18,)),
            "ties between experts are broken by their position in the batch",
            *("vLLM #55514", "reduction-order", "the ids that the router chose", EXPERTS),
        ),
        Needed(
            *("padded_graph_row", (27,)),
            "a padded row of a captured step writes into a KV slot that is in use",
            *("SGLang #27664, vLLM-fork #621", "cache", "the KV of the row that was overwritten"),
            "steps captured as CUDA graphs",
        ),
        Needed(
            *("verify_width", (28,)),
            "a draft of k tokens is verified with k + 1 rows, where a decode has one",
            *("vLLM #54506, llama.cpp #25618, kekzl/imp #1471", "reduction-order"),
            *("the first layer's matmul; the schedule shows k", "speculative decoding"),
        ),
        Needed(
            *("device_rng_grid", (29,)),
            "the random generator's grid follows the number of multiprocessors",
            *("Paddle #78767", "rng", "sampled; logprobs are equal, the environments differ"),
            "two kinds of GPU",
        ),
        Needed(
            *("kv_scale", (30,)),
            "the scale of an FP8 KV cache comes from whichever batch was first",
            *("vLLM #11906, SGLang #8134", "cache", "kv_write; the scales differ", "an FP8 KV cache"),
        ),
    )
}
