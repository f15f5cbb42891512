"""Results as files: videos, contact sheets, tables. All are checked before the first frame and complete whatever ends.

>>> with open_outputs([Request("video", "out.mp4"), Request("jsonl", "-")], source=source) as outputs:
...     for frame in source:
...         outputs.write(frame, {"rabbit": Tracked(box, result)})
...     written = outputs.finish()                                  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from ..lazy import lazy_names
from .base import KINDS, Request, Tracked, Written

if TYPE_CHECKING:
    from .outputs import Outputs, open_outputs

__all__ = ["KINDS", "Outputs", "Request", "Tracked", "Written", "open_outputs"]

__getattr__ = lazy_names(__name__, {"Outputs": "outputs", "open_outputs": "outputs"})
