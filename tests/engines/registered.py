"""The engine of examples/adapter, as if it had been installed."""

from pathlib import Path

from tests.command import ROOT

EXAMPLE = ROOT / "examples" / "adapter"


def install(site: Path, point: str = "toy_engine:ToyEngine") -> list[str]:
    """What pip leaves of the example in `site`, `point` its entry point; gives the paths to import from."""
    info = site / "detrec_toy_engine-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: detrec-toy-engine\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(f"[detrec.engines]\ntoy = {point}\n")
    return [str(site), str(EXAMPLE)]
