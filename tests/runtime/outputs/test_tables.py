"""Results as text: each format is read back as those do who never saw what wrote it."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from spm_rt.errors import SourceError
from spm_rt.media.datasets import find_sequences
from spm_rt.outputs import Request, Tracked, open_outputs
from spm_rt.results import TrackResult

from ...support.media.results import LOST_EVERY, NAN, source_frames, tracked, write_results

COUNT = 20
TIMES = [k / 3 for k in range(COUNT)]
NAMES = ("rabbit", 'a, "bird"')


def boxes(name: int = 0) -> np.ndarray:
    return np.array([list(tracked(k, NAMES).values())[name].box for k in range(COUNT)])


def test_csv_has_a_line_for_each_target_and_keeps_the_older_columns_in_front(tmp_path: Path) -> None:
    write_results([("csv", tmp_path / "o.csv")], source_frames(TIMES), NAMES)
    with open(tmp_path / "o.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    old = ["frame", "x", "y", "width", "height", "score", "coarse_score", "fine_score", "found"]
    assert list(rows[0]) == [*old, "time", "file", "target", "state"]
    assert [row["target"] for row in rows] == list(NAMES) * COUNT
    first = rows[::2]
    assert [int(row["frame"]) for row in first] == list(range(COUNT))
    assert [float(row["time"]) for row in first] == pytest.approx(TIMES, abs=1e-6)
    got = [[float(row[name]) for name in old[1:5]] for row in first]
    np.testing.assert_allclose(got, boxes(), atol=5e-4)
    assert (rows[0]["score"], rows[2]["score"], rows[2]["fine_score"]) == ("", "0.500000", "")
    assert [row["found"] == "0" for row in first] == [k % LOST_EVERY == 3 for k in range(COUNT)]


def test_json_lines_have_every_digit_and_no_number_that_is_none(tmp_path: Path) -> None:
    write_results([("jsonl", tmp_path / "o.jsonl")], source_frames(TIMES), NAMES)

    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    lines = [json.loads(line, parse_constant=refuse) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    fields = [*("frame", "time", "file", "target", "box", "score", "coarse_score", "fine_score")]
    fields += ["found", "state", "corners"]
    assert all(list(line) == fields for line in lines)
    assert [line["time"] for line in lines[::2]] == TIMES
    assert [tuple(line["box"]) for line in lines[::2]] == [tracked(k, NAMES)["rabbit"].box for k in range(COUNT)]
    assert (lines[0]["score"], lines[2]["score"], lines[2]["fine_score"]) == (None, 0.1 + 0.8 / 2, None)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "mot", "otb", "coco"])
def test_numbers_of_any_kind_are_written_as_numbers(kind: str, tmp_path: Path) -> None:
    """numpy's float32 prints otherwise, and JSON has no NaN."""
    scores: Any = (np.float32(0.5), np.bool_(True), np.float32("nan"), NAN)
    box: Any = tuple(np.float32([1.5, 2.5, 3, 4]))
    result = TrackResult(box, *scores, state="tracked")
    with open_outputs([Request(kind, str(tmp_path / "o"))]) as outputs:
        for frame in source_frames([None, math.inf]):
            outputs.write(frame, {"target": Tracked(result.box, result)})
    text = (tmp_path / "o").read_text()
    assert re.search(r"\b(nan|inf|infinity|np|float32)\b", text, re.IGNORECASE) is None


def test_mot_is_read_by_its_columns(tmp_path: Path) -> None:
    """Frame, number, left, top, width, height, confidence: all from 1, with a line where a target was found."""
    write_results([("mot", tmp_path / "o.txt")], source_frames(TIMES), NAMES)
    table = np.loadtxt(tmp_path / "o.txt", delimiter=",")
    seen = [k for k in range(COUNT) if k % LOST_EVERY != 3]
    for number in (1, 2):
        rows = table[table[:, 1] == number]
        assert (rows[:, 0] - 1).tolist() == seen
        np.testing.assert_allclose(rows[:, 2:6] - [1, 1, 0, 0], boxes(number - 1)[seen], atol=5e-4)
    assert table[0].tolist()[6:] == [1, -1, -1, -1]


def test_otb_is_what_the_reader_of_data_sets_takes_for_ground_truth(tmp_path: Path) -> None:
    folder = tmp_path / "Jogging"
    (folder / "img").mkdir(parents=True)
    frames = list(source_frames(TIMES))
    for frame in frames:
        cv2.imwrite(str(folder / "img" / f"{frame.index + 1:04d}.png"), frame.picture)
    written = write_results([("otb", folder / "groundtruth_rect.txt")], frames, ("1", "2"))
    assert written[0].frames == COUNT
    first, second = find_sequences(tmp_path)
    for sequence, number in ((first, 0), (second, 1)):  # read as it stands in the file, as OTB's own toolkit does
        np.testing.assert_allclose(sequence.boxes - [1, 1, 0, 0], boxes(number), atol=5e-4)


