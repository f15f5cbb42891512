"""A bundle: the folder that ``spm-export`` writes and the runtime reads. docs/reference/bundle.md describes the format.

Reading is strict. The manifest must be byte for byte what its own digest says, and every file must have the size and
sha256 that the manifest names; whatever differs is named in a :class:`~spm_rt.errors.BundleError`.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from ..errors import BundleError
from ..fields import shortened
from ..files import file_digest
from ..settings import ModelSpec, TrackerSettings, check_settings
from .forms import FORMS, forms_of, graphs_of, own_form
from .graph_ends import check_ends
from .manifest import MANIFEST, read_contents
from .private import PrivateFolder, copied, readable, unpacked
from .self_test import SelfTest


@dataclasses.dataclass(frozen=True, repr=False)
class Bundle:
    """A bundle whose files have been verified.

    Attributes:
        path: the folder. Of a packed bundle, and of one whose files are links to elsewhere, it is a copy.
        manifest: the manifest's content, as JSON types.
        spec: what the network looks like.
        settings: how its maker meant it to be tracked with.
        self_test: a few of the reference's numbers, for engines to be compared with; None in int8 bundles.
    """

    path: Path
    manifest: dict[str, Any]
    spec: ModelSpec
    settings: TrackerSettings
    self_test: SelfTest | None = None
    _folder: PrivateFolder | None = dataclasses.field(default=None, compare=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Read and verify a bundle.

        Args:
            path: the folder that ``spm-export`` wrote, or a zip archive of it (``spm-export --pack``), which is
                unpacked into the cache, or into a temporary folder where nothing is kept.

        Raises:
            BundleError: the folder or a file is missing, altered or cut short, or of a format that is not read here.
        """
        try:
            folder, holder = Path(os.fsdecode(path)), None
        except TypeError:
            raise BundleError(f"a bundle is the path of a folder or of a zip archive, not {shortened(path)}") from None
        if os.path.isfile(folder):
            folder, found, holder = unpacked(folder)
        elif os.path.isdir(folder):
            found = read_contents(folder / MANIFEST)
            for name, (size, digest) in found.files.items():
                verify_file(folder, name, size, digest)
            if not readable(folder, [*found.files]):
                folder, holder = copied(folder, found)
        else:
            if os.path.exists(folder):  # a pipe or a device
                raise BundleError(f"{folder}: a bundle is a folder or a zip archive, which this is not")
            raise BundleError(f"{folder}: no such bundle folder; `spm-export --out {folder}` makes one")
        bundle = cls(folder, found.manifest, found.spec, found.settings, found.self_test, holder)
        for targets in bundle.targets:
            for stage, form in graphs_of(bundle.precision):
                graph = bundle.graph(stage, targets=targets, variant=form)
                check_ends(graph, stage, targets, bundle.spec, bundle.precision)
        return bundle

    @classmethod
    def of(cls, bundle: str | os.PathLike[str] | Bundle, settings: TrackerSettings | None = None) -> Bundle:
        """A bundle by its folder, or as it was opened before; with ``settings`` instead of its own, where given."""
        chosen = None if settings is None else check_settings(settings)  # before a bundle is read
        opened = bundle if isinstance(bundle, Bundle) else cls.open(bundle)
        return opened if chosen is None else dataclasses.replace(opened, settings=chosen)

    def __repr__(self) -> str:
        targets = ", ".join(map(str, self.targets))
        return f"<Bundle {str(self.path)!r}: {self.precision}, graphs for {targets} target(s)>"

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


def verify_file(folder: Path, name: str, size: int, digest: str) -> None:
    """Check one file of a bundle against its entry in the manifest."""
    path = folder / name
    try:
        if path.exists() and not path.is_file():  # reading a pipe would never end
            raise BundleError(f"{path}: no regular file; run spm-export again")
        found = path.stat().st_size
        if found != size:
            raise BundleError(f"{path}: {found} bytes instead of {size} (copied only in part?); run spm-export again")
        if file_digest(path) != digest:
            raise BundleError(
                f"{path}: sha256 differs from {MANIFEST} (edited or damaged after export?); run spm-export again"
            )
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); run spm-export again") from error
