"""The engine half of ``spm-export``: ``spm-export BUNDLE --engine ...`` and ``spm-export doctor``."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from spm_rt.bundle import Bundle
from spm_rt.cache.engines import KIND, engine_folder
from spm_rt.errors import EngineError
from spm_rt.store import VARIABLE, cache_folder
from spm_rt.terminal import Progress, format_table, whole_number

from .build import Built, build_engines, stages_for
from .doctor import advise, findings, gpus, libraries
from .toolchain import PACKAGES, BuildOptions

ENGINES = {package: module for module, package in PACKAGES.items()}
"""What ``--engine`` takes, and the library's module."""


OPTIONS = (
    "engine",
    "compute_capability",
    "cache",
    "proposals",
    "tf32",
    "workspace",
    "hardware_compatible",
    "version_compatible",
    "plugin",
    "refuse_stale",
)
"""The options of :func:`add_arguments`, as argparse names them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``spm-export BUNDLE --engine``."""
    group = parser.add_argument_group(
        "engines", "compile a bundle's graphs into the cache of engines (no PyTorch needed); see docs/guide/engines.md"
    )
    group.add_argument(
        "--engine",
        choices=tuple(ENGINES),
        help="build from the bundle given instead of a checkpoint, in its precision (int8 too): tensorrt on the GPU at "
        "hand, tensorrt-rtx anywhere",
    )
    group.add_argument(
        "--compute-capability",
        type=_capabilities,
        default=(),
        metavar="8.6[,12.0...]",
        help="tensorrt-rtx: cards to compile for (default: one portable plan for 8.0 and later)",
    )
    group.add_argument(
        "--cache",
        metavar="FOLDER",
        help=f"keep engines in FOLDER/{KIND}, as with {VARIABLE}=FOLDER (default: the user's cache folder)",
    )
    group.add_argument(
        "--proposals", type=whole_number(1, 64), metavar="K", help="proposals per target (default: the bundle's, 9)"
    )
    group.add_argument("--tf32", action="store_true", help="allow TF32 in float32 engines: faster, less exact")
    group.add_argument(
        "--workspace",
        type=whole_number(0, 1 << 20),
        default=0,
        metavar="MIB",
        help="scratch memory the builder may plan with",
    )
    group.add_argument(
        "--hardware-compatible", action="store_true", help="tensorrt: one plan for compute capability 8.0 and later"
    )
    group.add_argument(
        "--version-compatible", action="store_true", help="tensorrt: a plan that later versions of its major load"
    )
    group.add_argument("--plugin", action="store_true", help="tensorrt 10.9 and later: use the fused RoI plugin")
    group.add_argument(
        "--refuse-stale",
        action="store_true",
        help="stop where a damaged, stale or foreign engine is found, instead of building a fitting one",
    )


def run(options: argparse.Namespace) -> int:
    """Build (or find) the engines of a bundle and print where they are.

    Raises:
        BundleError, EngineError: the bundle cannot be read, or an engine cannot be built; the message says why.
    """
    bundle = _bundle(options.checkpoint)
    same = ("hardware_compatible", "version_compatible", "tf32", "proposals", "plugin")
    given = {name: getattr(options, name) for name in same}
    library, cards, workspace = ENGINES[options.engine], options.compute_capability, options.workspace << 20
    build = BuildOptions(library, cards, workspace=workspace, **given)
    targets = options.targets or bundle.targets
    folder = Path(options.cache) / KIND if options.cache else engine_folder()
    bar = Progress(
        "building engines", sum(len(stages_for(count)) for count in targets), quiet=options.quiet or options.json
    )
    built = build_engines(bundle, build, targets, folder, refuse_stale=options.refuse_stale, step=bar.step)
    bar.close()
    if options.json:
        print(json.dumps({"bundle": str(bundle.path), "cache": str(folder), "engines": [_entry(b) for b in built]}))
    elif not options.quiet:
        print(_table(built))
        for note in dict.fromkeys(note for one in built for note in one.notes):
            print(f"note: {note}")
        print(f"\nengines in {folder}")
    return 0


def doctor(as_json: bool) -> int:
    """Print what is installed, what it can do here, the GPUs, and the advice for them."""
    found, cards = libraries(), gpus()
    advice, seen = advise(cards), findings(cards, found)
    if as_json:
        entries = [dataclasses.asdict(library) for library in found]
        cards_found = [dataclasses.asdict(gpu) for gpu in cards]
        print(json.dumps({"libraries": entries, "gpus": cards_found, "findings": seen, "advice": advice}))
        return 0
    print(format_table(["package", "version", "what for"], [[x.name, x.version or "-", x.purpose] for x in found]))
    print("\n" + "\n".join([*seen, f"engines are kept in {cache_folder(KIND) or 'no folder'}", "", *advice]))
    return 0


def _bundle(given: list[str]) -> Bundle:
    if len(given) != 1 or not (Path(given[0]).is_dir() or given[0].endswith(".zip")):
        what = ", ".join(given) or "nothing"
        raise EngineError(
            "--engine compiles a bundle, the folder that `spm-export ... --out FOLDER` wrote, or the file of `--pack`; "
            f"given was: {what}"
        )
    return Bundle.open(given[0])


def _entry(built: Built) -> dict[str, object]:
    own = {"path": str(built.path), "state": built.state, "seconds": built.seconds, "notes": built.notes}
    return {**own, **dataclasses.asdict(built.facts)}


def _table(built: list[Built]) -> str:
    head = ["engine", "targets", "precision", "target", "library", "MiB", "state", "seconds"]
    rows = [
        [
            b.facts.stage,
            str(b.facts.targets),
            b.facts.precision,
            b.facts.target,
            f"{b.facts.library} {b.facts.version}",
            f"{b.facts.plan_bytes / 2**20:.1f}",
            b.state,
            f"{b.seconds:.1f}",
        ]
        for b in built
    ]
    return format_table(head, rows)


def _capabilities(text: str) -> tuple[tuple[int, int], ...]:
    found = []
    for part in text.split(","):
        major, dot, minor = part.strip().partition(".")
        if not (dot and major.isdigit() and minor.isdigit() and len(minor) == 1):
            raise argparse.ArgumentTypeError(f"{text!r}: compute capabilities such as 8.6, separated by commas")
        found.append((int(major), int(minor)))
    return tuple(found)