def test_otb_has_a_line_for_frames_that_were_jumped_over(tmp_path: Path) -> None:
    write_results([("otb", tmp_path / "o.txt")], source_frames([None] * 3, indices=[5, 6, 9]))
    rows = np.loadtxt(tmp_path / "o.txt", delimiter=",")
    assert np.isnan(rows).all(axis=1).tolist() == [False, False, True, True, False]
    assert rows[4] == pytest.approx([tracked(9)["target"].box[0] + 1, 91.5, 20.333, 12])


@pytest.mark.parametrize("names", [("a/b", "c"), ("", "x"), ("..", "y")])
def test_names_that_are_no_file_names_are_numbered(names: tuple[str, str], tmp_path: Path) -> None:
    written = write_results([("otb", tmp_path / "o.txt")], source_frames(TIMES), names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.1.txt", "o.2.txt"]
    assert [Path(file.path).name for file in written] == ["o.1.txt", "o.2.txt"]  # the files that are there are named


def test_coco_is_consistent(tmp_path: Path) -> None:
    """Every id that something refers to is there, as TAO's and COCO's tools index it."""
    write_results([("coco", tmp_path / "o.json")], source_frames(TIMES), NAMES, source="some/clip.mp4")
    data = json.loads((tmp_path / "o.json").read_text())
    known = {kind: {entry["id"] for entry in data[kind]} for kind in ("videos", "images", "tracks", "categories")}
    assert {kind: len(ids) for kind, ids in known.items()} == {
        "videos": 1,
        "images": COUNT,
        "tracks": 2,
        "categories": 1,
    }
    assert len({entry["id"] for entry in data["annotations"]}) == len(data["annotations"]) == 2 * 17
    plural = {"video_id": "videos", "image_id": "images", "track_id": "tracks", "category_id": "categories"}
    for entry in [*data["images"], *data["tracks"], *data["annotations"]]:
        assert all(entry[field] in known[kind] for field, kind in plural.items() if field in entry)
    assert [track["name"] for track in data["tracks"]] == list(NAMES)
    assert data["videos"][0]["name"] == "clip.mp4"
    assert (data["images"][4]["frame_index"], data["images"][4]["width"], data["images"][4]["height"]) == (4, 160, 120)
    annotation = data["annotations"][0]
    assert annotation["bbox"] == list(tracked(0, NAMES)["rabbit"].box)
    assert annotation["area"] == pytest.approx(annotation["bbox"][2] * annotation["bbox"][3])


@pytest.mark.parametrize("kind", ["csv", "jsonl", "coco"])
def test_names_of_files_are_written_whatever_is_in_them(kind: str, tmp_path: Path) -> None:
    names = ["bär 1.png", 'a,"b".png', "new\nline.png", "\udcff.png"]
    frames = [f._replace(file=name) for f, name in zip(source_frames([None] * 4), names, strict=True)]
    write_results([(kind, tmp_path / "o")], frames)
    text = (tmp_path / "o").read_bytes().decode("utf-8", "surrogateescape")
    if kind == "csv":
        found = [row["file"] for row in csv.DictReader(text.splitlines(keepends=True))]
    elif kind == "jsonl":
        found = [json.loads(line)["file"] for line in text.splitlines()]
    else:
        found = [image["file_name"] for image in json.loads(text)["images"]]
    assert found == names


@pytest.mark.parametrize(
    ("before", "kept"), [("", ""), ('{"a": 1}\n', '{"a": 1}\n'), ('{"a": 1}\n{"b": ', '{"a": 1}\n'), ("torn", "")]
)
def test_json_lines_go_on_behind_the_last_whole_line(before: str, kept: str, tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    path.write_text(before)
    with open_outputs([Request("jsonl", str(path), resume_after=-1)]) as outputs:
        for frame in source_frames([0.0, 1.0]):
            outputs.write(frame, tracked(frame.index))
            assert len(path.read_text()[len(kept) :].splitlines()) == frame.index + 1
    assert path.read_text().startswith(kept + '{"frame": 0')


def test_frames_that_json_lines_have_already_are_not_written_again(tmp_path: Path) -> None:
    """A run that goes on tracks its last frame once more, for the other outputs."""
    path = tmp_path / "o.jsonl"
    write_results([("jsonl", path)], source_frames([0.0, 1.0]))
    requests = [Request("jsonl", str(path), resume_after=1), Request("csv", str(tmp_path / "o.csv"))]
    with open_outputs(requests) as outputs:
        for frame in source_frames([1.0, 2.0], indices=[1, 2]):
            outputs.write(frame, tracked(frame.index))
    assert [json.loads(line)["frame"] for line in path.read_text().splitlines()] == [0, 1, 2]
    assert len((tmp_path / "o.csv").read_text().splitlines()) == 3
    with pytest.raises(SourceError, match="only jsonl"):
        open_outputs([Request("csv", str(tmp_path / "o.csv"), resume_after=1)])
