"""What the commands have in common: how they end, progress, tables, boxes as options."""

from .boxes import BOX_FORMS, join_boxes, parse_box
from .command import DEBUG, EXTRAS, Stopped, run_command, say, say_left_out, stop_signals
from .progress import Progress, format_table

__all__ = [
    "BOX_FORMS",
    "DEBUG",
    "EXTRAS",
    "Progress",
    "Stopped",
    "format_table",
    "join_boxes",
    "parse_box",
    "run_command",
    "say",
    "say_left_out",
    "stop_signals",
]
