"""Trackers by name (``torch``, the PyTorch reference, or a runtime backend), and clips."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spm_export.cli import DEMO_BOX, DEMO_CLIP
from spm_rt.backends import BACKENDS, available, load_backend
from spm_rt.bundle import Bundle
from spm_rt.errors import BackendError, BundleError, SourceError
from spm_rt.media.datasets import Sequence, find_sequences
from spm_rt.media.video import frames
from spm_rt.precision import parse_precision
from spm_rt.results import Box
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

    def load(self, options: argparse.Namespace, threads: int | None = None) -> Tracker:
        """A tracker on the bundle's graphs, or on the PyTorch reference with the same weights.

        Args:
            options: with ``device``, ``threads`` and, for ``torch``, ``checkpoint``: the files of the bundle's
                checkpoint; none for the shipped weights.
            threads: per inference call, instead of the options'.

        Raises:
            SpmError: the backend or the checkpoint cannot be had, or the checkpoint is not the bundle's.
        """
        bundle, threads = self.bundle, threads or options.threads
        if self.backend != TORCH:
            return Tracker.load(bundle, self.backend, options.device, threads=threads, precision=self.asked)
        if self.asked not in (None, "float32"):
            raise BackendError(f"{TORCH}:{self.asked}: the reference computes in float32")
        from spm_export.model.backend import reference_tracker
        from spm_export.model.checkpoint import checkpoint_digest, expected_weights, load_model

        model = load_model(options.checkpoint, bundle.spec)
        if checkpoint_digest(expected_weights(model)) != bundle.manifest["checkpoint"]["sha256"]:
            weights = " + ".join(options.checkpoint) or "the shipped weights"
            source = bundle.manifest["checkpoint"].get("source") or "another checkpoint"
            raise BundleError(
                f"{bundle.path} was exported from {source}, which is not {weights}: reference and bundle would "
                "run on different weights; give the bundle's own with --checkpoint (cm_stage.pt fm_stage.pt, "
                "or one .safetensors), or export the bundle again"
            )
        return reference_tracker(
            model, bundle.settings, options.device if options.device.startswith("cuda") else "cpu", threads
        )

    @property
    def precision(self) -> str:
        """What it computes in: what was asked for, or else the bundle's own."""
        return self.asked or self.bundle.precision


def parse_entry(text: str, bundle: Bundle, *, device: str = "cpu", threads: int | None = None) -> Entry:
    """``BACKEND[:PRECISION][@FOLDER]``: a backend, perhaps at another precision, perhaps on another bundle.

    ``device`` and ``threads`` are for ``auto``, which is loaded to see what it takes.

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
        name = load_backend(bundle, name, device=device, threads=threads, precision=precision or None).name
    backend = check_name(name)
    label = backend + (f":{typed}" if typed else "") + (f"@{bundle.path.name}" if folder else "")
    return Entry(label, backend, precision or None, bundle)


def parse_entries(texts: Iterable[str], bundle: Bundle, options: argparse.Namespace) -> dict[str, Entry]:
    """Entries by label, each once."""
    entries = (parse_entry(text, bundle, device=options.device, threads=options.threads) for text in texts)
    return {entry.label: entry for entry in entries}


def entry_of(folder: str, options: argparse.Namespace) -> Entry:
    """The bundle in a folder, run by what ``--backend NAME[:PRECISION]`` says."""
    name, _, precision = options.backend.partition(":")
    asked = parse_precision(precision) if precision else None
    return Entry(folder, check_name(name), asked, Bundle.open(folder))


def load_named(folder: str, options: argparse.Namespace) -> Tracker:
    """A tracker on the bundle in a folder, as ``--backend`` and the options of a run say."""
    return entry_of(folder, options).load(options)


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


def _only_sequence(clip: str) -> Sequence:
    """The sequence with ground truth that a folder is."""
    wanted = f"--clip {clip} needs --box X,Y,W,H, the target in its first frame"
    try:
        found = find_sequences(clip) if Path(clip).is_dir() else []
    except SourceError as error:
        raise SourceError(f"{wanted} ({error})") from error
    if len(found) != 1:
        raise SourceError(wanted + (f", or one sequence of its {len(found)}" if found else ""))
    return found[0]
