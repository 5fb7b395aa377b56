"""detrec doctor on a machine that cannot record, or whose kernels break their promise."""

import json
import shlex

import pytest

from detrec import checkup
from tests.command import detrec


def test_a_machine_without_a_framework_is_not_healthy(monkeypatch):
    monkeypatch.setattr(checkup, "_version", lambda name: "1.2" if name in ("detrec", "numpy") else None)
    facts = checkup.examine()
    assert (facts["healthy"], facts["frameworks"]) == (False, [])
    first, packages, *rest = checkup.to_text(facts).splitlines()
    assert first.startswith("not healthy: detrec 1.2, Python ")
    assert packages == "  packages    numpy 1.2"
    assert rest[-1] == "  no framework: pip install 'detrec[cpu]' for Paddle, 'detrec[torch]' for PyTorch"


@pytest.mark.parametrize("package", ["paddlepaddle", "paddlepaddle-gpu", "torch"])
def test_one_framework_is_enough(monkeypatch, package):
    monkeypatch.setattr(checkup, "_version", lambda name: "1.2" if name in ("detrec", package) else None)
    facts = checkup.examine()
    assert facts["healthy"]
    assert facts["frameworks"] == ["torch" if package == "torch" else "paddle"]
    assert "no framework" not in checkup.to_text(facts)


def test_a_matmul_that_looks_at_its_batch_is_not_healthy(monkeypatch):
    from detrec.kernels.cpu import matmul, split_k

    def careless(x, weight, bias, out):
        return split_k.split_k_matmul(x, weight, bias, out, 4 if len(x) == 1 else 2)

    monkeypatch.setattr(matmul, "matmul", careless)
    facts = checkup.examine()
    assert facts["healthy"] is False
    assert facts["self_tests"] == {"matmul_is_batch_invariant": False}
    text = checkup.to_text(facts)
    assert text.startswith("not healthy: ")
    assert "  self-test   matmul is batch invariant: NO" in text.splitlines()


def serve(tmp_path, **engine):
    """A serve.yaml of `engine`."""
    path = tmp_path / "serve.yaml"
    data = {"model": "builtin:qwen2-tiny", "engine": engine, "requests": [{"prompt": "x"}]}
    path.write_text(json.dumps(data))
    return str(path)


@pytest.mark.parametrize(
    ("engine", "reasons", "holes"),
    [
        pytest.param({}, [], [], id="all is well"),
        pytest.param(
            {"framework": "torch"}, ["engine.framework: torch is not installed"], [], id="framework"
        ),
        pytest.param(
            {"device": "gpu", "tensor_parallel_size": 2},
            ["engine.device: gpu: 2 needed, 0 can be used"],
            [],
            id="device",
        ),
        pytest.param(
            {"deterministic": False},
            [],
            ["engine.deterministic is false: its kernels promise nothing"],
            id="hole",
        ),
        pytest.param(
            {"name": "fastdeploy", "enable_prefix_caching": False},
            ["engine.name: fastdeploy is not installed"],
            [],
            id="another engine",
        ),
        pytest.param(
            {"name": "transformers"},
            ["engine.name: transformers is not installed"],
            ["engine.name: transformers: its kernels may depend on the batch"],
            id="another engine's kernels",
        ),
        pytest.param(
            {"name": "transformers", "invariant_kernels": True},
            ["engine.name: transformers is not installed"],
            [],
            id="detrec's kernels in another engine",
        ),
    ],
)
def test_a_serve_yaml_is_told_what_it_lacks_here_and_where_it_leaves_bits_to_chance(
    tmp_path, monkeypatch, engine, reasons, holes
):
    monkeypatch.setattr(checkup, "_version", lambda name: "1" if name in ("detrec", "paddlepaddle") else None)
    monkeypatch.setattr(checkup, "_gpus", lambda installed: ([], "none"))
    path = serve(tmp_path, **engine)
    facts = checkup.examine(path)
    verdict = "no" if reasons else "yes"
    assert facts["record"] == {"config": path, "verdict": verdict, "reasons": reasons}
    assert facts["holes"] == holes
    text = checkup.to_text(facts)
    assert (f"{path}: can be recorded here" in text) is (not reasons)
    assert all(reason in text for reason in reasons + holes)


def test_a_serve_yaml_that_cannot_be_recorded_here_ends_with_2(tmp_path):
    done = detrec("doctor", serve(tmp_path, name="fastdeploy", deterministic=False))
    assert done.code == 2
    assert "cannot be recorded here" in done.stdout


def test_the_command_to_go_on_with_is_one_that_a_shell_takes():
    facts = checkup.examine()
    outlook = {"trace": "my runs/a.zarr", "verdict": "yes", "reasons": [], "overrides": ["engine.device=cpu"]}
    record = {"config": "my serve.yaml", "verdict": "yes", "reasons": []}
    text = checkup.to_text(facts | {"replay": outlook, "record": record, "holes": [], "threads": 1})
    commands = [shlex.split(line) for line in text.splitlines() if line.strip().startswith("detrec ")]
    assert commands == [
        ["detrec", "replay", "my runs/a.zarr", "--set", "engine.device=cpu"],
        ["detrec", "record", "my serve.yaml"],
    ]
    assert text.splitlines()[0].endswith(", 1 thread")
