"""The README's pictures: serve.yaml recorded, replayed with a kernel that splits its sums by the batch.

`make screenshots` runs this from the repository's root. A test sees that the pictures are those of the
explorer as it is.
"""

import tempfile
from pathlib import Path

from detrec.config import load_config
from detrec.recorder.record import record
from detrec.replayer.replay import replay
from detrec.replayer.survey.command import Replayed
from detrec.replayer.survey.survey import Survey
from detrec.story.write import write
from detrec.tui.picture import picture

FAULT = "split_k_by_batch"
SIZES = {"80x24": (80, 24), "200x60": (200, 60)}


def main() -> None:
    """Write one picture a size."""
    with tempfile.TemporaryDirectory() as scratch:
        run, other, tensors = (str(Path(scratch) / name) for name in ("run.zarr", "replayed.zarr", "tensors"))
        record(load_config(Path("serve.yaml")), run)
        found = replay(run, other, fault=FAULT, diagnose=True, keep_tensors=tensors)

        def survey() -> Survey:
            return Survey(
                run,
                other,
                comparison=found.comparison,
                diagnosis=found.diagnosis,
                replayed=Replayed(fault=FAULT),
                tensors=tensors,
            )

        for name, size in SIZES.items():
            path = Path(__file__).with_name(f"{name}.svg")
            path.write_text(picture(survey, write, size), encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main()
