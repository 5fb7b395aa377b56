"""The example of an adapter keeps the contract, and is an engine like others once it is installed."""

import os
import shutil
import subprocess
import sys
import tomllib

import pytest

from detrec.config import serve_config
from detrec.config_engines import GROUP, own_keys, registered
from detrec.engines.contract import AdapterContract
from detrec.errors import ConfigError
from tests.command import ROOT, detrec
from tests.engines.registered import EXAMPLE, install


def contract_of_a_copy(folder, **changes):
    """The example's own tests on a copy of it, where nothing of detrec's checkout is but the package."""
    (folder / "package").mkdir()
    (folder / "package" / "detrec").symlink_to(ROOT / "detrec")
    toy = folder / "toy"
    shutil.copytree(EXAMPLE, toy)
    for old, new in changes.values():
        engine = toy / "toy_engine.py"
        assert old in engine.read_text()
        engine.write_text(engine.read_text().replace(old, new))
    places = [*install(folder / "site")[:1], str(toy), str(folder / "package")]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_toy_engine.py"],
        cwd=toy,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_example_keeps_the_contract_that_the_package_brings(tmp_path):
    done = contract_of_a_copy(tmp_path)
    assert done.returncode == 0, done.stdout
    tests = sum(name.startswith("test_") for name in vars(AdapterContract))
    assert f"{tests} passed" in done.stdout


def test_an_adapter_that_breaks_the_contract_is_told_how(tmp_path):
    """Negative control: a model without a digest; the message has the value that was none."""
    done = contract_of_a_copy(tmp_path, digest=('"model_digest": whole', '"model_digest": ""'))
    assert done.returncode == 1
    assert "TestToy.test_the_manifest_is_plain_data" in done.stdout
    assert "E       AssertionError: assert ''" in done.stdout
    assert "1 failed" in done.stdout


@pytest.fixture
def toy(tmp_path):
    """Runs detrec where the toy is installed."""
    places = [*install(tmp_path / "site"), str(ROOT)]
    return lambda *args: detrec(*args, cwd=tmp_path, PYTHONPATH=os.pathsep.join(places))


def test_it_is_recorded_and_replayed_by_its_name(toy, tmp_path):
    assert toy("record", EXAMPLE / "serve.yaml").code == 0
    done = toy("replay", "toy.zarr", "--json")
    assert (done.code, done.json()["verdict"], done.json()["counts"]["missing"]) == (0, "identical", 0)
    assert done.stderr == ""
    assert toy("info", "toy.zarr", "--json").json()["manifest"]["config"]["engine"] == {
        "name": "toy",
        "device": "cpu",
        "dtype": "float32",
        "budget": 16,
    }
    # the trace of an engine that is not installed can be looked at, and not be replayed
    assert detrec("verify", tmp_path / "toy.zarr").code == 0
    away = detrec("replay", tmp_path / "toy.zarr")
    assert (away.code, "got 'toy'" in away.stderr) == (2, True)
    assert f"entry point of the group {GROUP}" in away.stderr


def test_other_weights_without_digests_of_tensors_are_another_input(tmp_path):
    """The toy draws its weights from a seed: with another one, every op that follows has other bits."""
    shutil.copytree(EXAMPLE, tmp_path / "toy")
    places = [*install(tmp_path / "site")[:1], str(tmp_path / "toy"), str(ROOT)]
    environment = {"PYTHONPATH": os.pathsep.join(places), "PYTHONDONTWRITEBYTECODE": "1"}
    engine, model = (tmp_path / "toy" / f"toy_{name}.py" for name in ("engine", "model"))
    engine.write_text(engine.read_text().replace('"tensor_digests": digests, ', ""))
    assert detrec("record", EXAMPLE / "serve.yaml", cwd=tmp_path, **environment).code == 0
    model.write_text(model.read_text().replace("seed(7)", "seed(8)"))
    done = detrec("replay", "toy.zarr", "--json", cwd=tmp_path, **environment)
    assert done.code == 1
    assert done.json()["first"]["op"] == "embedding"
    cause = done.json()["cause"]
    assert (cause["class"], cause["rule"]) == ("input", "another model by digest")
    (facts,) = [each["facts"] for each in cause["evidence"] if each["kind"] == "model"]
    assert facts["recorded"] != facts["replayed"]


def test_faults_are_not_for_it(toy):
    refused = toy("record", EXAMPLE / "serve.yaml", "--fault", "split_k_by_batch")
    assert refused.code == 2
    assert "--fault: faults are injected into the built-in engine only" in refused.stderr


def test_an_entry_point_that_cannot_be_imported_is_named(tmp_path):
    places = os.pathsep.join([*install(tmp_path / "site", "nowhere:Engine"), str(ROOT)])
    refused = detrec("record", EXAMPLE / "serve.yaml", cwd=tmp_path, PYTHONPATH=places)
    assert refused.code == 2
    assert "toy is registered as nowhere:Engine, which cannot be imported: No module named 'nowhere'" in (
        refused.stderr
    )


def test_an_engine_that_is_not_installed_is_refused_with_those_that_are(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(install(tmp_path / "site")[0])
    engine = {"name": "toys"}
    with pytest.raises(ConfigError, match=r"name: expected one of builtin, .*, toy, got 'toys'") as error:
        serve_config({"model": "m", "engine": engine, "requests": [{"prompt": "x"}]})
    assert error.value.hint == "did you mean toy?"


def test_no_package_takes_the_place_of_the_built_in_engine(tmp_path, monkeypatch):
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nbuiltin = other:Engine\nmore = other:Engine\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {"builtin", "more"} & set(registered()) == {"more"}
    assert own_keys("builtin") is None


def test_the_example_declares_the_entry_point_that_is_tested():
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    assert project["entry-points"][GROUP] == {"toy": "toy_engine:ToyEngine"}
