"""Commands run on inputs that were changed at random; a process of its own, since it forks.

``python -m tests.support.processes.mutated KIND --runs 100 --seed 1 --bundle BUNDLE`` prints a summary as JSON, a line
for each kind. The bundle is a real one, of the default weights.
"""

from __future__ import annotations

import argparse
import collections
import gc
import importlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import cv2

import spm_train.run
from spm_export.model.checkpoint import default_weights
from spm_export.pack import pack_bundle
from spm_rt import Bundle, Tracker
from spm_rt.errors import SettingsError
from spm_rt.files import seal_manifest

from ..fakes.backend import bright_frame, bright_tracker
from ..media.clips import write_got10k, write_otb, write_vot
from ..media.films import write_film
from ..synthetic import write_checkpoint
from .forked import Outcome, run_forked
from .mutations import mutated_bytes, mutated_json, mutated_text, mutated_words

PROGRAMS = {
    "spm-track": "spm_rt.cli",
    "spm-export": "spm_export.cli",
    "spm-bench": "spm_bench.cli",
    "spm-train": "spm_train.cli",
}
Command = list[str]
"""A program and its arguments."""
ALLOWED = {0, 1, 2, 130}
FILMS = {"mp4": "libx264", "mkv": "libx264", "mov": "libx264", "ts": "libx264", "flv": "libx264"} | {
    "webm": "libvpx",
    "avi": "mpeg4",
    "gif": "gif",
}
PROGRESS = re.compile(r"\r|^\s*(tracking|exporting|training|verifying)\b|%\|")


def whole_bundle(folder: Path, base: Path, without: str) -> Path:
    """The real bundle, one file of it left out; the files are links."""
    bundle = folder / "bundle"
    bundle.mkdir()
    for path in (base / "bundle").iterdir():
        if path.name != without:
            (bundle / path.name).symlink_to(path.resolve())
    return bundle


def pictures(folder: Path, count: int = 2) -> Path:
    """A few small pictures with something to track at 68, 48."""
    target = folder / "pictures"
    target.mkdir()
    for k in range(count):
        cv2.imwrite(str(target / f"{k}.png"), bright_frame(80 + 2 * k, 60 - k))
    return target


def track(*more: str) -> Command:
    return ["spm-track", "pictures", "--box", "68,48,24,24", "--quiet", *more]


BUNDLE = ("--bundle", "bundle", "--backend", "onnxruntime", "--threads", "1")


def bundle_files(folder: Path, base: Path, rng: Random) -> Command:
    names = sorted(path.name for path in (base / "bundle").iterdir())
    name = rng.choice(names)
    bundle = whole_bundle(folder, base, name)
    pictures(folder)
    if rng.random() < 0.9:
        (bundle / name).write_bytes(mutated_bytes((base / "bundle" / name).read_bytes(), rng))
    backend = rng.choice(("onnxruntime", "onnxruntime", "openvino", "auto"))
    return track("--bundle", "bundle", "--backend", backend, "--threads", "1")


def manifests(folder: Path, base: Path, rng: Random) -> Command:
    """The manifest is sealed again, as somebody would who wants it read."""
    bundle = whole_bundle(folder, base, "manifest.json")
    pictures(folder)
    changed = mutated_json(json.loads((base / "bundle" / "manifest.json").read_bytes()), rng)
    try:
        sealed = seal_manifest(changed)
    except (ValueError, AttributeError, TypeError):  # NaN, or no object at all: cannot be sealed
        sealed = json.dumps(changed).encode()
    (bundle / "manifest.json").write_bytes(sealed)
    return rng.choice((track(*BUNDLE), track(*BUNDLE), ["spm-bench", "count", "bundle", "--json"]))


def packed(folder: Path, base: Path, rng: Random) -> Command:
    """A packed bundle; without its weights it is small, and with them changed it is refused all the same."""
    pictures(folder)
    (folder / "bundle.zip").write_bytes(mutated_bytes((base / "bundle.zip").read_bytes(), rng))
    return track("--bundle", "bundle.zip", "--backend", "onnxruntime", "--threads", "1")


def checkpoints(folder: Path, base: Path, rng: Random) -> Command:
    name = rng.choice(("weights.safetensors", "cm_stage.pt"))
    (folder / name).write_bytes(mutated_bytes((base / name).read_bytes(), rng))
    files = [name] if name != "cm_stage.pt" else [name, str(base / "fm_stage.pt")]
    return ["spm-export", *files, "--save-checkpoint", "converted.safetensors", "--quiet"]


