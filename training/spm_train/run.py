"""A run from its options to its summary: readers, samplers, model, trainer, log and progress."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import torch

from spm_export.model.checkpoint import load_model
from spm_export.model.network import SPMTracker
from spm_export.model.pretrained import load_backbone
from spm_rt.errors import BackendError, CheckpointError, SettingsError
from spm_rt.machine import instruction_sets, usable_cores
from spm_rt.models import MODELS
from spm_rt.terminal import Progress, say, say_left_out

from .config import AugmentConfig, LossConfig, ObjectiveConfig, SamplingConfig, TrainConfig
from .data import READERS
from .data.kept import KeptPictures
from .data.loading import batches
from .data.sampling import PairSampler
from .objective.pairs import Batch
from .throughput import measure_throughput
from .trainer import Trainer, autocast
from .validation import validate_parts

FILES = ("state.pt", "last.safetensors", "best.safetensors", "log.jsonl", "pictures")
"""What a run writes into its folder."""


def initial_model(files: Sequence[str], backbone: str | None, name: str | None = None) -> SPMTracker:
    """The model to start from: given weights, the shipped ones, or random ones; a backbone's from a file if given.

    Args:
        files: of :func:`spm_export.model.checkpoint.load_model`, or ``none`` alone; none for the shipped weights.
        backbone: an npz file of the backbone's ImageNet weights.
        name: of the model, where it is made anew or starts from shipped weights.
    """
    spec = MODELS[name] if name else None
    if list(files) == ["none"]:
        torch.manual_seed(0)
        model = SPMTracker(spec)
    else:
        model = load_model(list(files), None if files else spec)
        if spec is not None and model.spec != spec:
            raise CheckpointError(f"{' + '.join(files) or 'the shipped weights'}: not of the model {name}")
    if backbone:
        load_backbone(model, backbone)
    return model.eval()


def pick_device(name: str) -> torch.device:
    """``auto``, or a device by name that is really there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BackendError(f"--device {name}: not available ({str(error).splitlines()[0]})") from error
    return device


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is computed in hardware: then it is about twice as fast as float32, elsewhere slower."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return not instruction_sets().isdisjoint({"avx512_bf16", "amx_bf16"})


def make_config(options: argparse.Namespace, device: torch.device) -> TrainConfig:
    """The options that a run's results depend on; each has the name of its setting."""

    def filled(config: type[Any], **others: object) -> Any:
        names = {field.name for field in dataclasses.fields(config)}
        return config(**{name: value for name, value in vars(options).items() if name in names}, **others)

    bf16 = has_bf16(device) if options.precision == "auto" else options.precision == "bfloat16"
    objective = filled(ObjectiveConfig, loss=filled(LossConfig))
    sampling = filled(SamplingConfig, augment=filled(AugmentConfig))
    config: TrainConfig = filled(TrainConfig, bf16=bf16, objective=objective, sampling=sampling)
    return config


def check_folder(folder: Path, resume: bool) -> None:
    """Refuse a folder where files would be replaced that are not of the run that goes on.

    Raises:
        SettingsError: there is another run in it, something else by one of its names, or no folder can be made there.
    """
    try:
        there = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
        nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
            raise NotADirectoryError(errno.EACCES, f"{nearest} is no folder that can be written to")
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be made or read ({error.strerror})") from error
    ours = [name for name in FILES if name in there]
    if "state.pt" in ours and not resume:
        raise SettingsError(f"{folder}: there is a run in it; --resume goes on with it, or give another --out")
    # A run that was killed before it saved its first state has left a log, and perhaps weights.
    if ours and "state.pt" not in ours and not (resume and _is_log(folder / "log.jsonl")):
        raise SettingsError(f"{folder}: {', '.join(ours)} there would be lost; move them, or give another --out")


