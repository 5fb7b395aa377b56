"""The built-in engine on the CPU against the same model in transformers on torch, and what recording costs.

    python benchmarks/bench_engine.py [--peer PYTHON] [--rounds 3]

SmolLM2-135M shapes with seeded weights, float32, greedy, prompts of 256 tokens, 64 tokens generated, batch 1
and 8. Every run is a process of its own and the contestants take turns, so that a machine whose speed
drifts does so for all; figures are medians over rounds. PEER is a Python that has torch and transformers;
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


def ours(batch: int, level: str) -> tuple[float, float]:
    """Seconds of prefill and of decode; `level` is off, layer or op."""
    from detrec.config import serve_config
    from detrec.engines.start import start_engine
    from detrec.recorder.levels import recorded_ops
    from detrec.recorder.probe import TraceProbe
    from detrec.recorder.record import manifest
    from detrec.recorder.writer import TraceWriter

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
            "requests": [{"prompt_token_ids": prompt, "sampling": sampling} for prompt in prompts_of(batch)],
        }
    )
    engine = start_engine(config)
    warm = start_engine(config)
    for _, (_step, _samples) in zip(range(3), warm.run(warm.own_scheduler()), strict=False):
        pass
    if level == "off":
        return _timed(engine.run(engine.own_scheduler()))
    names = recorded_ops(engine.op_names, level)
    with (
        tempfile.TemporaryDirectory() as folder,
        TraceWriter(
            str(Path(folder) / "run.zarr"),
            manifest=manifest(config, engine),
            requests=engine.requests,
            ops=names,
        ) as writer,
    ):
        return _timed(engine.run(engine.own_scheduler(), TraceProbe(writer, names), frozenset(names)))


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


def run(python: str, who: str, batch: int) -> tuple[float, float]:
    """One contestant in a process of its own."""
    command = [python, __file__, "--child", who, str(batch)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    prefill, decode = json.loads(done.stdout.splitlines()[-1])
    return prefill, decode


def table(python: str, rounds: int, batches: list[int]) -> None:
    """Print the medians, tokens a second, and each contestant against the peer and against recording off."""
    contestants = [("detrec, off", sys.executable, "off"), ("detrec, layer", sys.executable, "layer")]
    contestants.append(("detrec, op", sys.executable, "op"))
    if python:
        contestants.append(("transformers", python, "peer"))
    print("| batch | engine | prefill tok/s | decode tok/s | whole run s | tok/s vs transformers | vs off |")
    print("|---|---|---|---|---|---|---|")
    for batch in batches:
        times: dict[str, list[tuple[float, float]]] = {name: [] for name, _, _ in contestants}
        for _ in range(rounds):
            for name, interpreter, who in contestants:
                times[name].append(run(interpreter, who, batch))
        whole = {name: statistics.median(p + d for p, d in runs) for name, runs in times.items()}
        for name, runs in times.items():
            prefill = batch * PROMPT / statistics.median(p for p, _ in runs)
            decode = batch * (OUTPUT - 1) / statistics.median(d for _, d in runs)
            against = f"{whole['transformers'] / whole[name]:.2f}" if python else "not run"
            print(
                f"| {batch} | {name} | {prefill:.0f} | {decode:.1f} | {whole[name]:.2f} | {against} | "
                f"{whole[name] / whole['detrec, off']:.3f} |",
                flush=True,
            )


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", default="", help="a Python that has torch and transformers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        who, batch = args.child[0], int(args.child[1])
        print(json.dumps(peer(batch) if who == "peer" else ours(batch, who)))
    else:
        table(args.peer, args.rounds, args.batch)


if __name__ == "__main__":
    main()
