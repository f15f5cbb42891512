"""``spm-train``: from data sets to a checkpoint."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from spm_rt import __version__
from spm_rt.errors import SourceError
from spm_rt.machine import let_threads_sleep
from spm_rt.models import MODELS
from spm_rt.precision import precision_argument
from spm_rt.terminal import format_table, real_number, run_command, say, whole_number

from .config import AugmentConfig, LossConfig, ObjectiveConfig, SamplingConfig, TrainConfig
from .data import READERS
from .presets import PRESETS

NUMBERS: dict[str, Callable[[str], float]] = {
    "rate": real_number(0, 1, above=True, below=True),
    "weight_decay": real_number(0, 1),
    "ema": real_number(0, 1, below=True),
    "warmup": whole_number(0),
    "seed": whole_number(0),
    "held_out_every": whole_number(0),
    "shift": real_number(0, 271),
    "whole_shift": real_number(0, 271),
    "aspect_limit": real_number(0, 2),
    "wide_aspect_limit": real_number(0, 2),
    "clip": real_number(above=True),
    "distractors": whole_number(0, 4),
    "crossed": whole_number(0, 64),
    "near": whole_number(1, 64),
    "proposed": whole_number(1, 64),
}
"""Options whose numbers have other limits than 1 or more (whole ones), 0 or more."""

KEEPING = {"validate_every", "validation_samples", "save_every"}
"""Settings of :class:`.TrainConfig` that say what is measured and saved, and when."""

EPILOG = """data sets (--data, as often as you like):
  got10k:FOLDER            GOT-10k: clips with groundtruth.txt; FOLDER is the set, its train or val, or any part
  coco:INSTANCES.json      COCO; pictures in ../train2017 and the like, or coco:INSTANCES.json,PICTURES
  vid:FOLDER               ImageNet VID: FOLDER holds Annotations and Data; every third frame is used
  packed-stills:FOLDER     images.bin and index.jsonl
  packed-video:FOLDER      frames.bin and tracks.json

examples:
  spm-train --data got10k:/data/got10k/train --data coco:/data/coco/annotations/instances_train2017.json \\
            --data vid:/data/ILSVRC2015 --out run --init none --backbone alexnet.npz --steps 200000 --batch 128
  spm-train --data packed-stills:stills --data packed-video:video --out run --steps 3000
  spm-train ... --out run --preset h200 --minutes 20 --batch 64    a recipe, changed by the options beside it
  spm-train ... --preset h200 --throughput        samples a second, of a minute: before you rent a GPU for hours
  spm-train ... --preset graded --init run/best.safetensors --validate --validation-samples 1024    where it is weak
  spm-train ... --out run --resume                go on after a kill: same samples, same losses
  spm-train ... --out run2 --init run/last.safetensors --search-side 271 --steps 300 --rate 5e-5
  spm-export run/best.safetensors --out bundle    use what came out

presets: h200 is how the weights of 27 November 2026 were made in nine minutes of one H200: by the clock, all layers
trained, 207 pixels, then whole crops, shares of the data sets it had. For longer runs give --minutes or --steps (with
--minutes 0), and --save-every, since its short run saves no state. light_heads, then light, make the light model on one
core of a CPU in three hours: heads on a frozen backbone (with --init none --backbone lite0.npz), then what it learns
with most of its backbone (with --init HEADS/last.safetensors).

how long, how much: one sample is a template and a search crop, compared with two templates. Two quiet cores with
bfloat16 (Zen 4, Sapphire Rapids) do 10 samples a second or more, half of that without; --throughput says it of yours.
A few thousand steps of 16 improve the shipped weights. Tens of thousands of steps of 128 on real data make a tracker
of the paper's kind; that needs a GPU, and one of the H100 class is kept busy by about 16 worker processes. Memory:
2 GB, and 40 MB per sample of the batch, 0.7 GB for each worker with the packed sets, and --picture-memory once; of the
GPU: 3 GB, and 40 MB per sample. Disk: 0.4 GB for the state, 54 MB for each checkpoint.

