"""Many videos: what is refused, what is kept after a stop, and what Ray does when a machine dies."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import psutil
import pytest

from spm_export.cli import DEMO_CLIP
from spm_rt import MultiTracker, TrackerSettings
from spm_rt.errors import SourceError
from spm_rt.files import written_whole
from spm_rt.pipelines.fleet import parts, run, video, workers
from spm_rt.pipelines.fleet.cli import main
from spm_rt.pipelines.fleet.manifest import read_manifest

from ..support.exports import Frames
from ..support.fakes.backend import bright_multi_tracker, moving_disc

parquet = pytest.importorskip("pyarrow.parquet", reason="the extra fleet is not installed")
DISC = "60,40,40,40"


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the pictures of videos a, b and c; what is loaded finds what is bright."""
    for name in "abc":
        (tmp_path / name).mkdir()
        for k, picture in enumerate(moving_disc()):
            cv2.imwrite(str(tmp_path / name / f"{k}.png"), picture)
    bundle = SimpleNamespace(settings=TrackerSettings(), manifest={"manifest_sha256": "0"})
    monkeypatch.setattr(run, "Bundle", SimpleNamespace(of=lambda *_: bundle))
    monkeypatch.setattr(run, "load_backend", lambda *_, **__: SimpleNamespace(name="bright"))
    monkeypatch.setattr(MultiTracker, "load", lambda **_: bright_multi_tracker())
    video._loaded.cache_clear()
    return tmp_path


def manifest(folder: Path, *rows: str) -> str:
    path = folder / "clips.csv"
    path.write_text("\n".join(["video,frame,x,y,width,height,target", *rows]) + "\n")
    return str(path)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in parquet.read_table(path).to_pylist()]


def test_every_video_has_a_part_with_a_row_for_each_target_and_frame(videos: Path, capsys: Any) -> None:
    path = manifest(videos, f"a,0,{DISC},left", f"a,3,{DISC},late", f"b,1,{DISC},")
    assert main([path, "--out", str(videos / "out"), "--json"]) == 0
    rows = rows_of(videos / "out")
    found = {(Path(row["video"]).name, row["target"]) for row in rows}
    assert found == {("a", "left"), ("a", "late"), ("b", "target1")}
    assert [row["frame"] for row in rows if row["target"] == "late"] == [3, 4, 5, 6, 7]
    first, second = (row for row in rows if row["target"] == "target1" and row["frame"] < 3)
    assert ([first[name] for name in ("x", "y", "width", "height")], first["score"]) == ([60, 40, 40, 40], None)
    assert 0 < second["score"] <= 1
    alone = bright_multi_tracker()
    frames = moving_disc()
    id = alone.add(frames[1], (60, 40, 40, 40))
    assert [second[name] for name in ("x", "y", "width", "height")] == list(alone.update(frames[2])[id].box)
    report = json.loads(capsys.readouterr().out)
    assert (report["videos"], report["done"], report["failed"], report["left"]) == (2, 2, 0, 0)


