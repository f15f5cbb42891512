"""The element spmtrack in pipelines of the real GStreamer, in the system's Python."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from spm_export.cli import DEMO_CLIP
from spm_rt import Tracker
from spm_rt.results import Box

from ..support.components.environments import system_python
from ..support.exports import Frames
from ..support.layers import ROOT
from ..support.media.films import plain_film

Run = Callable[..., subprocess.CompletedProcess[str]]
COUNT = 4
SCRIPT = ROOT / "tests" / "support" / "components" / "gstreamer.py"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a command with the element in the path of plugins."""
    python, variables = system_python("Gst", "GstBase", "GstVideo")
    (tmp_path / "plugins" / "python").mkdir(parents=True)
    shutil.copy(ROOT / "examples" / "spmtrack.py", tmp_path / "plugins" / "python")
    variables |= {"GST_PLUGIN_PATH": str(tmp_path / "plugins"), "GST_REGISTRY": str(tmp_path / "registry.bin")}

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        command = [str(word) for word in ((python, *words[1:]) if words[0] == "python" else words)]
        return subprocess.run(command, capture_output=True, text=True, env=variables, timeout=120, check=False)

    return run


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory, clip: Frames) -> Path:
    """The clip's first frames as a film."""
    return plain_film(tmp_path_factory.mktemp("short") / "short.avi", clip[:COUNT])


@pytest.mark.parametrize(
    ("caps", "scale", "count"),
    [
        ("format=BGR", 1.0, 122),
        ("format=GRAY8,width=322,height=181", 0.5, COUNT),
        ("format=BGRx,width=321,height=181", 0.5, COUNT),
    ],
    ids=["every frame", "grey, bytes behind the last pixel of a row", "four channels"],
)
def test_every_buffer_has_a_meta_and_the_boxes_are_those_of_a_tracker(
    run: Run, default_bundle: Path, short: Path, clip_box: Box, tmp_path: Path, caps: str, scale: float, count: int
) -> None:
    box = tuple(scale * value for value in clip_box)
    words = (default_bundle, short if count == COUNT else DEMO_CLIP, ",".join(map(str, box)), caps, tmp_path)
    done = run("python", SCRIPT, *words)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    tracker = Tracker.load(default_bundle, "onnxruntime", threads=1)
    first, *frames = (cv2.imread(str(path)) for path in sorted(tmp_path.glob("*.png")))
    tracker.init(first, box)
    results = [tracker.update(frame) for frame in frames]
    assert len(results) == count - 1
    wanted = [[*box, 1.0, True, "tracked"], *([*one.box, one.score, one.found, one.state] for one in results)]
    assert found["parameters"] == wanted
    assert [message[:-1] for message in found["messages"]] == wanted
    times = [message[-1] for message in found["messages"]]
    assert times == sorted(set(times))
    for meta, (x, y, width, height, *_) in zip(found["metas"], wanted, strict=True):
        assert meta == [round(x), round(y), round(x + width) - round(x), round(y + height) - round(y), "rabbit"]


@pytest.mark.parametrize(
    ("bundle", "box", "words"),
    [
        ("nothing", "60,40,40,40", "nothing: no such bundle folder"),
        (None, "0,0,0,0", "no box to start on: set object-initial-x"),
        (None, "700,40,40,40", "outside the frame"),
    ],
)
def test_what_cannot_be_tracked_ends_the_pipeline_with_the_reason(
    run: Run, default_bundle: Path, short: Path, tmp_path: Path, bundle: str | None, box: str, words: str
) -> None:
    done = run("python", SCRIPT, bundle or default_bundle, short, box, "format=BGR", tmp_path)
    assert done.returncode == 1
    assert words in done.stderr


def test_the_example_prints_what_the_element_posts(run: Run, default_bundle: Path, short: Path) -> None:
    done = run("python", ROOT / "examples" / "spmtrack.py", default_bundle, short, "193,158,57,72")
    lines = [line for line in done.stdout.splitlines() if line.startswith("spmtrack, ")]
    assert len(lines) == COUNT, done.stderr
    assert lines[0].startswith("spmtrack, x=(double)193, y=(double)158, width=(double)57, height=(double)72")
