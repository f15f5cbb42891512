"""Engines: what a bundle's graphs are compiled to on the machine at hand.

:mod:`spm_engines.toolchain` opens TensorRT 10, 11 or TensorRT for RTX, :mod:`spm_engines.plan` compiles a graph with
it, :mod:`spm_engines.build` keeps the result in the user's cache (:mod:`spm_rt.cache.engines` says where and reads it),
:mod:`spm_engines.doctor` says what is installed and which backend a machine should take. The CPU backends compile when
they load and need none of this.
"""

from .doctor import InspectedLibrary, Library, advise, findings, gpus, inspect_library, libraries
from .gpu_support import Gpu

__all__ = ["Gpu", "InspectedLibrary", "Library", "advise", "findings", "gpus", "inspect_library", "libraries"]
