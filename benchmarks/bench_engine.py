"""The built-in engine on the CPU against the same model in transformers on torch, and what recording costs.

    python benchmarks/bench_engine.py [--peer PYTHON] [--rounds 5]

SmolLM2-135M shapes with seeded weights, float32, greedy, prompts of 256 tokens, 64 tokens generated, batch 1
and 8. Recording off, of layers and of ops take turns in one process, and `vs off` is the median of their
ratios pair by pair; figures are medians over rounds. PEER is a Python that has torch and transformers;
without it the peer's rows are left out.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROMPT, OUTPUT = 256, 64
LEVELS = ("off", "layer", "op")
SHAPES = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "rope_theta": 100000.0,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}


def prompts_of(batch: int) -> list[list[int]]:
    """Token ids that no two prompts share a prefix of."""
    return [[(17 * i + 31 * j + 7) % SHAPES["vocab_size"] for i in range(PROMPT)] for j in range(batch)]


def ours(batch: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of prefill and of decode, `rounds` times, with recording off, of layers and of ops in turn."""
    from detrec.config import serve_config
    from detrec.engines.start import start_engine

    sampling = {"temperature": 0, "max_tokens": OUTPUT, "ignore_eos": True}
    config = serve_config(
        {
            "model": "builtin:smollm2-135m",
            "engine": {
                "max_model_len": PROMPT + OUTPUT,
                "max_num_seqs": batch,
                "max_num_batched_tokens": batch * PROMPT,
                "enable_prefix_caching": False,
            },
            "requests": [{"prompt_token_ids": p, "sampling": sampling} for p in prompts_of(batch)],
        }
    )
    times: dict[str, list[tuple[float, float]]] = {level: [] for level in LEVELS}
    # one more round than asked for: the first compiles, and is thrown away
    for _ in range(rounds + 1):
        for level in LEVELS:
            times[level].append(_run(start_engine(config), config, level))
    return {level: runs[1:] for level, runs in times.items()}


def _run(engine, config, level: str) -> tuple[float, float]:
    from detrec.recorder.levels import recorded_ops
    from detrec.recorder.probe import TraceProbe
    from detrec.recorder.record import manifest
    from detrec.recorder.writer import TraceWriter

    if level == "off":
        return _timed(engine.run(engine.own_scheduler()))
    names = recorded_ops(engine.op_names, level)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "run.zarr")
        about = {"manifest": manifest(config, engine), "requests": engine.requests, "ops": names}
        with TraceWriter(path, **about) as writer:
            probe = TraceProbe(writer, names, lasting=engine.lasting and level == "op")
            return _timed(engine.run(engine.own_scheduler(), probe, frozenset(names)))


def _timed(steps) -> tuple[float, float]:
    prefill = decode = 0.0
    begin = time.perf_counter()
    for step, _ in steps:
        now = time.perf_counter()
        if step.slices[0].kind == "prefill":
            prefill += now - begin
        else:
            decode += now - begin
        begin = now
    return prefill, decode


def peer(batch: int) -> tuple[float, float]:
    """The same with transformers: one forward over the prompts, then 63 over one token each."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPES)).eval()
    prompts = torch.tensor(prompts_of(batch))

    def generate(tokens: int) -> tuple[float, float]:
        begin = time.perf_counter()
        out = model(prompts, use_cache=True, logits_to_keep=1)
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        middle = time.perf_counter()
        for _ in range(tokens - 1):
            out = model(token, past_key_values=out.past_key_values, use_cache=True)
            token = out.logits[:, -1].argmax(-1, keepdim=True)
        return middle - begin, time.perf_counter() - middle

    with torch.inference_mode():
        generate(3)
        return generate(OUTPUT)


def table(python: str, rounds: int, batches: list[int]) -> None:
    """Print the medians, tokens a second, and each contestant against the peer and against recording off."""
    print("| batch | engine | prefill tok/s | decode tok/s | whole run s | tok/s vs transformers | vs off |")
    print("|---|---|---|---|---|---|---|")
    for batch in batches:
        times = {
            f"detrec, {level}": runs for level, runs in child(sys.executable, "ours", batch, rounds).items()
        }
        if python:
            times["transformers"] = [child(python, "peer", batch, 1) for _ in range(rounds)]
        whole = {name: statistics.median(p + d for p, d in runs) for name, runs in times.items()}
        for name, runs in times.items():
            prefill = batch * PROMPT / statistics.median(p for p, _ in runs)
            decode = batch * (OUTPUT - 1) / statistics.median(d for _, d in runs)
            against = f"{whole['transformers'] / whole[name]:.2f}" if python else "not run"
            # pair by pair, so that a machine whose speed drifts does so for both
            off = [sum(run) / sum(base) for run, base in zip(runs, times["detrec, off"], strict=True)]
            print(
                f"| {batch} | {name} | {prefill:.0f} | {decode:.1f} | {whole[name]:.2f} | {against} | "
                f"{statistics.median(off):.3f} |",
                flush=True,
            )


def child(python: str, who: str, batch: int, rounds: int):
    """One contestant in a process of its own."""
    command = [python, __file__, "--child", who, str(batch), str(rounds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", default="", help="a Python that has torch and transformers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        who, batch, rounds = args.child[0], int(args.child[1]), int(args.child[2])
        print(json.dumps(peer(batch) if who == "peer" else ours(batch, rounds)))
    else:
        table(args.peer, args.rounds, args.batch)


if __name__ == "__main__":
    main()
