"""The C++ modules of this folder, where they were built."""

from __future__ import annotations

import importlib
from types import ModuleType

from ..errors import SpmError


def compiled(name: str, interface: int) -> ModuleType | None:
    """A C++ module; None where it was not built: there was no C++ compiler when the package was installed.

    Args:
        name: ``_choosing`` or ``_sampling``.
        interface: the number that stands at the end of its source, raised with every change of what it takes or gives.

    Raises:
        SpmError: it was compiled from other sources than those that lie here.
    """
    try:
        module = importlib.import_module(f"{__package__}.{name}")
    except ImportError:
        return None
    found = getattr(module, "INTERFACE", 0)
    if found != interface:
        raise SpmError(
            f"{module.__file__} was compiled from other sources (interface {found} instead of {interface}): rebuild: "
            "pip install -e . (or python setup.py build_ext --inplace --force)"
        )
    return module
