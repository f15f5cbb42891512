"""``spm-bench gpu``: everything that wants a GPU, in one call."""

from ..gpu.check import DESCRIPTION, EPILOG, add_options, run

__all__ = ["DESCRIPTION", "EPILOG", "add_options", "run"]
