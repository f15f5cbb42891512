"""``spm-fleet``: thousands of videos, as many at a time as there are workers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ... import __version__
from ...backends import BACKENDS
from ...settings import MODES
from ...terminal import WHICH_BUNDLE, default_bundle, run_command, whole_number

EPILOG = """examples:
  spm-fleet clips.csv --out results                       in this process, one video after the other
  spm-fleet clips.csv --out results --workers 4           four at a time, on this machine (needs Ray)
  spm-fleet clips.csv --out results --workers 64 --address ray://head:10001

MANIFEST has a row for each target: the columns video, frame (its first one), x, y, width, height, and target, a name,
if a video has several; as CSV, or as JSON lines with these keys. Videos are found from the manifest's folder, by every
machine. The results of a video are one Parquet file in FOLDER, whole or not at all; a run leaves out those that are
there, so that the same command goes on after any stop. A video whose worker dies is begun again, from its start.

Exit status: 0 every video has results, 1 an error (the messages say which), 2 wrong usage, 130 Ctrl-C, 143 SIGTERM.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """``spm-fleet``; returns the exit status."""
    return run_command("spm-fleet", lambda: _main(arguments), extra="fleet")


def _main(arguments: Sequence[str] | None) -> int:
    options = make_parser().parse_args(arguments)
    from .run import run

    return run(options)


def make_parser() -> argparse.ArgumentParser:
    """The options of ``spm-fleet``."""
    parser = argparse.ArgumentParser(
        prog="spm-fleet",
        description="Follow the targets of many videos, and keep the results as Parquet.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"spm-rt {__version__}")
    parser.add_argument("manifest", metavar="MANIFEST", help="CSV or JSON lines: video, frame, x, y, width, height")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where the Parquet files and report.json go")
    parser.add_argument(
        "--workers",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="videos at the same time, by Ray; 0, the default: one, in this process",
    )
    parser.add_argument("--address", metavar="ADDRESS", help="a Ray cluster; by default Ray is started on this machine")
    parser.add_argument(
        "--bundle",
        default=default_bundle(),
        metavar="FOLDER",
        help=f"what spm-export wrote, on every machine {WHICH_BUNDLE}",
    )
    parser.add_argument("--backend", choices=["auto", *BACKENDS], default="auto", help="inference library")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default cpu)")
    parser.add_argument(
        "--threads", type=whole_number(1), metavar="N", help="per worker (default: its share of this machine's cores)"
    )
    parser.add_argument("--mode", choices=MODES, help="which stages decide (default: as the bundle says)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON on standard output")
    parser.add_argument("--quiet", action="store_true", help="no progress, no summary; warnings and errors only")
    return parser


if __name__ == "__main__":
    sys.exit(main())
