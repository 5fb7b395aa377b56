"""Ranks on a GPU that is the host: `python -m tests.engines.builtin.gpu_ranks RANKS REDUCTION`.

Prints JSON: of each rank, what every request went on with and which steps a graph ran.
"""

import json
import os
import sys
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

from detrec.config import serve_config
from detrec.engines.builtin import seeded
from detrec.engines.builtin.engine import BuiltinEngine
from detrec.engines.builtin.ranks import Ranks
from detrec.engines.builtin.requests import resolve_requests
from detrec.kernels import arrays
from detrec.kernels.rendezvous import Rendezvous
from tests.engines.builtin.host_device import host_gpu
from tests.kernels.gpu.rank_processes import device_of, in_processes

REQUESTS = [
    {"id": "a", "prompt_token_ids": [1, 2, 3, 4, 5], "sampling": {"temperature": 0, "max_tokens": 4}},
    {"id": "b", "prompt_token_ids": [9, 8, 7], "sampling": {"temperature": 0.8, "max_tokens": 6}},
]


def main(size: int, reduction: str) -> None:
    """One layer, two heads, a vocabulary that ranks cannot share equally."""
    seeded._MODELS["nano"] = seeded._model("qwen2", 301, 64, 64, 1, (2, 2))
    checkpoint = seeded.SeededCheckpoint("nano")
    settings = {"device": "gpu", "max_model_len": 32, "max_num_seqs": 4, "block_size": 4}
    config = serve_config(
        {
            "model": "builtin:nano",
            "engine": {**settings, "tensor_parallel_size": size, "reduction": reduction},
            "requests": REQUESTS,
        }
    )
    requests = resolve_requests(config, checkpoint)
    arrays.framework_module("paddle")

    def work(meeting: Rendezvous) -> Any:
        with host_gpu():
            # patches what host_gpu does not
            device_of(meeting.rank)
            ranks = Ranks(meeting) if size > 1 else None
            engine = BuiltinEngine(config, checkpoint, requests, ranks=ranks)
            if ranks and meeting.rank:
                ranks.told()
            for _ in engine.run(engine.own_scheduler()):
                pass
            engine.close()
        return {name: state.output for name, state in engine.states.items()}

    print(json.dumps(in_processes(size, work)))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
