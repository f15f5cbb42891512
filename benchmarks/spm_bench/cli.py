"""``spm-bench``: measurements of bundles and trackers."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from spm_rt import __version__
from spm_rt.terminal import join_boxes, run_command, say

from .options import Outcome
from .report.files import json_text

COMMANDS = {
    "latency": "frames per second of the whole tracker, stage by stage, backends side by side",
    "profile": "operator by operator, where a graph's time goes, and the machine's peak beside it",
    "sweep": "speed against drift over backends, precisions, threads and targets: plot and page",
    "targets": "what a target costs where several are followed in one call",
    "parity": "two backends box by box, or one against recorded reference data",
    "host": "crop, proposals and fusion, over sizes of frames and targets",
    "count": "multiply-adds of a bundle's graphs, layer by layer",
    "accuracy": "one-pass evaluation on clips with ground truth, several trackers in one run",
    "ablate": "stages, number of proposals, proposal recall: the paper's own questions",
    "gpu": "kernels, backends and several targets on a GPU, checked and timed",
    "lost": "how well scores tell lost from found, and whether a lost target is found again",
}

EPILOG = """examples:
  spm-bench latency spm_alexnet --against torch            exported tracker beside the PyTorch reference
  spm-bench profile spm_alexnet --backend openvino         operators, and the share of the machine's peak
  spm-bench sweep spm_alexnet spm_int8 --out sweep         which backend and precision: a page to send to somebody
  spm-bench targets spm_many                               the cost of each further target
  spm-bench parity torch onnxruntime                       the same boxes?
  spm-bench parity my_bundle --reference shapes.npz        against recorded data of the authors' release
  spm-bench count spm_alexnet                              multiply-adds per layer
  spm-bench accuracy OTB --opencv csrt,kcf --out results   success and precision, tables and plots
  spm-bench ablate OTB                                     what each stage and each proposal brings
  spm-bench gpu spm_alexnet --out gpu.json                 everything that wants a GPU
  spm-bench lost CLIPS                                     when to believe that the target is lost

`spm-bench COMMAND --help` has the options of each. Exit status: 0 done, 1 refused or a check failed (the message says
which), 2 wrong usage, 130 interrupted. docs/reference/benchmarks.md explains what is measured and how.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see ``--help``."""
    return run_command("spm-bench", lambda: _main(join_boxes(arguments)), extra="bench")


def _main(arguments: Sequence[str]) -> int:
    options = make_parser(arguments).parse_args(arguments)
    outcome: Outcome = options.run(options)
    print(json_text(outcome.report).rstrip() if getattr(options, "json", False) else outcome.text())
    if outcome.message:
        say(f"spm-bench: {outcome.message}")
    return 0 if outcome.passed else 1


def make_parser(arguments: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """The parser; only the named command's module is imported, all of them where none is named."""
    words = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="spm-bench",
        description="Measure SPM-Tracker bundles.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"spm-rt {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        if words and words[0] == name:
            module = importlib.import_module(f"spm_bench.commands.{name}")
            command.description, command.epilog = module.DESCRIPTION, module.EPILOG
            module.add_options(command)
            command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
