"""``spm-export BUNDLE --triton REPOSITORY``."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from ...bundle import Bundle
from ...errors import BundleError
from ...terminal import real_number, whole_number
from .repository import Serving, write_repository

OPTIONS = ("triton", "triton_backend", "triton_threads", "triton_sequences", "triton_batch", "triton_idle")
"""The options of :func:`add_arguments`, as argparse names them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``spm-export BUNDLE --triton``."""
    group = parser.add_argument_group(
        "Triton", "write models for NVIDIA's Triton Inference Server (no PyTorch needed); see docs/guide/pipelines.md"
    )
    group.add_argument("--triton", metavar="FOLDER", help="write the models of a bundle into this model repository")
    first = Serving()
    group.add_argument(
        "--triton-backend",
        default=first.backend,
        metavar="NAME",
        help=f"inference library of the tracker (default {first.backend}: the fastest where Triton runs)",
    )
    for name, kind, words in (
        ("threads", whole_number(0), "threads per inference call (default 0: all usable cores)"),
        ("sequences", whole_number(1), f"sequences at the same time (default {first.sequences}); others wait"),
        ("batch", whole_number(1), f"requests in one execution (default {first.batch})"),
        ("idle", real_number(0, 86400, above=True), f"seconds until an idle sequence ends (default {first.idle:g})"),
    ):
        group.add_argument(f"--triton-{name}", type=kind, default=getattr(first, name), metavar="N", help=words)


def run(options: argparse.Namespace) -> int:
    """Write the repository; returns the exit status."""
    if len(options.checkpoint) != 1:
        raise BundleError("--triton takes one bundle: spm-export BUNDLE --triton FOLDER")
    names = [field.name for field in dataclasses.fields(Serving) if f"triton_{field.name}" in options]
    serving = Serving(**{name: getattr(options, f"triton_{name}") for name in names})
    written = write_repository(Bundle.open(options.checkpoint[0]), Path(options.triton), serving)
    if options.json:
        print(json.dumps({"bundle": options.checkpoint[0], "models": [str(path) for path in written]}, indent=1))
    elif not options.quiet:
        print("wrote " + ", ".join(str(path) for path in written))
    return 0
