"""``spm-export``: from a checkpoint to a verified bundle."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spm_engines import cli as command
from spm_rt import __version__
from spm_rt.bundle import Bundle
from spm_rt.errors import ExportError
from spm_rt.machine import let_threads_sleep
from spm_rt.media.video import frames
from spm_rt.models import CROPS, MODELS
from spm_rt.pipelines.triton import options as triton
from spm_rt.precision import PRECISIONS, precision_argument
from spm_rt.results import Box
from spm_rt.settings import MODES, ModelSpec, TrackerSettings
from spm_rt.terminal import Progress, join_boxes, parse_box, run_command, whole_number

from .pack import check_archive_place, pack_bundle
from .place import check_place
from .tables import calibration_table, verification_table

if TYPE_CHECKING:
    from .model.network import SPMTracker

DEMO_CLIP = Path(__file__).parent / "data" / "bunny.mp4"
DEMO_BOX: Box = (193.0, 158.0, 57.0, 72.0)

FOR_BUNDLES = ("mode", "precision", "opset", "calibration", "clip", "box")
"""Options that say how a bundle is written."""

EPILOG = """examples:
  spm-export --out spm_alexnet                                the shipped weights
  spm-export cm_stage.pt fm_stage.pt --out spm_alexnet        the official layout
  spm-export cm_stage.pt fm_stage.pt --config alexnet_c42_otb.yaml --out spm_otb
  spm-export mine.safetensors --targets 1,4,16 --out spm_mine
  spm-export --precision int8 --calibration OTB --out spm_int8   on clips of the kind that it will meet
  spm-export cm_stage.pt fm_stage.pt --save-checkpoint mine.safetensors --half
  spm-export mine.safetensors --save-checkpoint official/     writes cm_stage.pt and fm_stage.pt there
  spm-export --out spm_alexnet --pack spm_alexnet.zip         and the same as one file, to be published
  spm-export spm_alexnet --pack spm_alexnet.zip               a bundle that is there; needs no PyTorch
  spm-export --precision float16 --targets 1,4,16 --out spm_fp16  for GPUs
  spm-export spm_fp16 --engine tensorrt                       engines for the GPU at hand, into the user's cache
  spm-export spm_fp16 --engine tensorrt-rtx --compute-capability 8.6,12.0
  spm-export spm_alexnet --triton models/                     a model repository for NVIDIA's Triton server
  spm-export doctor                                           what is installed here, and which backend to take

A bundle is written only if every output of every graph agrees with the PyTorch reference, and the exported tracker
follows the reference box by box over a clip: 75 seconds of processor time on a Zen 4, 110 with --targets 1,2, and
minutes with more targets or with --precision int8.