OUT gets state.pt (to resume), last.safetensors and best.safetensors (averaged weights, float16), pictures/ (held-out
samples at every validation: truth green, coarse stage blue, both stages red) and log.jsonl. A run may be killed at any
moment. Exit status: 0 done, 1 refused or failed (the message says why), 2 wrong usage, 130 interrupted.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see ``--help``."""
    let_threads_sleep()
    return run_command("spm-train", lambda: _main(arguments), extra="train")


def _main(arguments: Sequence[str] | None) -> int:
    options = parse_options(arguments)
    try:
        return run(options)
    except KeyboardInterrupt:
        say(f"spm-train: --resume goes on from {options.out}/state.pt, if it was saved already")
        raise


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, with a preset's values where they are not given."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.preset:
        parser.set_defaults(**PRESETS[options.preset])
        options = parser.parse_args(arguments)
    if options.out == "":
        parser.error("argument --out: give a folder")
    if options.resume and not options.out:
        parser.error("argument --resume: goes on with the run of --out")
    return options


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spm-train",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train an SPM-Tracker: both stages at once, on pairs of one object, of one category and of\n"
        "different categories (2 : 1 : 1), with the four losses of the paper.",
    )
    parser.add_argument("--version", action="version", version=f"spm-rt {__version__}")
    parser.add_argument("--data", action="append", required=True, metavar="KIND:PATH", help="a data set, see below")
    one = parser.add_mutually_exclusive_group(required=True)
    one.add_argument("--out", metavar="FOLDER", help="where everything goes")
    measured = "measure samples a second for so long (60 if no number is given): data, training step, both; no training"
    one.add_argument(
        "--throughput", type=real_number(above=True), nargs="?", const=60.0, metavar="SECONDS", help=measured
    )
    judged = (
        "measure the weights of --init on held-out samples (--validation-samples), by clip and data set; no training"
    )
    one.add_argument("--validate", action="store_true", help=judged)
    recipe = "options of a recipe, see below; those given beside it win"
    parser.add_argument("--preset", choices=sorted(PRESETS), help=recipe)
    parser.add_argument("--resume", action="store_true", help="go on from FOLDER/state.pt if it is there")
    share = "a set that is not named gets the square root of its number of clips or pictures"
    parser.add_argument(
        "--weights",
        default="",
        metavar="NAME=SHARE[,...]",
        help=f"how often to draw from a data set (; between them where names have commas); {share}",
    )
    _add_options(parser, SamplingConfig, "held_out_every")
    start = parser.add_argument_group("where to start")
    weights = "a .safetensors, cm_stage.pt and fm_stage.pt, or none for random weights (default: the shipped weights)"
    start.add_argument("--init", nargs="+", default=[], metavar="WEIGHTS", help=weights)
    start.add_argument("--model", choices=sorted(MODELS), help="what is trained (default: what --init is)")
    imagenet = "the backbone's layers from this file (conv1.weight, ...; stem.weight, blocks.0.0.depthwise.weight, ...)"
    start.add_argument("--backbone", metavar="NPZ", help=imagenet)
    schedule = parser.add_argument_group("schedule")
    _add_options(schedule, TrainConfig, *(_names(TrainConfig) - KEEPING))
    schedule.add_argument("--train-shallow", action="store_true", help="train the backbone's first layers too")
    samples = parser.add_argument_group("samples")
    _add_options(samples, SamplingConfig, "template_side", "search_side", "max_gap", "beside")
    _add_options(samples, AugmentConfig, *_names(AugmentConfig))
    samples = parser.add_argument_group("boxes and losses")
    _add_options(samples, ObjectiveConfig, *_names(ObjectiveConfig))
    _add_options(samples, LossConfig, *(_names(LossConfig) - {"overlap"}))
    weight = "weight of 1 - GIoU beside the paper's losses; 0: the paper's alone (default %(default)s)"
    samples.add_argument(
        "--overlap-loss", dest="overlap", type=real_number(), default=LossConfig.overlap, metavar="W", help=weight
    )
    target_alone = "coarse stage: only the target is a positive"
    samples.add_argument("--no-generalised", dest="generalised", action="store_false", help=target_alone)
    _add_machine(parser.add_argument_group("machine"))
    return parser


def _add_machine(machine: argparse._ArgumentGroup) -> None:
    machine.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")
    machine.add_argument(
        "--precision",
        type=lambda text: text if text == "auto" else precision_argument(text),
        choices=("auto", "bfloat16", "float32"),
        default="auto",
        help="auto: bfloat16 where the device has it in hardware",
    )
    workers = "processes that prepare samples; 0: none (default: 1 on a CPU, with cuda one per core)"
    machine.add_argument("--workers", type=whole_number(0, 1024), help=workers)
    machine.add_argument("--threads", type=whole_number(1, 4096), help="of the CPU (default: all cores)")
    ending = "save the state and end there; --resume goes on"
    machine.add_argument("--stop-after", type=real_number(above=True), metavar="MINUTES", help=ending)
    memory = "memory for decoded pictures, which workers share; 0: decode them each time (default %(default)s)"
    machine.add_argument("--picture-memory", type=real_number(), default=3.0, metavar="GB", help=memory)
    _add_options(machine, TrainConfig, *KEEPING)
    machine.add_argument("--json", action="store_true", help="print a summary as JSON on standard output")
    machine.add_argument("--quiet", action="store_true", help="no progress")


def _names(config: type[Any]) -> set[str]:
    """Fields of a data class that are options with a number."""
    return {f.name for f in dataclasses.fields(config) if f.metadata and not isinstance(f.default, bool)}


def _add_options(group: argparse._ActionsContainer, config: type[Any], *names: str) -> None:
    """Options that take a number, with the names, defaults and meanings of fields of a data class."""
    for field in dataclasses.fields(config):
        if field.name in names:
            group.add_argument(
                "--" + field.name.replace("_", "-"),
                type=NUMBERS.get(field.name) or _number(field),
                default=field.default,
                **field.metadata,
            )


def _number(field: dataclasses.Field[Any]) -> Callable[[str], float]:
    if field.metadata["metavar"] == "SHARE":
        return real_number(0, 1)
    return whole_number() if str(field.type) == "int" else real_number()


def run(options: argparse.Namespace) -> int:
    # PyTorch takes seconds to import: not before --help and usage errors are dealt with.
    from .run import measure, train, validate_weights

    options.data = parse_data(options.data)
    options.suggested = isinstance(options.weights, dict)  # by a preset
    options.weights = options.weights if options.suggested else parse_weights(options.weights)
    if options.throughput:
        rates = measure(options)
        print(json.dumps(rates, indent=1) if options.json else "\n".join(f"{k}: {v}" for k, v in rates.items()))
        return 0
    if options.validate:
        found = validate_weights(options)
        print(json.dumps(found, indent=1) if options.json else as_table(found))
        return 0
    summary = train(options)
    if options.json:
        print(json.dumps(summary, indent=1))
    elif not options.quiet:
        held_out = (
            "held-out: top coarse box's IoU {top_overlap:.3f}, IoU after both stages {fine_overlap:.3f}, "
            "fine stage's AUC {fine_auc:.3f}, correlation of its score with IoU {fine_correlation:.3f}; "
        )
        text = "{steps} steps, {minutes:.1f} minutes; " + (held_out if "fine_auc" in summary else "") + "wrote {last}"
        print(text.format_map(summary))
    return 0


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Figures of all held-out samples and of each part, those with most wrong proposals first."""
    whole, *parts = rows
    parts.sort(key=lambda row: (-row["wrong"] * (row["wrong_passed"] or 0), -row["wrong"], row["part"]))
    names = ("top_overlap", "fine_overlap", "fine_auc", "fine_correlation")
    columns = ["", "samples", "coarse IoU", "IoU", "fine AUC", "correlation", "wrong", "passed"]
    lines = []
    for row in (whole, *parts):
        shown = ["-" if row[name] is None else f"{row[name]:.3f}" for name in names]
        passed = "-" if row["wrong_passed"] is None else f"{row['wrong_passed']:.1%}"
        lines.append([row["part"], f"{row['samples']}", *shown, f"{row['wrong']}", passed])
    return format_table(columns, lines) + (
        "\n\nwrong: proposals beside the target (IoU under 0.1) that the coarse stage is sure of (score over 0.5);"
        "\npassed: share of these whose fine score is over 0.5 too"
    )