def clip_files(base: Path) -> list[Path]:
    return sorted((base / "clips").iterdir())


def videos(folder: Path, base: Path, rng: Random) -> Command:
    source = rng.choice(clip_files(base))
    changed = folder / f"clip{source.suffix}"
    changed.write_bytes(mutated_bytes(source.read_bytes(), rng))
    if rng.random() < 0.1:
        changed = changed.rename(folder / f"clip{rng.choice(('', '.mp4', '.png', '.txt', '.bin'))}")
    outputs = (["--out", "o.mp4"], ["--sheet", "s.png", "--csv", "o.csv"], ["--jsonl", "-"], [])
    return ["spm-track", changed.name, "--box", "20,20,40,40", "--quiet", *rng.choice(outputs)]


def tables(folder: Path, base: Path, rng: Random) -> Command:
    """Ground truth that is read, and results that a run goes on from."""
    if rng.random() < 0.5:
        writer = rng.choice((write_got10k, write_otb, write_vot))
        clip = writer(folder / "clips" / "a", 3)
        truth = rng.choice([path for path in clip.iterdir() if path.suffix in (".txt", ".label")])
        truth.write_bytes(mutated_text(truth.read_text(), rng))
        if rng.random() < 0.3:
            return ["spm-train", "--data", "got10k:clips", "--out", "run", "--steps", "1", "--init", "none"]
        return ["spm-bench", "accuracy", "clips", "--bundle", "missing"]
    pictures(folder, 4)
    name = rng.choice(("run.csv", "run.jsonl"))
    (folder / name).write_bytes(mutated_text((base / name).read_text(), rng))
    return ["spm-track", "pictures", "--box", "68,48,24,24", "--quiet", f"--{name[4:]}", name, "--resume"]


LINES: tuple[Command, ...] = (
    ["spm-track", "pictures", "--box", "68,48,24,24", "--frames", "2", "--csv", "o.csv", "--sheet", "s.png"],
    ["spm-track", "pictures", "--box", "a=68,48,24,24", "--box", "b=60,40,20,20", "--jsonl", "o.jsonl", "--json"],
    ["spm-track", "clip.mp4", "--box", "20", "20", "40", "40", "--out", "o.mp4", "--start", "1", "--skip", "2"],
    ["spm-track", "pictures", "--first-frame", "first.png"],
    ["spm-export", "missing.pt", "missing2.pt", "--out", "made", "--targets", "1,2", "--opset", "17"],
    ["spm-export", "missing", "--engine", "tensorrt-rtx", "--compute-capability", "8.6", "--workspace", "64"],
    ["spm-export", "clip.mp4", "--save-checkpoint", "saved", "--half"],
    ["spm-bench", "latency", "missing", "--backend", "onnxruntime", "--frames", "3", "--threads", "1"],
    ["spm-bench", "accuracy", "pictures", "--bundle", "missing", "--out", "results"],
    ["spm-bench", "parity", "missing", "onnxruntime", "--frames", "2"],
    ["spm-bench", "count", "missing", "--json"],
    ["spm-train", "--data", "got10k:pictures", "--out", "run", "--steps", "2", "--batch", "2", "--rate", "1e-4"],
)
OPTIONS = sorted({word for line in LINES for word in line if word.startswith("--")} | {"--help", "--quiet", "--show"})


def lines(folder: Path, base: Path, rng: Random) -> Command:
    pictures(folder)
    shutil.copy(base / "clips" / "clip.mp4", folder)
    program, *words = rng.choice(LINES)
    return [program, *mutated_words(words, OPTIONS, rng)]


