"""``spm-bench sweep``: which combinations there are, what is written, and a small one from end to end."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import spm_bench
from spm_bench.commands.sweep import all_combinations, all_groups
from spm_bench.report.page import Page
from spm_bench.report.plots import pareto_front, plot_pareto
from spm_bench.report.sweep_report import FLOOR, write_report
from spm_rt.bundle import Bundle
from spm_rt.errors import BackendError

from ..support.bench import bench_report

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def bundles(default_bundle: Path) -> tuple[Bundle, Bundle]:
    """A float32 bundle, and one that says it is of int8."""
    plain = Bundle.open(default_bundle)
    manifest = {**plain.manifest, "precision": "int8"}
    return plain, dataclasses.replace(plain, path=plain.path.with_name("small"), manifest=manifest)


def test_combinations(bundles: tuple[Bundle, Bundle]) -> None:
    plain, small = bundles
    backends, precisions = ["onnxruntime", "openvino"], ["bfloat16", "float32"]
    combinations = all_combinations([small, plain], backends, precisions, [2, 1], [1, 4])
    names = [combination.name for combination in combinations]
    assert names[0] == f"onnxruntime@{plain.path.name}, 2 threads"
    assert len(set(names)) == len(names) == (2 * 2 + 2) * 2 * 2
    assert f"openvino:bfloat16@{plain.path.name}, 1 thread, 4 targets" in names
    assert "openvino, 2 threads" in names
    by_name = {combination.name: combination for combination in combinations}
    assert by_name["openvino, 2 threads"].entry.precision == "int8"
    assert by_name["openvino, 2 threads"].entry.asked is None
    assert not any("bfloat16" in name and "@" not in name for name in names)


def test_no_float32_no_reference(bundles: tuple[Bundle, Bundle]) -> None:
    plain, small = bundles
    with pytest.raises(BackendError, match="name a float32 bundle"):
        all_combinations([small], ["onnxruntime"], ["float32"], [1], [1])
    with pytest.raises(BackendError, match="name a float32 bundle"):
        all_combinations([plain], ["onnxruntime"], ["bfloat16"], [1], [1])
    with pytest.raises(BackendError, match="latency --against torch"):
        all_combinations([plain], ["torch"], ["float32"], [1], [1])
    with pytest.raises(BackendError, match="same name"):
        all_combinations([plain, plain], ["onnxruntime"], ["float32"], [1], [1])


def test_groups_have_one_number_of_threads(bundles: tuple[Bundle, Bundle]) -> None:
    combinations = all_combinations(bundles[:1], ["onnxruntime", "openvino"], ["float32"], [1, 2], [1, 2])
    groups = all_groups(combinations, 2)
    assert [len(group) for group in groups] == [2, 1, 2, 2]  # the reference is in every group by itself
    assert sorted(c.name for group in groups for c in group) == sorted(c.name for c in combinations[1:])
    assert all(len({combination.threads for combination in group}) == 1 for group in groups)
    assert all_groups(combinations[:1], 4) == [[]]


def test_the_front_is_what_nothing_beats() -> None:
    exact = [("slow exact", 1.0, 0.0), ("fast exact", 2.0, 0.0)]
    points = [*exact, ("faster", 3.0, 0.1), ("worse", 2.5, 0.2), ("twin", 3.0, 0.1)]
    assert [name for name, _, _ in pareto_front(points)] == ["fast exact", "faster", "twin"]


@pytest.mark.parametrize("floor", [1e-7, None])
def test_plot(tmp_path: Path, floor: float | None) -> None:
    points = [("a", 1.0, 3.0), ("b", 2.0, 12.0)]
    path = plot_pareto(tmp_path / "p.png", points, best=["a"], title="t", x="x", y="y", floor=floor)
    assert path.read_bytes().startswith(PNG)


def test_the_models_picture_is_drawn_from_recorded_figures(tmp_path: Path) -> None:
    benchmarks = Path(spm_bench.__file__).parent.parent
    figures = benchmarks / "results" / "2026-11-light" / "models.csv"
    script = [sys.executable, str(benchmarks / "plot_models.py"), str(figures), str(tmp_path / "models.png")]
    subprocess.run(script, check=True, timeout=120)
    assert (tmp_path / "models.png").read_bytes().startswith(PNG)


class Reader(HTMLParser):
    """Tags that are open, and what the page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources += [str(value) for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


def test_a_page_is_whole_and_escapes(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(PNG)
    page = Page("a <b> & c", "sub")
    page.verdict("INVALID: 1 < 2", False)
    page.heading("h")
    page.table(["name", "x"], [["<script>", "1.5x"], ["b", "-"]], best=[True, False])
    page.facts({"k": "v"})
    page.code("spm-bench sweep 'a b'")
    page.picture(tmp_path / "p.png", 'say "what"')
    text = page.text()
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert "<script>" in reader.cells
    assert "<script>" not in text
    assert len(reader.sources) == 1
    assert reader.sources[0].startswith("data:image/png;base64,")
    assert not re.search(r"https?://", text)
    assert '<td class="number">1.5x</td>' in text


def _figures(speed: float, drift: float, targets: int = 1) -> dict[str, Any]:
    return {
        "speed": speed,
        "ratio_spread": [speed, speed],
        "p50_ms": 10.0 * targets,
        "ms_per_target": 10.0,
        "p99_over_p50": 1.1,
        "host_ms": 1.0,
        "drift": drift,
        "lowest_iou": 0.99,
        "center_px": None,
        "free_iou": None,
        "frames": 50,
        "targets": targets,
        "within_bound": drift < 0.1,
    }


def test_a_report_names_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spm_bench.timing.machine import describe_machine

    monkeypatch.setattr("sys.argv", ["spm-bench", "sweep", "a b", "--out", "x"])
    choices = {
        "slow": _figures(1, 0),
        "fast": _figures(3, 0.02),
        "wild": _figures(9, 0.5),
        "slow, 4 targets": _figures(1.2, 0, 4),
    }
    report = {
        "choices": choices,
        "refused": {"odd": "it will not"},
        "reference": "slow",
        "clip": "c",
        "started": "then",
        "block": 10,
        "frame_size": [640, 360],
        "bundles": {"b": {"precision": "float32", "checkpoint": "0" * 64}},
        "machine": describe_machine(),
        "noise": {"calibration_spread": 0.01},
        "best": ["slow", "fast"],
        "verdict": {"valid": True, "reasons": []},
    }
    written = write_report(report, tmp_path)
    assert sorted(path.name for path in written) == ["pareto.png", "results.json", "sweep.html", "targets.png"]
    text = (tmp_path / "sweep.html").read_text(encoding="utf-8")
    written_out = ("spm-bench sweep &#x27;a b&#x27; --out x", "2.0e-02", f"&lt; {FLOOR:g}", "100.0%")
    for word in ("VALID", "fast", "<td>over</td>", "odd", "it will not", *written_out, report["machine"]["cpu"]):
        assert word in text
    assert text.index("<td>fast</td>") < text.index("<td>slow</td>")  # the fastest first
    reader = Reader()
    reader.feed(text)
    assert len(reader.sources) == 2
    assert json.loads((tmp_path / "results.json").read_text())["command"] == "spm-bench sweep 'a b' --out x"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_from_end_to_end(default_bundle: Path, tmp_path: Path) -> None:
    words = "--backend onnxruntime --threads 1 --targets 1 2 --frames 2 --drift-frames 3 --pause 0"
    out = ("--precision float32 bf16 --out", tmp_path / "out")
    report = bench_report("sweep", default_bundle, words, *out, status=1)  # INVALID: two frames
    assert report["reference"] == "onnxruntime, 1 thread"
    assert list(report["choices"]) == ["onnxruntime, 1 thread", "onnxruntime, 1 thread, 2 targets"]
    assert set(report["refused"]) == {"onnxruntime:bfloat16, 1 thread", "onnxruntime:bfloat16, 1 thread, 2 targets"}
    one, two = report["choices"].values()
    assert one["drift"] == 0
    assert two["drift"] < 1e-5
    assert two["within_bound"]
    assert report["best"] == ["onnxruntime, 1 thread"]
    assert two["speed"] == pytest.approx(2 * one["p50_ms"] / two["p50_ms"], rel=1e-6)
    assert "only 2 frames" in report["verdict"]["reasons"][0]
    assert (tmp_path / "out" / "sweep.html").is_file()
