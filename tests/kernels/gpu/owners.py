"""Whether a kernel gives the same bits over memory of two frameworks.

    DETREC_OWNER=torch DETREC_DIGESTS=torch.txt pytest -m '' tests/kernels/gpu
    DETREC_OWNER=paddle DETREC_DIGESTS=paddle.txt pytest -m '' tests/kernels/gpu
    python -m tests.kernels.gpu.owners torch.txt paddle.txt

Two processes, because the frameworks' CUDA libraries may not go together in one. Exits with 1 where a digest
differs or is missing.
"""

import sys
from collections import defaultdict
from pathlib import Path


def digests(file: str) -> dict[str, list[str]]:
    """Test to the digests of its outputs, in their order."""
    found = defaultdict(list)
    for line in Path(file).read_text().splitlines():
        digest, _, test = line.partition(" ")
        found[test].append(digest)
    return found


def table(first: dict[str, list[str]], second: dict[str, list[str]]) -> tuple[list[str], bool]:
    """A line for each test file, and whether all is there and equal."""
    by_file: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for test in sorted(first.keys() | second.keys()):
        ours, theirs = first.get(test, []), second.get(test, [])
        count = by_file[test.partition("::")[0]]
        count[0] += max(len(ours), len(theirs))
        count[1] += sum(a == b for a, b in zip(ours, theirs, strict=False))
    lines = [f"{file}: {equal} of {total} outputs equal" for file, (total, equal) in by_file.items()]
    return lines, bool(by_file) and all(total == equal for total, equal in by_file.values())


if __name__ == "__main__":
    lines, equal = table(*map(digests, sys.argv[1:]))
    print("\n".join(lines))
    raise SystemExit(0 if equal else 1)