def parse_data(values: Sequence[str]) -> list[tuple[str, list[Path]]]:
    """``KIND:PATH[,PATH]`` as kinds and paths."""
    parsed = []
    for value in values:
        kind, _, rest = value.partition(":")
        if kind not in READERS or not rest:
            raise SourceError(f"--data {value}: give KIND:PATH, with a KIND of {', '.join(READERS)}")
        paths = [Path(p) for p in (rest.split(",") if kind == "coco" else [rest])]
        if not paths[0].exists():
            raise SourceError(f"--data {value}: {paths[0]} does not exist")
        parsed.append((kind, paths))
    return parsed


def parse_weights(text: str) -> dict[str, float]:
    """``NAME=SHARE,...`` as a dictionary; a name may hold commas if the entries are separated by ``;``."""
    shares: dict[str, float] = {}
    for entry in (e for e in text.split(";" if ";" in text else ",") if e.strip()):
        name, _, share = entry.rpartition("=")
        try:
            shares[name.strip()] = float(share)
        except ValueError:
            raise SourceError(
                f"--weights: {entry!r} is not NAME=SHARE; put ; between them where names have commas"
            ) from None
        if not name.strip() or not 0 <= shares[name.strip()] < float("inf"):
            raise SourceError(f"--weights: {entry!r} is not NAME=SHARE with a share of 0 or more")
    return shares


if __name__ == "__main__":
    sys.exit(main())
