"""Compiles the kernels with NVRTC, which needs neither a GPU nor a driver, and keeps what it made.

NVRTC comes in the packages ``nvidia-cuda-nvrtc-cu12`` (compute capability 5.0 to 12.1) and ``nvidia-cuda-nvrtc`` (CUDA
13: 7.5 and later), with PyTorch, or with a CUDA toolkit. It is called through ctypes. Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import os
import re
from pathlib import Path

from ...errors import BackendError
from ...store import find_entry, make_entry, read_own
from . import source

# Contracting a * b + c to one rounding would move sample positions across the edge of a map (portable.h).
OPTIONS = ("--std=c++17", "--fmad=false")
KIND, CODE = "kernels", "code.bin"
"""In the cache (:mod:`spm_rt.store`): the code of one unit for one card."""
_NO_LIBRARY = (
    "no NVRTC was found to compile the kernels with: `pip install nvidia-cuda-nvrtc-cu12` (any card since Pascal) "
    "or `pip install nvidia-cuda-nvrtc` (CUDA 13, compute capability 7.5 and later)"
)


class Nvrtc:
    """One NVRTC library.

    Raises:
        BackendError: the file is no NVRTC, or cannot be loaded.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._library = ctypes.CDLL(path)
            self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
        except (OSError, AttributeError) as error:
            raise BackendError(f"{path}: cannot be loaded as NVRTC ({error})") from error
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "nvrtcVersion")
        self.version = (major.value, minor.value)

    @functools.cached_property
    def architectures(self) -> tuple[int, ...]:
        """Compute capabilities it compiles for, ascending: 75 for 7.5."""
        count = ctypes.c_int()
        self._check(self._library.nvrtcGetNumSupportedArchs(ctypes.byref(count)), "nvrtcGetNumSupportedArchs")
        values = (ctypes.c_int * count.value)()
        self._check(self._library.nvrtcGetSupportedArchs(values), "nvrtcGetSupportedArchs")
        return tuple(sorted(values))

    def compile(self, text: str, architecture: str, name: str = "source.cu") -> bytes:
        """Machine code of a CUDA C++ text.

        Args:
            text: the source; includes are not followed.
            architecture: ``compute_75`` gives PTX (text, for that and all later cards, if their driver is not older
                than this NVRTC), ``sm_75`` a cubin (for cards of that generation, any driver of this major version).
            name: for messages.

        Raises:
            BackendError: the compiler's own message.
        """
        library, program = self._library, ctypes.c_void_p()
        made = library.nvrtcCreateProgram(
            ctypes.byref(program), text.encode(), name.encode(), 0, ctypes.c_void_p(), ctypes.c_void_p()
        )
        self._check(made, "nvrtcCreateProgram")
        try:
            options = [f"--gpu-architecture={architecture}", *OPTIONS]
            given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            if library.nvrtcCompileProgram(program, len(options), given):
                log = self._read(program, "ProgramLog").rstrip(b"\0").decode(errors="replace").strip()
                raise BackendError(f"NVRTC {self._words} cannot compile {name} for {architecture}: {log}")
            return self._read(program, "CUBIN" if architecture.startswith("sm_") else "PTX")
        finally:
            library.nvrtcDestroyProgram(ctypes.byref(program))

    @property
    def _words(self) -> str:
        return ".".join(map(str, self.version))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        """The program's ``PTX``, ``CUBIN`` or ``ProgramLog``."""
        size = ctypes.c_size_t()
        self._check(getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)), f"nvrtcGet{what}Size")
        content = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._library, f"nvrtcGet{what}")(program, content), f"nvrtcGet{what}")
        return content.raw

    def _check(self, status: int, what: str) -> None:
        if status:
            words = self._library.nvrtcGetErrorString(status).decode()
            raise BackendError(f"{what} failed ({self.path}): {words}")


def candidates() -> list[str]:
    """Files that may be an NVRTC, the oldest version first: its PTX is what most drivers read."""
    found: list[Path] = []
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        found += Path(folder).glob("*/lib/libnvrtc.so.*")
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(variable):
            found += (Path(os.environ[variable]) / "lib64").glob("libnvrtc.so.*")
    found += Path("/usr/local/cuda/lib64").glob("libnvrtc.so.*")
    named = [(int(match[1]), str(path)) for path in found if (match := re.search(r"libnvrtc\.so\.(\d+)$", path.name))]
    return list(dict.fromkeys(path for _, path in sorted(named)))


def find(capability: int | None = None) -> Nvrtc:
    """An NVRTC that compiles for a compute capability (75 for 7.5), or the first one found.

    Raises:
        BackendError: there is none, or none for this card.
    """
    known = []
    for path in candidates():
        with contextlib.suppress(BackendError):
            library = Nvrtc(path)
            if capability is None or capability in library.architectures:
                return library
            known.append(f"{library._words} for {library.architectures[0]} to {library.architectures[-1]}")
    if not known:
        raise BackendError(_NO_LIBRARY)
    raise BackendError(f"no NVRTC here compiles for compute capability {capability} (there are: {'; '.join(known)})")


def capability_of(architecture: str) -> int:
    """75 of ``sm_75`` or ``compute_75``."""
    match = re.fullmatch(r"(?:sm|compute)_(\d+)", architecture)
    if match is None:
        raise BackendError(f"architecture {architecture!r} is not of the form sm_75 or compute_75")
    return int(match[1])


def compiled(unit: str, architecture: str, *, library: Nvrtc | None = None) -> bytes:
    """One unit of our kernels for ``sm_XY`` (a cubin) or ``compute_XY`` (PTX), from the cache or compiled and kept.

    Kept code is used only if it is, byte for byte, what its digest says, and if nobody else can have put it there.
    Where nothing can be kept, the kernels are compiled every time (about a second).

    Args:
        unit: ``roi`` or ``frame``.
        architecture: see :meth:`Nvrtc.compile`.
        library: which NVRTC; by default the oldest one here that knows the card.

    Raises:
        BackendError: no NVRTC, or it refuses.
    """
    compiler = library or find(capability_of(architecture))
    text = source(unit)
    facts = {
        "unit": unit,
        "architecture": architecture,
        "options": " ".join(OPTIONS),
        "compiler": compiler._words,
        "source": hashlib.sha256(text.encode()).hexdigest(),
    }
    entry = find_entry(KIND, facts)
    if entry is not None:
        with contextlib.suppress(OSError):
            return read_own(entry / CODE)
    code = compiler.compile(text, architecture, f"{unit}.cu")
    make_entry(KIND, facts, lambda folder: (folder / CODE).write_bytes(code))
    return code
