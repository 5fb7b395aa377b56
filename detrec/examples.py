"""What `--help` ends with: lines to type, and what an exit code means."""

_CODES = "Exit codes: {}; 2 something was wrong, or detrec could not tell."
_COMPARED = _CODES.format("0 identical, 1 diverged")
_DONE = _CODES.format("0 done")

EXAMPLES: dict[str, tuple[str, ...]] = {
    "record": (
        "detrec record serve.yaml -o run.zarr",
        "detrec record serve.yaml --set engine.max_num_seqs=1 --level layer --overwrite",
    ),
    "replay": (
        "detrec replay run.zarr",
        "detrec replay run.zarr --mode free --set engine.max_num_seqs=1",
        "detrec replay run.zarr -o other.zarr --json",
    ),
    "diff": ("detrec diff run.zarr other.zarr", "detrec diff run.zarr other.zarr --by sketch --json"),
    "explore": (
        "detrec explore run.zarr",
        "detrec explore run.zarr other.zarr --at 'greedy:92 1.attn' --fault bitflip",
    ),
    "report": (
        "detrec report run.zarr other.zarr -o report.html",
        "detrec report run.zarr other.zarr --cause cause.json --at 'step 12'",
    ),
    "info": ("detrec info run.zarr", "detrec info run.zarr --json"),
    "verify": ("detrec verify run.zarr",),
    "faults": ("detrec faults", "detrec record serve.yaml --fault split_k_by_batch:rows=64"),
    "doctor": ("detrec doctor", "detrec doctor run.zarr"),
}
"""By command."""

_MEANINGS = {
    "replay": _COMPARED,
    "diff": _COMPARED,
    "report": _COMPARED,
    "doctor": _CODES.format("0 all is well, and RUN can be replayed here bit for bit"),
}


def epilog(command: str) -> str:
    """The end of a command's help, a paragraph a line."""
    return "\n\n".join(("Examples:", *EXAMPLES[command], _MEANINGS.get(command, _DONE)))
