"""A bundle's manifest: read strictly, whoever wrote it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import BundleError, SettingsError
from ..fields import shortened
from ..files import seal_manifest
from ..precision import PRECISIONS
from ..settings import ModelSpec, TrackerSettings, from_json
from .forms import graphs_of
from .self_test import SelfTest

FORMAT = "spm_rt bundle"
FORMAT_VERSION = 2
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
MOST_MANIFEST_BYTES = 1 << 24
MOST_FILE_BYTES = 1 << 33
MOST_TARGETS = 1024
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


class Contents(NamedTuple):
    """What a manifest says.

    Attributes:
        manifest: as JSON types.
        spec: what the network looks like.
        settings: how its maker meant it to be tracked with.
        self_test: a few of the reference's numbers; None in int8 bundles.
        files: size and sha256 of each file, by its name.
    """

    manifest: dict[str, Any]
    spec: ModelSpec
    settings: TrackerSettings
    self_test: SelfTest | None
    files: dict[str, tuple[int, str]]


def read_contents(path: Path) -> Contents:
    """What the manifest ``path`` says, if it is whole and makes sense.

    Raises:
        BundleError: otherwise.
    """
    return contents(path, read_manifest(path))


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest's content, if it is complete, unaltered and of a format that is read here."""
    try:
        if not path.is_file():
            path.stat()  # raises what is the matter
            raise BundleError(f"{path}: no regular file; the folder is no bundle")
        with path.open("rb") as stream:
            raw = stream.read(MOST_MANIFEST_BYTES + 1)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise BundleError(f"{path}: cannot be read ({why}); the folder is no bundle, or not all of one") from error
    return parse_manifest(path, raw)


def parse_manifest(path: Path, raw: bytes) -> dict[str, Any]:
    """The content of a manifest's bytes; ``path`` is for messages."""
    if len(raw) > MOST_MANIFEST_BYTES:
        raise BundleError(f"{path}: over {MOST_MANIFEST_BYTES} bytes, which no manifest has")
    try:
        manifest = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: not JSON, or cut short ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"{path}: not the manifest of an {FORMAT}")
    version = manifest.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise BundleError(
            f"{path}: bundle format {shortened(version)}; this version of spm_rt reads format {FORMAT_VERSION}. "
            f"{_remedy(manifest)}"
        )
    try:
        unaltered = seal_manifest(manifest) == raw
    except (ValueError, RecursionError):  # NaN and the like, which JSON does not have; nested deeply
        unaltered = False
    if not unaltered:
        raise BundleError(f"{path}: altered after export (its own sha256 differs); run spm-export again")
    return manifest


def contents(path: Path, manifest: dict[str, Any]) -> Contents:
    """What is meant by a manifest's content; ``path`` is for messages.

    Raises:
        BundleError: something is missing, or makes no sense.
    """
    try:
        spec = from_json(ModelSpec, manifest["model"])
        settings = from_json(TrackerSettings, manifest["tracker"])
        self_test = SelfTest.from_json(manifest["self_test"], spec.anchor_count) if "self_test" in manifest else None
        files = {name: _file_facts(path, name, facts) for name, facts in manifest["files"].items()}
        precision = manifest["precision"]
        if not isinstance(precision, str) or precision not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise BundleError(f"{path}: precision {shortened(precision)}; this version of spm_rt knows {known}")
        for targets in manifest["graphs"]:
            if not 1 <= int(targets) <= MOST_TARGETS or str(int(targets)) != targets:
                raise BundleError(f"{path}: graphs for {shortened(targets)} targets; 1 to {MOST_TARGETS} are possible")
        if "1" not in manifest["graphs"]:
            raise BundleError(f"{path}: no graphs for one target")
        wanted = [table[stage][form] for table in manifest["graphs"].values() for stage, form in graphs_of(precision)]
        for name in (*wanted, WEIGHTS):
            if name not in files:
                raise BundleError(f"{path}: {shortened(name)} has no entry under files")
    except BundleError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        what = str(error) if isinstance(error, SettingsError) else f"{type(error).__name__}: {_one_line(error)}"
        raise BundleError(f"{path}: incomplete or of another make ({what})") from error
    return Contents(manifest, spec, settings, self_test, files)


def _file_facts(path: Path, name: str, facts: dict[str, Any]) -> tuple[int, str]:
    """Size and sha256 of a file by its entry in the manifest."""
    if not FILE_NAME.fullmatch(name) or name == MANIFEST:
        raise BundleError(f"{path}: {shortened(name)} is not a plain file name")
    size, digest = facts["bytes"], facts["sha256"]
    if type(size) is not int or not 0 <= size <= MOST_FILE_BYTES:
        raise BundleError(f"{path}: {name} has {shortened(size)} bytes; 0 to {MOST_FILE_BYTES} are possible")
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise BundleError(f"{path}: {name} has {shortened(digest)} as its sha256")
    return size, digest


def _remedy(manifest: dict[str, Any]) -> str:
    """What to do about a bundle of another format."""
    version, checkpoint = manifest.get("format_version"), manifest.get("checkpoint")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        return "A newer version of spm_rt wrote it: install that one"
    source = checkpoint.get("source") if isinstance(checkpoint, dict) else None
    made_of = (
        f" with what it was made of ({_one_line(source)})" if source else " with the checkpoint that it was made of"
    )
    return f"Run spm-export again{made_of}"


def _one_line(said: object) -> str:
    return " ".join(str(said).split())[:200]
