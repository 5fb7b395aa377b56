"""Whether a machine can replay a trace bit for bit: one case a rule."""

import pytest

from detrec.replayer.portability import Machine, outlook

H100 = {"name": "H100", "capability": "9.0"}
A100 = {"name": "A100", "capability": "8.0"}
PACKAGES = {"triton": "3.6.0"}


def manifest(kind="gpu", **engine):
    settings = {"deterministic": True, "dtype": "bfloat16", "framework": "torch", **engine}
    device = {"kind": kind, **(H100 if kind == "gpu" else {})}
    return {
        "config": {"engine": settings},
        "engine": {"device": device},
        "environment": {"kernels_version": 3, "packages": PACKAGES},
    }


def machine(**changes):
    facts = {"kernels_version": 3, "frameworks": ["torch"], "gpus": [H100], "packages": PACKAGES, **changes}
    return Machine(**facts)


@pytest.mark.parametrize(
    ("recorded", "here", "verdict", "reason"),
    [
        pytest.param(manifest(deterministic=False), machine(), "no", "deterministic: false", id="contrast"),
        pytest.param(
            manifest(), machine(kernels_version=4), "no", "version 3, this detrec has 4", id="kernels"
        ),
        pytest.param(
            manifest(), machine(frameworks=[]), "no", "neither Paddle nor PyTorch", id="no framework"
        ),
        pytest.param(manifest(), machine(), "yes", "same GPU architecture", id="same GPU"),
        pytest.param(manifest(), machine(gpus=[]), "no", "no GPU here", id="bfloat16 without a GPU"),
        pytest.param(manifest(), machine(gpus=[A100]), "unknown", "9.0, here is 8.0", id="another GPU"),
        pytest.param(
            manifest(), machine(packages={"triton": "3.9.0"}), "unknown", "Triton 3.6.0", id="another Triton"
        ),
        pytest.param(
            manifest(dtype="float32"), machine(gpus=[A100]), "yes", "float32", id="float32 anywhere"
        ),
        pytest.param(manifest("cpu"), machine(gpus=[]), "yes", "x86", id="a CPU's trace"),
    ],
)
def test_verdicts(recorded, here, verdict, reason):
    found = outlook(recorded, here)
    assert found.verdict == verdict
    assert any(reason in text for text in found.reasons)


def test_what_replay_must_be_told():
    found = outlook(manifest(dtype="float32", framework="paddle"), machine(gpus=[]))
    assert found.overrides == ("engine.framework=torch", "engine.device=cpu")
    assert outlook(manifest(), machine()).overrides == ()
