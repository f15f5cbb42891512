"""``spm-track``: one object or several, followed through a video, a folder of pictures, a stream or a camera.

``options`` reads the command line, ``run`` has the loop (``streams`` that over several sources); the frames come from
:mod:`spm_rt.media.sources`, the results go to :mod:`spm_rt.outputs`.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence

from ..terminal import run_command

__all__ = ["main", "make_parser"]


def main(arguments: Sequence[str] | None = None) -> int:
    """``spm-track``; returns the exit status."""
    return run_command("spm-track", lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    from .options import read_options  # here, where Ctrl-C is one line already

    options = read_options(arguments)
    if options.streams:
        from .streams.run import run_streams

        return run_streams(options)
    from .run import run

    return run(options)


def make_parser() -> ArgumentParser:
    """The options of ``spm-track``."""
    from . import options

    return options.make_parser()
