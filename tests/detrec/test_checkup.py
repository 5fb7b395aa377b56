"""detrec doctor on a machine that cannot record, or whose kernels break their promise."""

import pytest

from detrec import checkup


def test_a_machine_without_a_framework_is_not_healthy(monkeypatch):
    monkeypatch.setattr(checkup, "_version", lambda name: "1.2" if name in ("detrec", "numpy") else None)
    facts = checkup.examine()
    assert (facts["healthy"], facts["frameworks"]) == (False, [])
    first, packages, *rest = checkup.to_text(facts).splitlines()
    assert first.startswith("not healthy: detrec 1.2, Python ")
    assert packages == "  packages    numpy 1.2"
    assert rest[-1] == "  no framework: pip install 'detrec[cpu]' for Paddle, 'detrec[torch]' for PyTorch"


@pytest.mark.parametrize("package", ["paddlepaddle", "torch"])
def test_one_framework_is_enough(monkeypatch, package):
    monkeypatch.setattr(checkup, "_version", lambda name: "1.2" if name in ("detrec", package) else None)
    facts = checkup.examine()
    assert facts["healthy"]
    assert facts["frameworks"] == ["paddle" if package == "paddlepaddle" else "torch"]
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
