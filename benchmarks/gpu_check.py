"""Runs ``spm-bench gpu`` from a checkout, installed or not: ``python benchmarks/gpu_check.py BUNDLE``."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), *(str(HERE.parent / folder) for folder in (".", "engines", "export"))]

from spm_bench.cli import main  # noqa: E402 - found by the line above

if __name__ == "__main__":
    sys.exit(main(["gpu", *sys.argv[1:]]))
