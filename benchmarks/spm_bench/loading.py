"""Trackers by name (``torch``, the PyTorch reference, or a runtime backend), and clips."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spm_rt.backends import BACKENDS, available, load_backend
from spm_rt.bundle import Bundle
from spm_rt.errors import BackendError, BundleError, SourceError
from spm_rt.media.datasets import Sequence as Clip
from spm_rt.media.datasets import find_sequences
from spm_rt.media.video import frames
from spm_rt.precision import parse_precision
from spm_rt.results import Box
from spm_rt.settings import TrackerSettings
from spm_rt.trackers.single import Tracker

TORCH = "torch"
Frame = NDArray[np.uint8]


class Entry(NamedTuple):
    """One thing to be measured."""

    label: str
    """as it will be shown: ``onnxruntime``, ``openvino:bfloat16``, ``openvino@my_int8_bundle``"""
    backend: str
    asked: str | None
    """the precision that the backend is asked for; None for its default, which nothing is said about"""
    bundle: Bundle

    def load(self, *, device: str, threads: int, checkpoint: Sequence[str] = ()) -> Tracker:
        """A tracker; see :func:`load_tracker`."""
        return load_tracker(
            self.bundle,
            self.backend,
            device=device,
            threads=threads,
            checkpoint=checkpoint,
            precision=self.asked,
        )

    @property
    def precision(self) -> str:
        """What it computes in: what was asked for, or else the bundle's own."""
        return self.asked or str(self.bundle.manifest.get("precision", "float32"))


def parse_entry(text: str, bundle: Bundle, *, device: str = "cpu", threads: int | None = None) -> Entry:
    """``BACKEND[:PRECISION][@FOLDER]``: a backend, perhaps at another precision, perhaps on another bundle.

    Args:
        text: as somebody gave it.
        bundle: the bundle where no other is named.
        device, threads: for ``auto``, which is loaded to see what it takes.

    Raises:
        SpmError: the backend is unknown, or the folder is no bundle.
    """
    name, _, folder = text.partition("@")
    name, _, precision = name.partition(":")
    if folder:
        bundle = Bundle.open(folder)
    typed = precision
    if precision:
        precision = parse_precision(precision)
    if name == "auto":
        asked = ask_for(precision or None, load_backend)
        name = load_backend(bundle, name, device=device, threads=threads, **asked).name
    backend = check_name(name)
    label = backend + (f":{typed}" if typed else "") + (f"@{bundle.path.name}" if folder else "")
    return Entry(label, backend, precision or None, bundle)


def parse_entries(texts: Iterable[str], bundle: Bundle, options: argparse.Namespace) -> dict[str, Entry]:
    """Entries by label, each once."""
    entries = (parse_entry(text, bundle, device=options.device, threads=options.threads) for text in texts)
    return {entry.label: entry for entry in entries}


def load_tracker(
    bundle: Bundle,
    name: str = "auto",
    *,
    device: str = "cpu",
    threads: int | None = None,
    settings: TrackerSettings | None = None,
    checkpoint: Sequence[str] = (),
    precision: str | None = None,
) -> Tracker:
    """A tracker on a bundle's graphs, or on the PyTorch reference with the same weights.

    Args:
        bundle: the bundle; for ``torch`` it says which weights are meant.
        name: ``torch``, ``auto``, or a runtime backend.
        device: as for :func:`spm_rt.backends.load_backend`.
        threads: threads per inference call.
        settings: instead of the bundle's.
        checkpoint: for ``torch``, the files of the bundle's checkpoint; none for the shipped weights.
        precision: passed to the backend, if given.

    Raises:
        SpmError: the backend or the checkpoint cannot be had, or the checkpoint is not the bundle's.
    """
    settings = settings or bundle.settings
    if name != TORCH:
        asked = ask_for(precision, load_backend)
        return Tracker(load_backend(bundle, name, device=device, threads=threads, **asked), bundle.spec, settings)
    if precision not in (None, "float32"):
        raise BackendError(f"{TORCH}:{precision}: the reference computes in float32")
    from spm_export.model.backend import reference_tracker
    from spm_export.model.checkpoint import checkpoint_digest, expected_weights, load_model

    model = load_model(checkpoint, bundle.spec)
    if checkpoint_digest(expected_weights(model)) != bundle.manifest["checkpoint"]["sha256"]:
        weights = " + ".join(checkpoint) or "the shipped weights"
        source = bundle.manifest["checkpoint"].get("source") or "another checkpoint"
        raise BundleError(
            f"{bundle.path} was exported from {source}, which is not {weights}: reference and bundle would "
            "run on different weights; give the bundle's own with --checkpoint (cm_stage.pt fm_stage.pt, "
            "or one .safetensors), or export the bundle again"
        )
    return reference_tracker(model, settings, device if device.startswith("cuda") else "cpu", threads)


def load_named(folder: str, options: argparse.Namespace) -> Tracker:
    """A tracker on the bundle in a folder, as ``--backend`` and the options of a run say."""
    return load_tracker(
        Bundle.open(folder),
        check_name(options.backend),
        device=options.device,
        threads=options.threads,
        checkpoint=options.checkpoint,
    )


def ask_for(precision: str | None, loader: Callable[..., Any]) -> dict[str, Any]:
    """The argument that asks ``loader`` for a precision: none where nothing is to be said about it.

    Raises:
        BackendError: it takes no such argument.
    """
    if precision is None:
        return {}
    if "precision" not in inspect.signature(loader).parameters:
        raise BackendError(f"precision {precision!r}: {loader.__qualname__} takes what the bundle has")
    return {"precision": precision}


def set_threads(threads: int) -> None:
    """OpenCV's threads; the inference libraries are given theirs when a backend is loaded."""
    import cv2

    cv2.setNumThreads(threads)


def check_name(name: str) -> str:
    """A backend's name as it will be shown (``auto`` resolved), or a BackendError that lists what there is."""
    if name == "auto":
        names = available()
        if not names:
            raise BackendError("no inference library is installed: `pip install onnxruntime`")
        return names[0]
    if name != TORCH and name not in BACKENDS:
        raise BackendError(f"backend {name!r} is unknown; there are: auto, {TORCH}, {', '.join(BACKENDS)}")
    return name


def load_clip(clip: str | None, box: Box | None, limit: int | None = None) -> tuple[list[Frame], Box, str]:
    """Frames in memory, the target's first box, and the clip's name; the shipped clip by default.

    A folder of one sequence with ground truth needs no box: its first annotated one is taken, from that picture on.
    """
    from itertools import islice

    from spm_export.cli import DEMO_BOX, DEMO_CLIP

    if clip is None:
        clip, box = str(DEMO_CLIP), box or DEMO_BOX
    if box is not None:
        pictures = list(islice(frames(clip), limit))
    else:
        sequence = _only_sequence(clip)
        pictures, box = list(sequence.frames(limit)), sequence.first_box
    if len(pictures) < 2:
        raise SourceError(f"{clip}: one frame is not a clip")
    return pictures, box, Path(clip).name


def _only_sequence(clip: str) -> Clip:
    """The sequence with ground truth that a folder is."""
    wanted = f"--clip {clip} needs --box X,Y,W,H, the target in its first frame"
    try:
        found = find_sequences(clip) if Path(clip).is_dir() else []
    except SourceError as error:
        raise SourceError(f"{wanted} ({error})") from error
    if len(found) != 1:
        raise SourceError(wanted + (f", or one sequence of its {len(found)}" if found else ""))
    return found[0]
