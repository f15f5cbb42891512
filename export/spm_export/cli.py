"""``spm-export``: from a checkpoint to a verified bundle."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spm_engines import cli as command
from spm_rt.errors import ExportError, SpmError
from spm_rt.media.video import frames
from spm_rt.precision import PRECISIONS, precision_argument
from spm_rt.results import Box
from spm_rt.settings import MODES, ModelSpec, TrackerSettings
from spm_rt.terminal import Progress, format_table, parse_box

if TYPE_CHECKING:
    from .model.network import SPMTracker

DEMO_CLIP = Path(__file__).parent / "data" / "bunny.mp4"
DEMO_BOX: Box = (193.0, 158.0, 57.0, 72.0)

EPILOG = """examples:
  spm-export --out spm_alexnet                                the shipped weights
  spm-export cm_stage.pt fm_stage.pt --out spm_alexnet        the official layout
  spm-export cm_stage.pt fm_stage.pt --config alexnet_c42_otb.yaml --out spm_otb
  spm-export mine.safetensors --targets 1,4,16 --out spm_mine
  spm-export --precision int8 --calibration OTB --out spm_int8   on clips of the kind that it will meet
  spm-export cm_stage.pt fm_stage.pt --save-checkpoint mine.safetensors --half
  spm-export mine.safetensors --save-checkpoint official/     writes cm_stage.pt and fm_stage.pt there
  spm-export --precision float16 --targets 1,4,16 --out spm_fp16  for GPUs
  spm-export spm_fp16 --engine tensorrt                       engines for the GPU at hand, into the user's cache
  spm-export spm_fp16 --engine tensorrt-rtx --compute-capability 8.6,12.0
  spm-export spm_int8 --engine tensorrt-rtx                   engines of the bundle's own precision, int8 here
  spm-export doctor                                           what is installed here, and which backend to take

A bundle is written only if every output of every graph agrees with the PyTorch reference, and the exported tracker
follows the reference box by box over a clip. It takes about half a minute on two cores. Exit status: 0 written,
1 refused (the message says why), 2 wrong usage.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.checkpoint == ["doctor"]:
        return command.doctor(options.json)
    if options.engine and (options.out or options.save_checkpoint or options.precision):
        parser.error("--engine compiles a bundle that is there: no --out, --save-checkpoint or --precision with it")
    if options.engine:
        return _guarded(command.run, options)
    if not options.out and not options.save_checkpoint:
        parser.error("give --out FOLDER (a bundle), --save-checkpoint PATH (converted weights), or both")
    return _guarded(run, options)


def _guarded(what: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    try:
        return what(options)
    except SpmError as error:
        print(f"spm-export: {error}", file=sys.stderr)
        return 1


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spm-export",
        description="Export an SPM-Tracker checkpoint as a verified bundle "
        "of ONNX graphs, which the runtime tracks with without PyTorch.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoint",
        nargs="*",
        help="cm_stage.pt fm_stage.pt, or one .safetensors; none for the weights shipped with the package; "
        "with --engine: a bundle",
    )
    parser.add_argument("--out", metavar="FOLDER", help="the bundle's folder; an older bundle there is replaced")
    parser.add_argument(
        "--config", metavar="YAML", help="a configuration of the release (both of its layouts are read)"
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
        "default: the clip of --clip. A few dozen frames of each are used",
    )
    parser.add_argument("--clip", metavar="VIDEO", help="video or folder to verify on (default: the shipped clip)")
    parser.add_argument("--box", type=parse_box, metavar="X,Y,W,H", help="the target in the clip's first frame")
    parser.add_argument(
        "--save-checkpoint",
        metavar="PATH",
        help="write the weights as PATH.safetensors, or into a folder in the official layout",
    )
    parser.add_argument("--half", action="store_true", help="with --save-checkpoint: float16 safetensors")
    command.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    parser.add_argument("--quiet", action="store_true", help="no progress, no table")
    return parser


