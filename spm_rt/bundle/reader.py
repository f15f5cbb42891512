"""A bundle: the folder that ``spm-export`` writes and the runtime reads. docs/reference/bundle.md describes the format.

Reading is strict. The manifest must be byte for byte what its own digest says, and every file must have the size and
sha256 that the manifest names; whatever differs is named in a :class:`~spm_rt.errors.BundleError`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from ..errors import BundleError, SettingsError
from ..files import file_digest, seal_manifest
from ..precision import PRECISIONS
from ..settings import ModelSpec, TrackerSettings, check_settings, from_json
from .forms import FORMS, forms_of, graphs_of, own_form
from .self_test import SelfTest

FORMAT = "spm_rt bundle"
FORMAT_VERSION = 2
MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A bundle whose files have been verified.

    Attributes:
        path: the folder.
        manifest: the manifest's content, as JSON types.
        spec: what the network looks like.
        settings: how its maker meant it to be tracked with.
        self_test: a few of the reference's numbers, for engines to be compared with; None in int8 bundles.
    """

    path: Path
    manifest: dict[str, Any]
    spec: ModelSpec
    settings: TrackerSettings
    self_test: SelfTest | None = dataclasses.field(default=None, repr=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Read and verify a bundle.

        Raises:
            BundleError: the folder or a file is missing, altered or cut short, or of a format that is not read here.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise BundleError(f"{folder}: no such bundle folder; `spm-export --out {folder}` makes one")
        manifest = read_manifest(folder / MANIFEST)
        try:
            spec = from_json(ModelSpec, manifest["model"])
            settings = from_json(TrackerSettings, manifest["tracker"])
            self_test = (
                SelfTest.from_json(manifest["self_test"], spec.anchor_count) if "self_test" in manifest else None
            )
            files = {
                str(name): (int(facts["bytes"]), str(facts["sha256"])) for name, facts in manifest["files"].items()
            }
            precision = str(manifest["precision"])
            if precision not in PRECISIONS:
                raise BundleError(
                    f"{folder / MANIFEST}: precision {precision!r}; this version of spm_rt knows "
                    f"{', '.join(PRECISIONS)}"
                )
            if 1 not in {int(targets) for targets in manifest["graphs"]}:
                raise BundleError(f"{folder / MANIFEST}: no graphs for one target")
            for graphs in manifest["graphs"].values():
                for stage, form in graphs_of(precision):
                    if graphs[stage][form] not in files:
                        raise BundleError(f"{folder / MANIFEST}: {graphs[stage][form]} has no entry under files")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, BundleError):
                raise
            what = str(error) if isinstance(error, SettingsError) else f"{type(error).__name__}: {error}"
            raise BundleError(f"{folder / MANIFEST}: incomplete or of another make ({what})") from error
        for name, (size, digest) in files.items():
            verify_file(folder, name, size, digest)
        return cls(folder, manifest, spec, settings, self_test)

    @classmethod
    def of(cls, bundle: str | os.PathLike[str] | Bundle, settings: TrackerSettings | None = None) -> Bundle:
        """A bundle by its folder, or as it was opened before; with ``settings`` instead of its own, where given."""
        chosen = None if settings is None else check_settings(settings)  # before a bundle is read
        opened = bundle if isinstance(bundle, Bundle) else cls.open(bundle)
        return opened if chosen is None else dataclasses.replace(opened, settings=chosen)

    @property
    def precision(self) -> str:
        """What its graphs compute in: ``float32``, ``float16``, ``bfloat16``, or ``int8`` (search and relation)."""
        return str(self.manifest["precision"])

    @property
    def targets(self) -> tuple[int, ...]:
        """Numbers of targets for which the bundle has graphs, ascending."""
        return tuple(sorted(int(n) for n in self.manifest["graphs"]))

    def graph(self, stage: str, *, targets: int = 1, variant: str = "portable") -> Path:
        """The ONNX file of a stage.

        Args:
            stage: ``template``, ``search`` or ``relation``.
            targets: leading axis of every tensor.
            variant: a form of :data:`spm_rt.bundle.forms.FORMS`. Where the stage has no graph of its own in this form,
                the file is that of the form which stands in for it.

        Raises:
            BundleError: the bundle holds no graphs for so many targets, or none of that form.
        """
        forms = [form.name for form in forms_of(self.precision)]
        if variant not in FORMS:
            raise BundleError(f"{self.path}: graphs of form {variant!r} are unknown; there are: {', '.join(forms)}")
        if variant not in forms:
            raise BundleError(
                f"{self.path}: a {self.precision} bundle holds its graphs as {' and '.join(forms)} (for GPUs), not as "
                f"{variant} (for CPUs); track with a GPU backend, or export again with --precision float32"
            )
        if str(targets) not in self.manifest["graphs"]:
            have = ", ".join(str(n) for n in self.targets)
            raise BundleError(
                f"{self.path}: no graphs for {targets} targets (there are: {have}); export again with --targets"
            )
        form = own_form(stage, variant, self.precision)
        return self.path / str(self.manifest["graphs"][str(targets)][stage][form])


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest's content, if it is complete, unaltered and of a format that is read here."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise BundleError(f"{path}: cannot be read ({why}); the folder is no bundle, or not all of one") from error
    try:
        manifest = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: not JSON, or cut short ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"{path}: not the manifest of an {FORMAT}")
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path}: bundle format {version!r}; this version of spm_rt reads format {FORMAT_VERSION}. "
            f"{_remedy(manifest)}"
        )
    if seal_manifest(manifest) != raw:
        raise BundleError(f"{path}: altered after export (its own sha256 differs); run spm-export again")
    return manifest


def _remedy(manifest: dict[str, Any]) -> str:
    """What to do about a bundle of another format."""
    version, checkpoint = manifest.get("format_version"), manifest.get("checkpoint")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        return "A newer version of spm_rt wrote it: install that one"
    source = checkpoint.get("source") if isinstance(checkpoint, dict) else None
    made_of = f" with what it was made of ({source})" if source else " with the checkpoint that it was made of"
    return f"Run spm-export again{made_of}"


def verify_file(folder: Path, name: str, size: int, digest: str) -> None:
    """Check one file of a bundle against its entry in the manifest."""
    if Path(name).name != name or name in ("", ".", "..", MANIFEST):
        raise BundleError(f"{folder / MANIFEST}: {name!r} is not a plain file name")
    path = folder / name
    try:
        found = path.stat().st_size
        if found != size:
            raise BundleError(f"{path}: {found} bytes instead of {size} (copied only in part?); run spm-export again")
        if file_digest(path) != digest:
            raise BundleError(
                f"{path}: sha256 differs from {MANIFEST} (edited or damaged after export?); run spm-export again"
            )
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); run spm-export again") from error
