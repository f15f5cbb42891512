"""PyAV, which reads and writes videos where it is installed and works."""

from __future__ import annotations

from typing import Any

from ..errors import in_words


def import_pyav() -> Any:
    """PyAV, imported.

    Raises:
        ImportError: it is not installed, or cannot be imported for whatever reason; the message says why.
    """
    try:
        import av
    except Exception as error:  # a missing shared object, another version of numpy, half an installation
        if isinstance(error, ModuleNotFoundError) and error.name == "av":
            raise
        raise ImportError(f"PyAV is installed and cannot be imported ({in_words(error)})", name="av") from error
    return av
