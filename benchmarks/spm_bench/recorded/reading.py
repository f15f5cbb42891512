"""Files of recorded data: the arrays of a set with its frames, or of single operators on small inputs.

This module imports NumPy and the runtime's settings alone; docs/reference/benchmarks.md has names and shapes.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_rt.errors import SourceError
from spm_rt.settings import TrackerSettings

Array = NDArray[Any]
Arrays = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class RecordedSet:
    """What the authors' release computed on some frames, and the frames ``[T, H, W, 3]``."""

    arrays: Arrays
    frames: NDArray[np.uint8]

    @property
    def settings(self) -> TrackerSettings:
        """The tracker's settings with which the set was recorded."""
        return TrackerSettings(window_influence=float(self.arrays["windows_influence"]))

    @property
    def first_box(self) -> NDArray[np.float64]:
        """The target in the first frame, x1, y1, x2, y2."""
        return np.asarray(self.arrays["init_box"], np.float64)


def read_arrays(path: str | Path) -> Arrays:
    """All arrays of a file.

    Raises:
        SourceError: the file is missing or not readable.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file") from error
    except Exception as error:  # zip, zlib and numpy each have errors of their own for damaged files
        raise SourceError(f"{path}: not a readable .npz file ({error})") from error


def read_set(path: str | Path) -> RecordedSet:
    """A set with its frames; those of a file that has none are taken from ``shapes.npz`` beside it.

    Raises:
        SourceError: the file is not readable, or not a set.
    """
    return _with_frames(Path(path), read_arrays(path))


def read_recorded(path: str | Path) -> RecordedSet | Arrays:
    """A set, or the arrays of a file that holds single operators.

    Raises:
        SourceError: the file is not readable, or neither.
    """
    arrays = read_arrays(path)
    return arrays if "anchors" in arrays and "prop_current" in arrays else _with_frames(Path(path), arrays)


def _with_frames(path: Path, arrays: Arrays) -> RecordedSet:
    drawn = arrays
    if "frames_delta" not in arrays:
        beside = path.with_name("shapes.npz")
        if not beside.is_file():
            raise SourceError(f"{path}: has no frames, and there is no shapes.npz beside it to take them from")
        drawn = read_arrays(beside)
    missing = [name for name in ("init_box", "frame_index", "prev_box", "windows_influence") if name not in arrays]
    if missing:
        raise SourceError(f"{path}: not a set of reference data, it lacks {', '.join(missing)}")
    return RecordedSet(arrays, np.cumsum(drawn["frames_delta"], axis=0, dtype=np.uint8))