def test_a_run_goes_on_where_one_was_stopped_and_other_work_is_done_anew(
    videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = manifest(videos, *(f"{name},0,{DISC}," for name in "abc")), videos / "out"
    calls: list[str] = []
    real = video.track_video

    def stopped_at_b(work: Any, settings: Any) -> Any:
        calls.append(Path(work.video).name)
        if calls[-1] == "b":
            signal.raise_signal(signal.SIGINT)
        return real(work, settings)

    monkeypatch.setattr(workers, "track_video", stopped_at_b)
    assert main([path, "--out", str(out), "--quiet"]) == 130
    assert [row["frame"] for row in rows_of(out)] == list(range(8))
    assert json.loads((out / "report.json").read_text())["left"] == 2
    monkeypatch.setattr(
        workers, "track_video", lambda work, settings: calls.append(work.video[-1]) or real(work, settings)
    )
    assert main([path, "--out", str(out), "--quiet"]) == 0
    assert calls == ["a", "b", "b", "c"]
    assert len(rows_of(out)) == 24
    assert main([path, "--out", str(out), "--quiet"]) == 0
    assert main([manifest(videos, f"a,1,{DISC},"), "--out", str(out), "--quiet"]) == 0
    assert calls == ["a", "b", "b", "c", "a"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "it has no rows"),
        (["a,0,1,2,3,4,", "none,0,1,2,3,4,"], "line 3: .*none: no such file"),
        ([f"a,0,{DISC},", f"a,0,{DISC},other"], "line 3: this target of .*a stands there already"),
        ([f"a,0,{DISC},x", "a,0,1,2,3,4,x"], "line 3: this target"),
        (["a,0,1,2,0,4,"], "line 2: .*empty or inverted"),
        (["a,0,1,2,nan,4,"], "line 2: .*finite"),
        (["a,0,1,2,3,,"], "line 2: could not convert"),
        (["a,-1,1,2,3,4,"], "line 2: frame -1"),
        (["a,0.5,1,2,3,4,"], "line 2: frame 0.5"),
        ([",0,1,2,3,4,"], "line 2: there is no video"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused_with_its_line(videos: Path, rows: list[str], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read_manifest(manifest(videos, *rows))


@pytest.mark.parametrize("text", ["{", "[1]", '{"video": "a"}', '{"video": "a", "frame": 0, "x": null, "y": 0}'])
def test_json_lines_are_read_and_refused_as_tables_are(videos: Path, text: str) -> None:
    path = videos / "clips.jsonl"
    row = {"video": "a", "frame": 0, "x": 60, "y": 40, "width": 40, "height": 40}
    path.write_text(json.dumps(row) + "\n")
    assert read_manifest(path)[0].part == read_manifest(manifest(videos, f"a,0,{DISC},"))[0].part
    path.write_text(json.dumps(row) + "\n" + text + "\n")
    with pytest.raises(SourceError, match=r"clips\.jsonl"):
        read_manifest(path)


def test_what_is_wrong_with_one_video_is_told_and_the_others_are_done(videos: Path, capsys: Any) -> None:
    (videos / "text.mp4").write_text("no video")
    path = manifest(videos, f"a,0,{DISC},", "b,0,500,500,40,40,", f"c,70,{DISC},", f"text.mp4,0,{DISC},")
    assert main([path, "--out", str(videos / "out")]) == 1
    said = capsys.readouterr().err
    for text in ("b: box x=500", "it has no frame 70", "text.mp4: cannot be opened"):
        assert text in said
    assert len(list((videos / "out").glob("*.parquet"))) == 1
    assert json.loads((videos / "out" / "report.json").read_text())["failed"] == 3


def test_a_full_disk_ends_the_run_in_one_line_and_what_was_done_is_whole(
    videos: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    real, written = written_whole, []

    def full_at_the_second(path: Path) -> Any:
        written.append(path)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        return real(path)

    monkeypatch.setattr(parts, "written_whole", full_at_the_second)
    path = manifest(videos, f"a,0,{DISC},", f"b,0,{DISC},")
    assert main([path, "--out", str(videos / "out"), "--quiet"]) == 1
    assert "b-" in (said := capsys.readouterr().err)
    assert "cannot be written (No space left on device)" in said
    assert len(rows_of(videos / "out")) == 8


def test_ray_of_this_machine_is_on_loopback_alone_and_leaves_with_the_command(
    videos: Path, default_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the extra fleet is not installed")
    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", raising=False)
    path = manifest(videos, f"a,0,{DISC},", *(f"{DEMO_CLIP},0,{50 + 40 * k},100,40,40,{k}" for k in range(8)))
    words = [path, "--out", "out", "--workers", "1", "--bundle", str(default_bundle), "--backend", "onnxruntime"]
    with psutil.Popen([sys.executable, "-m", "spm_rt.pipelines.fleet.cli", *words], cwd=videos) as command:
        deadline = time.monotonic() + 150
        while not list(videos.glob("out/*.parquet")) and time.monotonic() < deadline:
            assert command.poll() is None
            time.sleep(0.05)
        started = command.children(recursive=True)
        sockets = [one for process in (command, *started) for one in process.net_connections("inet")]
        addresses = {end.ip.removeprefix("::ffff:") for one in sockets for end in (one.laddr, one.raddr) if end}
        command.terminate()
        assert command.wait(60) == 143
    assert addresses == {"127.0.0.1"}
    assert len(started) > 2
    assert not psutil.wait_procs(started, timeout=20)[1]
    assert [row["frame"] for row in rows_of(videos / "out")] == list(range(8))
    assert json.loads((videos / "out" / "report.json").read_text())["left"] == 1


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Ray on three nodes of this machine, one processor each."""
    given = {"AUTH_MODE": "disabled", "USAGE_STATS_ENABLED": "0", "raylet_start_wait_time_s": "120"}
    given["ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # on every system, this binds to 127.0.0.1
    for name, value in given.items():
        monkeypatch.setenv(f"RAY_{name}", value)
    pytest.importorskip("ray", reason="the extra fleet is not installed")
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 << 20}
    made = Cluster(initialize_head=True, head_node_args=node)
    for _ in range(2):
        made.add_node(**node)
    ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR)
    yield made
    ray.shutdown()
    made.shutdown()


def test_a_machine_that_dies_costs_no_row_and_none_comes_twice(
    cluster: Any, default_bundle: Path, clip: Frames, tmp_path: Path
) -> None:
    for k in range(5):
        (tmp_path / f"v{k}").mkdir()
        for index in range(3):
            cv2.imwrite(str(tmp_path / f"v{k}" / f"{index}.png"), clip[8 * k + index])
    path = manifest(tmp_path, *(f"v{k},0,{185 + 4 * k},150,57,72," for k in range(5)))
    works = read_manifest(path)
    settings = {"bundle": str(default_bundle), "backend": "onnxruntime", "threads": 1}
    marks, go_on = tmp_path / "marks", tmp_path / "go_on"
    marks.mkdir()

    def marked(work: Any, settings: Any) -> Any:
        import time  # it runs in another process
        from pathlib import Path as File

        import ray

        from spm_rt.pipelines.fleet.video import track_video

        File(marks, f"{ray.get_runtime_context().get_node_id()}-{File(work.video).name}").touch()
        while not go_on.exists():  # all three nodes have begun with one
            time.sleep(0.05)
        return track_video(work, settings)

    victim = cluster.list_all_nodes()[2]
    outcomes = workers.on_ray(works, settings, 3, marked)

    def kill_in_the_middle() -> None:
        deadline = time.monotonic() + 100
        while not list(marks.glob(f"{victim.node_id}-*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        cluster.remove_node(victim, allow_graceful=False)
        go_on.touch()

    killer = threading.Thread(target=kill_in_the_middle)
    killer.start()
    done = {work.video: outcome for work, outcome in outcomes}
    killer.join()
    assert {video: type(outcome) for video, outcome in done.items()} == {work.video: dict for work in works}
    begun = [mark.name.partition("-")[2] for mark in marks.iterdir()]
    assert len(begun) > len(set(begun)) == len(works)  # the victim's video was begun again elsewhere
    for work, outcome in workers.here(works, settings):
        assert not isinstance(outcome, Exception)
        assert done[work.video]["columns"] == outcome["columns"]  # type: ignore[index]
        assert outcome["columns"]["frame"] == [0, 1, 2]