def _is_log(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as stream:
            return "kind" in json.loads(stream.readline())
    except (OSError, ValueError, TypeError):
        return False


def make_trainer(options: argparse.Namespace) -> tuple[Trainer, list[str]]:
    """A trainer as the options say, and a line for each thing that its data sets left out.

    ``data`` are kinds and paths, ``weights`` a dictionary, which may name data sets that are not there if it is
    ``suggested``.
    """
    cores = usable_cores()
    torch.set_num_threads(options.threads or cores)
    cv2.setNumThreads(1)
    device = pick_device(options.device)
    readers = [READERS[kind](*paths[:2]) for kind, paths in options.data]
    if options.suggested:
        there = {instance.data_set for reader in readers for instance in reader.instances}
        options.weights = {name: share for name, share in options.weights.items() if name in there}
    config = make_config(options, device)
    left_out = [f"{reader.name}: {line}" for reader in readers for line in reader.left_out]
    say_left_out(left_out)
    model = initial_model(options.init, options.backbone, options.model)
    config.check_sides(model.spec)
    kept, room = [], int(options.picture_memory * 1e9)
    for reader in readers:
        kept.append(KeptPictures(reader, room))
        room -= kept[-1].size
    sampler = PairSampler(kept, config.sampling, model.spec, config.seed)
    say_shares(sampler.shares, config.sampling.weights)
    held_out = None
    if config.sampling.held_out_every > 0:
        held_out = PairSampler(kept, config.sampling, model.spec, 1000, held_out=True)
    workers = options.workers if options.workers is not None else (1 if device.type == "cpu" else cores)
    return Trainer(
        model, config, sampler, held_out, Path(options.out or ""), device, workers, options.init == ["none"]
    ), left_out


def say_shares(shares: Mapping[str, float], named: Mapping[str, float]) -> None:
    """What data sets without a share get beside those with one: a single clip may outweigh all that are named."""
    unnamed = sorted(((share, name) for name, share in shares.items() if name not in named), reverse=True)
    if named and unnamed:
        listed = ", ".join(f"{name} {share:.1%}" for share, name in unnamed[:5])
        whole = sum(share for share, _ in unnamed)
        say(f"data sets without a share get {whole:.1%} of the samples ({listed}): name them in --weights")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Samples a second of a run as the options say; nothing is written."""
    return measure_throughput(make_trainer(options)[0], options.throughput)


def validate_weights(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Figures of the weights that a run would start from, on held-out samples: all, then each part; nothing is written.

    A part is a clip, or a data set of stills.

    Raises:
        SettingsError: nothing is held out.
    """
    trainer, _ = make_trainer(options)
    held_out, config = trainer.held_out, trainer.config
    if held_out is None:
        raise SettingsError("--validate: nothing is held out (--held-out-every 0)")
    size, count = config.validation_batches
    progress = Progress("validating", count, quiet=options.quiet or options.json)

    def part(instance: int) -> str:
        about = held_out.entries[instance].instance
        return f"{about.data_set}: {about.group}" if len(about.pictures) > 1 else about.data_set

    def one_by_one() -> Iterator[Batch]:
        for batch in batches(held_out, size, 0, count, trainer.workers, torch.device("cpu")):
            yield batch
            progress.step("")

    try:
        with autocast(trainer.device, config.bf16):
            whole, parts = validate_parts(trainer.model, one_by_one(), trainer.device, part)
    finally:
        progress.close()
    rows = [{"part": "all", **whole._asdict()}, *({"part": name, **found._asdict()} for name, found in parts.items())]
    return [{name: _number_or_none(value) for name, value in row.items() if name != "score"} for row in rows]


def _number_or_none(value: Any) -> Any:
    """JSON has no NaN, which a correlation with values that are all alike is."""
    return None if isinstance(value, float) and math.isnan(value) else value


def train(options: argparse.Namespace) -> dict[str, Any]:
    """Train as the options say; the summary."""
    started = time.monotonic()
    folder = Path(options.out)
    check_folder(folder, options.resume)
    trainer, left_out = make_trainer(options)
    config, sampler = trainer.config, trainer.sampler
    if options.resume:
        trainer.resume()
    first = trainer.step
    folder.mkdir(parents=True, exist_ok=True)
    total = None if config.minutes else config.steps - first
    log = _Log(folder / "log.jsonl", Progress("training", total, quiet=options.quiet or options.json))
    try:
        trainer.run(log, started + 60 * options.stop_after if options.stop_after else math.inf, started)
    finally:
        log.close()
    summary: dict[str, Any] = {
        "steps": trainer.step,
        "first_step": first,
        "samples": (trainer.step - first) * config.batch,
        "pairs": (trainer.step - first) * config.batch * 2,
        "minutes": (time.monotonic() - started) / 60,
        "device": str(trainer.device),
        "bf16": config.bf16,
        "data_sets": sampler.set_names,
        "objects": len(sampler.entries),
        "left_out": left_out,
        "losses": log.running,
        "last": str(folder / "last.safetensors"),
        "best_score": trainer.best,
    }
    if trainer.history:
        summary |= {k: v for k, v in trainer.history[-1].items() if k != "step"}
        summary["best"] = str(folder / "best.safetensors")
    return summary


class _Log:
    """Every step as a line of JSON, running means on the terminal."""

    def __init__(self, path: Path, progress: Progress) -> None:
        broken = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        self._file = path.open("a", encoding="utf-8")
        if broken:  # killed in the middle of a line
            self._file.write("\n")
        self._progress = progress
        self._validation = ""
        self.running: dict[str, float] = {}

    def __call__(self, event: dict[str, Any]) -> None:
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()
        if event["kind"] == "validation":
            self._validation = f"held-out IoU {event['fine_overlap']:.3f} AUC {event['fine_auc']:.3f}"
            return
        for name in ("total", "coarse_class", "coarse_box", "fine_class", "fine_box", "top_overlap"):
            self.running[name] = 0.97 * self.running.get(name, event[name]) + 0.03 * event[name]
        mean = self.running
        self._progress.step(
            f"loss {mean['total']:.3f} = {mean['coarse_class']:.3f} {mean['coarse_box']:.3f} "
            f"{mean['fine_class']:.3f} {mean['fine_box']:.3f}  {self._validation}"
        )

    def close(self) -> None:
        self._progress.close()
        self._file.close()