def make_base(folder: Path, bundle: Path) -> Path:
    """What is changed: a bundle, the same as one file, checkpoints, clips, and the results of a run."""
    (folder / "clips").mkdir(parents=True)
    (folder / "bundle").symlink_to(bundle.resolve())
    (folder / "weights.safetensors").symlink_to(default_weights())
    pack_bundle(Bundle.open(bundle), folder / "bundle.zip")
    # In a child: PyTorch's threads here would be missing, and waited for, in all children.
    run_forked(lambda _: len(write_checkpoint(folder)) - 2, [], folder)
    for name, codec in FILMS.items():
        write_film(
            folder / "clips" / f"clip.{name}", codec, pixels="rgb8" if codec == "gif" else "yuv420p", numbers=range(8)
        )
    for suffix in ("png", "jpg", "tiff", "webp", "bmp"):
        cv2.imwrite(str(folder / "clips" / f"still.{suffix}"), bright_frame(80, 60))
    pictures(folder, 4)
    words = "pictures --box 68,48,24,24 --csv run.csv --jsonl run.jsonl --frames 2 --quiet"
    run_forked(importlib.import_module("spm_rt.cli").main, words.split(), folder)
    return folder


KINDS: dict[str, Callable[[Path, Path, Random], Command]] = {
    "bundles": bundle_files,
    "manifests": manifests,
    "packed": packed,
    "checkpoints": checkpoints,
    "videos": videos,
    "tables": tables,
    "lines": lines,
}
PRELOADED = ("av", "onnxruntime", "spm_export.graphs.builder", "spm_export.model.config", "spm_bench.commands.accuracy")
REAL = {"bundles", "manifests", "packed"}
"""Kinds that load a bundle; to the others, any bundle is a tracker of bright things."""


def complaint(outcome: Outcome) -> str:
    """What is wrong with how a command ended; nothing if it ended as it should."""
    if outcome.status is None:
        return "hangs"
    if outcome.status not in ALLOWED:
        return f"status {outcome.status}"
    if "Traceback (most recent" in outcome.out + outcome.error:
        return "traceback"
    said = [line for line in outcome.error.splitlines() if line.strip() and not PROGRESS.search(line)]
    if outcome.status == 1 and sum(line.startswith("spm-") for line in said) != 1:
        return f"{len(said)} lines instead of one"
    if outcome.status == 2 and not said[-1:]:
        return "nothing said"
    return ""


def fake_load(bundle: Any, *_: Any, settings: Any = None, **__: Any) -> Any:
    if not str(bundle).isprintable():
        raise SettingsError("no such bundle")
    return bright_tracker()


def no_model(*_: Any) -> Any:
    """Training ends where its data have been read."""
    raise SettingsError("no model")


def run(
    kinds: Sequence[str], runs: int, seed: int, bundle: Path, first: int = 0, seconds: float = 60
) -> Iterator[dict[str, Any]]:
    """The summary of each kind: how often each status came, and the commands that ended badly."""
    cv2.setNumThreads(0)  # no pool of threads here, for which children would wait
    load, Tracker.load = Tracker.load, fake_load  # type: ignore[method-assign]
    spm_train.run.initial_model = no_model
    with tempfile.TemporaryDirectory() as top:
        base = make_base(Path(top) / "base", bundle)
        for heavy in PRELOADED:  # once, instead of by every child
            importlib.import_module(heavy)
        gc.collect()
        gc.freeze()  # no child looks among them, and so copies them
        for kind in kinds:
            Tracker.load = load if kind in REAL else fake_load  # type: ignore[method-assign]
            yield _run(kind, runs, seed, base, first, seconds)


def _run(kind: str, runs: int, seed: int, base: Path, first: int, seconds: float) -> dict[str, Any]:
    mains = {program: importlib.import_module(module).main for program, module in PROGRAMS.items()}
    statuses: collections.Counter[str] = collections.Counter()
    problems: list[dict[str, Any]] = []
    for number in range(first, first + runs):
        rng = Random(f"{seed} {kind} {number}")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "work"
            folder.mkdir()
            program, *arguments = KINDS[kind](folder, base, rng)
            outcome = run_forked(mains[program], arguments, folder, seconds)
        statuses[str(outcome.status)] += 1
        if why := complaint(outcome):
            about = {"why": why, "number": number, "command": [program, *(word[:200] for word in arguments)]}
            problems.append(about | {"said": outcome.error[-1500:]})
    return {"kind": kind, "runs": runs, "statuses": dict(statuses), "problems": problems}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", choices=KINDS, nargs="+", metavar="KIND")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bundle", type=Path, required=True)
    options = parser.parse_args(arguments)
    os.environ["SPM_RT_AUTO"] = "fixed"
    bad = False
    for report in run(options.kinds, options.runs, options.seed, options.bundle.resolve(), options.first):
        print(json.dumps(report), flush=True)
        bad |= bool(report["problems"])
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
