"""``spm-track``: one object or several, followed through a video, a folder of pictures, a stream or a camera.

``options`` reads the command line, ``run`` has the loop; the frames come from :mod:`spm_rt.media.sources`, the results
go to :mod:`spm_rt.outputs`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..terminal import run_command
from .options import make_parser, read_options
from .run import run

__all__ = ["main", "make_parser"]


def main(arguments: Sequence[str] | None = None) -> int:
    """``spm-track``; returns the exit status."""
    return run_command("spm-track", lambda: run(read_options(arguments)))
