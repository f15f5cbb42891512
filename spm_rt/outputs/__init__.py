"""Results as files: videos, contact sheets, tables. All are checked before the first frame and complete whatever ends.

>>> with open_outputs([Request("video", "out.mp4"), Request("jsonl", "-")], source=source) as outputs:
...     for frame in source:
...         outputs.write(frame, {"rabbit": Tracked(box, result)})
...     written = outputs.finish()                                  # doctest: +SKIP
"""

from .base import KINDS as KINDS
from .base import Request as Request
from .base import Tracked as Tracked
from .base import Written as Written
from .outputs import Outputs as Outputs
from .outputs import open_outputs as open_outputs
