"""Engines: what a bundle's graphs are compiled to on the machine at hand.

:mod:`spm_engines.tensorrt` compiles with TensorRT 10, 11 or TensorRT for RTX, :mod:`spm_engines.build` keeps the result
in the user's cache (:mod:`spm_rt.engine_cache` says where and reads it), :mod:`spm_engines.inventory` says what is
installed and which road a machine should take. The CPU backends compile when they load and need none of this.
"""

from .inventory import Library, Probe, advise, findings, gpus, libraries, probe
from .roads import Gpu

__all__ = ["Gpu", "Library", "Probe", "advise", "findings", "gpus", "libraries", "probe"]
