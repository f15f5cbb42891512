"""Engines: what a bundle's graphs are compiled to on the machine at hand.

Today this package says what is installed and which road a machine should take (:mod:`spm_engines.inventory`); the CPU
backends compile when they load. TensorRT engines, their plugin and their cache will live here.
"""

from .inventory import Gpu, Library, advise, gpus, libraries

__all__ = ["Gpu", "Library", "advise", "gpus", "libraries"]
