"""What the commands have in common: how they end, progress, tables, boxes and numbers as options."""

from .boxes import BOX_FORMS, join_boxes, parse_box
from .bundles import WHICH_BUNDLE, default_bundle
from .command import DEBUG, EXTRAS, Stopped, lazy_command, run_command, say, say_left_out, stop_signals
from .numbers import positive_int, real_number, whole_number
from .progress import Progress, format_table

__all__ = [
    "BOX_FORMS",
    "DEBUG",
    "EXTRAS",
    "WHICH_BUNDLE",
    "Progress",
    "Stopped",
    "default_bundle",
    "format_table",
    "join_boxes",
    "lazy_command",
    "parse_box",
    "positive_int",
    "real_number",
    "run_command",
    "say",
    "say_left_out",
    "stop_signals",
    "whole_number",
]
