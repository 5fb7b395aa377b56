"""The stand-in for FastDeploy as if it were installed, with detrec's entry point beside it."""

import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FAKE = Path(__file__).parent / "fake"
GROUP = "fastdeploy.model_runner_plugins"


def plugin_metadata(folder: Path) -> Path:
    """A folder whose packages have the entry points that pyproject.toml says detrec has."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][GROUP]
    info = folder / "detrec_plugins-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: detrec-plugins\nVersion: 0\n")
    lines = "\n".join(f"{name} = {target}" for name, target in points.items())
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{lines}\n")
    return folder


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """Inside, `import fastdeploy` finds the stand-in, and its plugin loader finds detrec."""
    ours = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "fastdeploy"}
    with pytest.MonkeyPatch.context() as patch:
        for name in ours:
            patch.delitem(sys.modules, name)
        patch.syspath_prepend(str(plugin_metadata(folder)))
        patch.syspath_prepend(str(FAKE))
        yield
        for name in [name for name in sys.modules if name.split(".")[0] == "fastdeploy"]:
            del sys.modules[name]
