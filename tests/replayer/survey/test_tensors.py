"""Tensors that --keep-tensors kept."""

import json
from pathlib import Path

import numpy as np
import pytest

from detrec.errors import TraceError
from detrec.replayer.survey.tensors import kept_tensors


def keep(folder: Path, **sides: np.ndarray) -> Path:
    """A folder as `keep` writes it, with one output a side."""
    folder.mkdir()
    about = {}
    for side, output in sides.items():
        np.save(folder / f"{side}.output.npy", output)
        about[side] = {
            "op": "1.qkv",
            "kernel": f"{side} kernel",
            "step": 2,
            "rows": [{"request": "r0", "position": at} for at in range(len(output))],
            "files": {f"{side}.output.npy": {"shape": list(output.shape), "dtype": str(output.dtype)}},
            "scalars": {"eps": 1e-6},
        }
    (folder / "README.json").write_text(json.dumps(about))
    return folder


def test_elements_have_bits_values_and_distance(tmp_path: Path):
    ours = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    theirs = ours.copy()
    theirs[1, 2] = np.nextafter(np.float32(6), np.float32(7))
    found = kept_tensors(keep(tmp_path / "kept", recorded=ours, replayed=theirs))
    assert (found.op, found.steps, found.kernels) == ("1.qkv", (2, 2), ("recorded kernel", "replayed kernel"))
    output = found.named("output")
    assert output.places == (("r0", 0), ("r0", 1))
    assert output.differs().tolist() == [[False] * 3, [False, False, True]]
    last = output.elements(1)[2]
    assert (last.recorded_bits, last.replayed_bits) == (0x40C00000, 0x40C00001)
    assert (last.recorded, last.ulp, last.differs) == (6.0, 1, True)
    assert [element.column for element in output.elements(1, 1)] == [1, 2]


def test_a_picture_gives_the_share_that_differs(tmp_path: Path):
    ours = np.zeros((4, 6), np.float32)
    theirs = ours.copy()
    theirs[0, 0] = theirs[2:, 3:] = 1
    output = kept_tensors(keep(tmp_path / "kept", recorded=ours, replayed=theirs)).named("output")
    assert output.picture(2, 2).tolist() == [[1 / 6, 0], [0, 1]]
    assert output.picture(100, 100).shape == (4, 6)


def test_bfloat16_bits_are_shown_as_the_numbers_they_are(tmp_path: Path):
    ours = np.array([[0x3F80, 0x4000]], np.uint16)
    output = kept_tensors(keep(tmp_path / "kept", recorded=ours, replayed=ours + 1)).named("output")
    first = output.elements(0)[0]
    assert (first.recorded_bits, first.recorded, first.ulp) == (0x3F80, 1.0, 1)


def test_records_are_one_tensor_a_field(tmp_path: Path):
    ours = np.array([(1, 0.5), (2, 0.25)], [("token", "<i8"), ("logprob", "<f4")])
    theirs = ours.copy()
    theirs["token"][1] = 3
    found = kept_tensors(keep(tmp_path / "kept", recorded=ours, replayed=theirs))
    assert [tensor.name for tensor in found.tensors] == ["output.token", "output.logprob"]
    assert found.named("output.token").differs().tolist() == [[False], [True]]
    element = found.named("output.token").elements(1)[0]
    assert (element.recorded, element.replayed, element.differs) == (2, 3, True)


def test_one_side_alone_can_be_looked_at_and_not_compared(tmp_path: Path):
    found = kept_tensors(keep(tmp_path / "kept", replayed=np.zeros((1, 2), np.float32)))
    output = found.named("output")
    assert (output.recorded, output.comparable) == (None, False)
    with pytest.raises(ValueError, match="output: the runs have no tensors of one shape"):
        output.differs()


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"recorded": {"files": 3}}'])
def test_a_folder_of_something_else_is_refused(tmp_path: Path, text: str | None):
    if text is not None:
        (tmp_path / "README.json").write_text(text)
    with pytest.raises(TraceError, match="holds no tensors of a divergence"):
        kept_tensors(tmp_path)
