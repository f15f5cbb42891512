"""The arithmetic of the kernels on the host: host_build.cpp beside this, built with g++ and called through ctypes."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spm_rt.frame.fusion import AS_DETECTED, Extent
from spm_rt.frame.geometry import Region
from spm_rt.gpu import kernels
from spm_rt.settings import ModelSpec, TrackerSettings

Array = NDArray[Any]
SPEC = ModelSpec()


@functools.cache
def built_for_the_host() -> ctypes.CDLL:
    """The kernels' host build, compiled and loaded once; skips where there is no compiler."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not installed: the kernels' host build cannot be made")
    flags = ["-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    flags += ["-ftrivial-auto-var-init=pattern", "-Wno-maybe-uninitialized"]
    given = Path(__file__).with_suffix(".cpp")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "host.so"
        command = [compiler, *flags, f"-I{kernels.FOLDER}", str(given), "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return ctypes.CDLL(str(library))  # which stays loaded when its file has gone


def launch(library: ctypes.CDLL, kernel: kernels.Launch, *arguments: Any) -> None:
    """A kernel in all its blocks."""
    values = [_value(argument) for argument in arguments]
    name = kernel.name.encode()
    assert library.spm_launch(name, None, 0, 0) == len(values)
    addresses = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
    library.spm_launch(name, addresses, *kernel.blocks[:2])


def call(library: ctypes.CDLL, name: str, *arguments: Any) -> None:
    """A function that is no kernel."""
    getattr(library, name)(*map(_value, arguments))


def _value(argument: Any) -> Any:
    """An array as a pointer, a whole number as int, a :class:`ctypes` value as it is."""
    if isinstance(argument, np.ndarray):
        assert argument.flags.c_contiguous
        return ctypes.c_void_p(argument.ctypes.data)
    return ctypes.c_int(argument) if isinstance(argument, int) else argument


def state_of(box: Any, region: Region | None = None, extent: Extent = AS_DETECTED) -> Array:
    """One STATE record, with the region where it is known."""
    state = np.zeros(1, kernels.STATE)
    state["box"], state["extent"] = box, extent
    if region is not None:
        state["region"] = [region.x1, region.y1, region.x2, region.y2]
        state["scale"] = region.scale
    return state


def settings_of(**changed: Any) -> tuple[TrackerSettings, Array]:
    settings = TrackerSettings(**changed)
    return settings, kernels.settings_record(SPEC, settings)
