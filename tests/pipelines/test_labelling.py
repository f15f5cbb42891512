"""CVAT's tracking function and supervision's detections, with the libraries themselves in an environment of theirs."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import cv2
import pytest

from spm_rt import Tracker
from spm_rt.results import Box

from ..support.components.environments import python_of
from ..support.exports import Frames
from ..support.layers import ROOT

COUNT = 4
CVAT = """
import importlib.util, json, sys
from pathlib import Path
from PIL import Image
from cvat_sdk import auto_annotation as cvat

bundle, folder, *corners = sys.argv[1:]
spec = importlib.util.spec_from_file_location("cvat_function", "examples/cvat_function.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
function = module.create(bundle, threads=1)
assert isinstance(function.spec, cvat.TrackingFunctionSpec)
assert function.spec.supported_shape_types == {"rectangle"}
pictures = [Image.open(path) for path in sorted(Path(folder).glob("*.png"))]
start, *following = [function.preprocess_image(None, picture) for picture in pictures]
shape = cvat.TrackableShape(type="rectangle", points=[float(value) for value in corners])
states = [function.init_tracking_state(None, start, shape) for _ in range(2)]
shapes = [[function.track(None, picture, state) for state in states] for picture in following]
assert all(isinstance(shape, cvat.TrackableShape) for pair in shapes for shape in pair)
assert all(first == second for first, second in shapes)
nothing = start * 0 + 128
lost = [function.track(None, nothing, states[0]) for _ in range(3)]
print(json.dumps([[pair[0].points for pair in shapes], lost]))
"""


@pytest.fixture(scope="module")
def beginning(tmp_path_factory: pytest.TempPathFactory, clip: Frames) -> Path:
    """The first frames of the shipped clip, as a folder."""
    folder = tmp_path_factory.mktemp("beginning")
    for k, picture in enumerate(clip[:COUNT]):
        cv2.imwrite(str(folder / f"{k}.png"), picture)
    return folder


@pytest.fixture(scope="module")
def wanted(default_bundle: Path, clip: Frames, clip_box: Box) -> list[Box]:
    """Boxes of a tracker of our own."""
    tracker = Tracker.load(default_bundle, threads=1)
    tracker.init(clip[0], clip_box)
    return [tracker.update(frame).box for frame in clip[1:COUNT]]


def run(*words: object) -> str:
    done = subprocess.run(
        [python_of("labelling"), *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_cvats_function_gives_the_boxes_of_a_tracker_and_nothing_where_the_target_is_lost(
    default_bundle: Path, beginning: Path, clip_box: Box, wanted: list[Box]
) -> None:
    x, y, width, height = clip_box
    points, lost = json.loads(run("-c", CVAT, default_bundle, beginning, x, y, x + width, y + height))
    for found, (x, y, width, height) in zip(points, wanted, strict=True):
        assert found == pytest.approx([x, y, x + width, y + height], abs=0.01)
    assert lost == [None, None, None]


def test_supervisions_writer_and_annotators_take_detections(
    default_bundle: Path, beginning: Path, clip_box: Box, wanted: list[Box], tmp_path: Path
) -> None:
    box = ",".join(map(str, clip_box))
    run("examples/supervision_csv.py", default_bundle, beginning, box, tmp_path / "out.csv")
    with open(tmp_path / "out.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["frame"], row["tracker_id"], row["found"], row["state"]) for row in rows] == [
        (str(k), "0", "True", "tracked") for k in range(1, COUNT)
    ]
    for row, (x, y, width, height) in zip(rows, wanted, strict=True):
        corners = [float(row[name]) for name in ("x_min", "y_min", "x_max", "y_max")]
        assert corners == pytest.approx([x, y, x + width, y + height], abs=0.01)