Exit status: 0 written, 1 refused (the message says why), 2 wrong usage, 130 interrupted (143 by SIGTERM); what was
there before is replaced when all is done, or stays.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see ``--help``."""
    let_threads_sleep()
    return run_command("spm-export", lambda: _main(join_boxes(arguments)), extra="export")


def _main(arguments: Sequence[str]) -> int:
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.checkpoint == ["doctor"]:
        return command.doctor(options.json)
    if wrong := misplaced(parser, options):
        parser.error(wrong)
    if options.engine or options.triton:
        return command.run(options) if options.engine else triton.run(options)
    return run(options) if options.out or options.save_checkpoint else run_pack(options)


def misplaced(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    """What is wrong about options that would do nothing beside the others; empty if nothing is."""

    def given(names: Sequence[str]) -> str:
        flags = (n for n in names if getattr(options, n) != parser.get_default(n))
        return ", ".join("--" + n.replace("_", "-") for n in flags)

    others = ("out", "pack", "save_checkpoint", "half", "config", "model", "crop", *FOR_BUNDLES)
    for name, names, more in (("engine", command.OPTIONS, ["triton"]), ("triton", triton.OPTIONS, ["targets"])):
        if getattr(options, name):
            wrong = given([*others, *more])
            return f"--{name} takes a bundle that is there: {wrong} cannot go with it" if wrong else ""
        if wrong := given(names[1:]):
            return f"{wrong}: only with --{name}"
    if not (options.out or options.save_checkpoint or options.pack):
        return "give --out FOLDER (a bundle), --save-checkpoint PATH (converted weights), or both"
    if options.crop and options.save_checkpoint and not str(options.save_checkpoint).endswith(".safetensors"):
        return "--crop: the official layout does not keep it; with --save-checkpoint PATH.safetensors"
    if options.model and options.checkpoint:
        return "--model: only for the weights that come with the package; a checkpoint says which model it is"
    if options.half and not str(options.save_checkpoint or "").endswith(".safetensors"):
        return "--half: only with --save-checkpoint PATH.safetensors"
    if not options.out and options.pack and options.save_checkpoint:
        return "--pack: with --out FOLDER, or with a bundle alone"
    packed = ("config", "model", "crop", "targets", *FOR_BUNDLES) if options.pack else FOR_BUNDLES
    if not options.out and (wrong := given(packed)):
        return f"{wrong}: only with --out FOLDER"
    return ""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spm-export",
        description="Export an SPM-Tracker checkpoint as a verified bundle "
        "of ONNX graphs, which the runtime tracks with without PyTorch.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"spm-rt {__version__}")
    parser.add_argument(
        "checkpoint",
        nargs="*",
        help="cm_stage.pt fm_stage.pt, or one file with both stages (of PyTorch or safetensors); none for the default "
        "weights; with --engine, --triton, or --pack alone: a bundle",
    )
    parser.add_argument(
        "--out",
        type=_path,
        metavar="FOLDER",
        help="the bundle's folder; an older bundle there is replaced, and nothing else ever",
    )
    parser.add_argument(
        "--pack",
        type=_path,
        metavar="FILE.zip",
        help="the bundle as one file too, which spm_rt opens as it does the folder",
    )
    _add_bundle_options(parser)
    parser.add_argument(
        "--save-checkpoint",
        type=_path,
        metavar="PATH",
        help="write the weights as PATH.safetensors, or into a folder in the official layout",
    )
    parser.add_argument("--half", action="store_true", help="with --save-checkpoint: float16 safetensors")
    command.add_arguments(parser)
    triton.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    parser.add_argument("--quiet", action="store_true", help="no progress, no table")
    return parser


def _add_bundle_options(parser: argparse.ArgumentParser) -> None:
    """How a bundle is written."""
    which = "whose weights to export where no checkpoint is given (default alexnet): light is for CPUs"
    parser.add_argument("--model", choices=sorted(MODELS), help=which)
    parser.add_argument(
        "--config",
        metavar="YAML",
        help="a configuration of the release (both of its layouts are read); the default weights have one of their own",
    )
    parser.add_argument(
        "--crop",
        type=whole_number(1),
        metavar="SIDE",
        help="side of the crops in pixels, if less than the checkpoint's: as many times faster as there are fewer "
        "pixels, and blind to what is further away from the target's last place (light model: 255, 223 or 191, and 223 "
        "by default with the shipped weights; AlexNet: 255, 239, 223 or 207)",
    )
    parser.add_argument("--mode", choices=MODES, help="which stages decide (default: the configuration's)")
    parser.add_argument(
        "--precision",
        type=precision_argument,
        choices=tuple(PRECISIONS),
        help="float16, bfloat16 (or fp16, bf16): type of the graphs' tensors, for GPUs; int8: search and relation in "
        "int8, for CPUs and for TensorRT engines, where layers that lose accuracy stay float32 (default float32)",
    )
    parser.add_argument("--opset", type=int, help="ONNX operator set, 17 to 23 (default 17; with bfloat16, 22)")
    parser.add_argument(
        "--targets",
        type=_targets,
        metavar="N[,N...]",
        help="also write graphs for N targets at once (default 1); with --engine: which of the bundle's (default all)",
    )
    parser.add_argument(
        "--calibration",
        metavar="FOLDER",
        help="with int8: clips with ground truth (OTB, GOT-10k, VOT or packed layout); "
        "default: the clip of --clip. 12 frames of up to 16 of them are followed; ranges, and factors that balance the "
        "channels of a layer, are those with which rounding changes its outputs least; clips that nobody scores on",
    )
    parser.add_argument("--clip", metavar="VIDEO", help="video or folder to verify on (default: the shipped clip)")
    parser.add_argument("--box", type=parse_box, metavar="X,Y,W,H", help="the target in the clip's first frame")


def run(options: argparse.Namespace) -> int:
    """Convert, export or both, as the options say."""
    # PyTorch and ONNX take seconds to import: not before --help and usage errors are dealt with.
    from .graphs.builder import OPSETS
    from .model.checkpoint import check_target, default_weights, load_model, save_checkpoint
    from .model.config import load_config
    from .model.network import with_crop

    if options.out:
        check_place(Path(options.out))
    if options.pack:
        check_archive_place(Path(options.pack))
    if options.save_checkpoint:
        check_target(options.save_checkpoint, options.checkpoint)
    precision = options.precision or "float32"
    options.opset = PRECISIONS[precision].lowest_opset if options.opset is None else options.opset
    if options.opset not in OPSETS:
        raise ExportError(f"--opset {options.opset}: {OPSETS[0]} to {OPSETS[-1]} can be written")
    if options.calibration and precision != "int8":
        raise ExportError("--calibration is for --precision int8")
    if bool(options.clip) != bool(options.box):
        raise ExportError("--clip and --box go together")
    shipped = None if options.checkpoint else MODELS[options.model or "alexnet"]
    config = options.config or (None if options.checkpoint else default_weights(shipped).with_suffix(".yaml"))
    spec, settings = load_config(config) if config else (ModelSpec(), TrackerSettings())
    if options.mode:
        settings = dataclasses.replace(settings, mode=options.mode)
    model = load_model(options.checkpoint, shipped if spec == ModelSpec() else spec)  # or what the checkpoint says
    if options.crop:
        model = with_crop(model, options.crop)
    report: dict[str, object] = {}
    if options.save_checkpoint:
        written = save_checkpoint(model, options.save_checkpoint, half=options.half)
        report["checkpoint"] = [str(path) for path in written]
        if not (options.quiet or options.json):
            print("wrote " + ", ".join(str(path) for path in written))
    if not options.crop and options.model in CROPS:
        model = with_crop(model, CROPS[options.model])
    if options.out:
        report.update(_export(model, settings, precision, options))
    if options.pack:
        report["packed"] = str(_pack(options.out, options))
    if options.json:
        print(json.dumps(report, indent=1))
    return 0


def run_pack(options: argparse.Namespace) -> int:
    """Pack a bundle that is there."""
    if len(options.checkpoint) != 1:
        raise ExportError("--pack without --out FOLDER takes one bundle: spm-export BUNDLE --pack FILE.zip")
    if (given := Path(options.checkpoint[0])).is_file() and given.suffix != ".zip":
        raise ExportError(f"{given}: no bundle; to export a checkpoint and pack the bundle, give --out FOLDER too")
    written = _pack(options.checkpoint[0], options)
    if options.json:
        print(json.dumps({"bundle": options.checkpoint[0], "packed": str(written)}, indent=1))
    return 0


def _pack(bundle: str, options: argparse.Namespace) -> Path:
    written = pack_bundle(Bundle.open(bundle), Path(options.pack))
    if not (options.quiet or options.json):
        print(f"wrote {written} ({written.stat().st_size / 1e6:.0f} MB)")
    return written


def _export(
    model: SPMTracker, settings: TrackerSettings, precision: str, options: argparse.Namespace
) -> dict[str, object]:
    """Write the bundle, calibrated before if it is of int8; returns the report."""
    from .bundle import ExportOptions, export_bundle, export_steps
    from .calibration import calibrate, calibration_clips, calibration_steps

    path, box = options.clip or DEMO_CLIP, options.box or DEMO_BOX
    clip, clip_name = list(frames(path)), Path(path).name
    source = " + ".join(Path(p).name for p in options.checkpoint) or "the weights shipped with spm_rt"
    calibration = None
    if precision == "int8":
        own = [(clip_name, lambda: clip, box)]
        clips = calibration_clips(options.calibration) if options.calibration else own
        bar = Progress("calibrating", calibration_steps(model, len(clips)), quiet=options.quiet)
        calibration = calibrate(model, settings, clips, lambda: bar.step(""))
        bar.close()
    what = ExportOptions(settings, options.opset, options.targets or (1,), source, precision, calibration)
    bar = Progress("exporting", export_steps(what, len(clip)), quiet=options.quiet)
    verification = export_bundle(model, options.out, what, clip, box, clip_name, bar.step).to_json()
    bar.close()
    # Not the calibration from above: where boxes drifted, layers went back to float32.
    quantization = {name: found for name, found in Bundle.open(options.out).manifest.items() if name == "quantization"}
    if not (options.quiet or options.json):
        if quantization:
            print(calibration_table(quantization["quantization"]) + "\n")
        print(verification_table(verification))
        print(f"\nwrote {options.out}")
    return {"bundle": str(options.out), **verification, **quantization}


def _path(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty name")
    return text


def _targets(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and 1 <= int(part) <= 64 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: whole numbers from 1 to 64, separated by commas")
    return tuple(sorted({int(part) for part in parts}))


if __name__ == "__main__":
    sys.exit(main())