def run(options: argparse.Namespace) -> int:
    """Convert, export or both, as the options say."""
    # PyTorch and ONNX take seconds to import: not before --help and usage errors are dealt with.
    try:
        from .graphs.builder import OPSETS
        from .model.checkpoint import load_model, save_checkpoint
        from .model.config import load_config
    except ModuleNotFoundError as error:
        raise ExportError(f"{error.name} is not installed: pip install 'spm-rt[export]'") from error

    precision = options.precision or "float32"
    if options.opset is None:
        options.opset = PRECISIONS[precision].lowest_opset
    if options.opset not in OPSETS:
        raise ExportError(f"--opset {options.opset}: {OPSETS[0]} to {OPSETS[-1]} can be written")
    if bool(options.clip) != bool(options.box):
        raise ExportError("--clip and --box go together")
    spec, settings = load_config(options.config) if options.config else (ModelSpec(), TrackerSettings())
    if options.mode:
        settings = dataclasses.replace(settings, mode=options.mode)
    model = load_model(options.checkpoint, spec)
    report: dict[str, object] = {}
    if options.save_checkpoint:
        written = save_checkpoint(model, options.save_checkpoint, half=options.half)
        report["checkpoint"] = [str(path) for path in written]
        if not (options.quiet or options.json):
            print("wrote " + ", ".join(str(path) for path in written))
    if options.calibration and precision != "int8":
        raise ExportError("--calibration is for --precision int8")
    if options.out:
        report.update(_export(model, settings, precision, options))
    if options.json:
        print(json.dumps(report, indent=1))
    return 0


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
        bar = Progress("calibrating", calibration_steps(len(clips)), quiet=options.quiet)
        calibration = calibrate(model, settings, clips, lambda: bar.step(""))
        bar.close()
    what = ExportOptions(settings, options.opset, options.targets or (1,), source, precision, calibration)
    bar = Progress("exporting", export_steps(what, len(clip)), quiet=options.quiet)
    verification = export_bundle(model, options.out, what, clip, box, clip_name, bar.step).to_json()
    bar.close()
    quantization = {"quantization": calibration.to_json()} if calibration else {}
    if not (options.quiet or options.json):
        if calibration:
            print(calibration_table(calibration.to_json()) + "\n")
        print(verification_table(verification))
        print(f"\nwrote {options.out}")
    return {"bundle": str(options.out), **verification, **quantization}


def verification_table(found: dict[str, Any]) -> str:
    """The verification for people."""
    rows = [
        [
            c["variant"],
            c["stage"],
            c["tensor"],
            f"{c['worst']:.1e}",
            f"{c['mean']:.1e}",
            f"{c['tolerance']:.0e} {c['kind']}",
            "ok" if c["passed"] else "FAILED",
        ]
        for c in found["tensors"]
    ]
    table = format_table(["graphs", "stage", "output", "worst error", "mean error", "allowed", ""], rows)
    return "\n\n".join([table, *(_track_line(found, name) for name in ("track", "portable_track") if name in found)])


def _track_line(found: dict[str, Any], name: str) -> str:
    track = found[name]
    which = "exported tracker" if name == "track" else "exported tracker with the portable graphs (TensorRT's)"
    return (
        f"{track['clip']}, {track['frames']} frames, {which} against reference, frame by frame: "
        f"mean IoU {track['mean_iou']:.6f}, lowest {track['min_iou']:.6f}; centres apart {track['mean_distance']:.4f} "
        f"px on average, {track['max_distance']:.4f} px at most; mean IoU running freely {track['free_iou']:.6f}"
    )


def calibration_table(found: dict[str, Any]) -> str:
    """What rounding each layer alone does, for people."""
    rows = [
        [d["layer"], f"{d['overlap']:.4f}", f"{d['score']:.4f}", "int8" if d["chosen"] else "float32"]
        for d in found["layers"]
    ]
    return format_table(["layer", "IoU with float32", "score change", "computes in"], rows)


def _targets(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        numbers = (0,)
    if not all(1 <= n <= 64 for n in numbers):
        raise argparse.ArgumentTypeError(f"{text!r}: whole numbers from 1 to 64, separated by commas")
    return numbers


if __name__ == "__main__":
    sys.exit(main())
