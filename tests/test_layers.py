"""The folders import one way, and the front door opens without the heavy packages."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = ("kernels", "engines", "recorder", "replayer", "tui")
FREE = ("detrec.errors", "detrec.config", "detrec.schema", "detrec.printable")
FRONT = {"errors", "schema", "config", "printable"} | {
    f"config_{part}" for part in ("checks", "engines", "requests", "settings", "text")
}
HEAVY = ("paddle", "torch", "triton", "numba", "zarr", "textual", "pytest")


def imports_of(path: Path) -> set[str]:
    """Every detrec module that a file names in an import, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("detrec.")}


def wrong_imports(folder: str, path: Path) -> set[str]:
    allowed = ORDER[: ORDER.index(folder) + 1]
    return {
        name for name in imports_of(path) if not name.startswith(FREE) and name.split(".")[1] not in allowed
    }


FILES = [(folder, path) for folder in ORDER for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize(("folder", "path"), FILES, ids=[str(path.relative_to(ROOT)) for _, path in FILES])
def test_imports_point_one_way(folder, path):
    assert not wrong_imports(folder, path)


def test_an_import_that_points_the_other_way_is_seen(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text("def f():\n    from detrec.recorder import writer\n")
    assert wrong_imports("kernels", path) == {"detrec.recorder", "detrec.recorder.writer"}
    assert not wrong_imports("replayer", path)


def test_config_and_errors_import_nothing_of_ours_but_themselves():
    for name in FRONT:
        names = {part.split(".")[1] for part in imports_of(ROOT / "detrec" / f"{name}.py")}
        assert names <= FRONT


def test_the_command_line_loads_no_heavy_package():
    code = f"import sys, detrec.cli; print([name for name in {HEAVY} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_folder_is_linked_into_the_package():
    for folder in ORDER:
        if (ROOT / folder).is_dir():
            assert (ROOT / "detrec" / folder).resolve() == ROOT / folder
