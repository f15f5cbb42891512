"""How a command ends: every error one line and an exit status, signals as exceptions."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

from ..errors import SpmError, in_words

DEBUG = "SPM_RT_DEBUG"
EXTRAS = {
    "av": "video",
    "cuda": "cuda",
    "flask": "page",
    "matplotlib": "bench",
    "ml_dtypes": "export",
    "onnx": "export",
    "onnx_ir": "export",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "prometheus_client": "metrics",
    "psutil": "bench",
    "pyarrow": "fleet",
    "ray": "fleet",
    "safetensors": "export",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "rtx",
    "torch": "pytorch",
    "yaml": "export",
}
"""Packages that may be missing, and the extra of this project that installs each."""
REQUIRED = {"cv2": "opencv-python-headless", "numpy": "numpy", "tqdm": "tqdm"}
"""Packages that this project cannot do without, and what ``pip install`` calls them."""
STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals that ask a command to end: Ctrl-C, ``kill``, a terminal that is closed."""


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end; raised where Ctrl-C raises a KeyboardInterrupt.

    Args:
        number: of the signal.
        text: what there is to say besides.
    """

    def __init__(self, number: int, text: str = "") -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} {text}".rstrip())
        self.number = number


def run_command(name: str, function: Callable[[], int], *, extra: str = "") -> int:
    """Run a command; whatever ends it becomes one line on standard error and an exit status, never a traceback.

    Signals that ask it to end raise :class:`Stopped` (a KeyboardInterrupt) while it runs, so that it can tidy up.

    Args:
        name: of the command, before every message.
        function: does everything, reading the arguments included; returns the exit status.
        extra: the extra of this project that installs what the command needs, where that is one for all of it.

    Returns:
        The function's status; 1 after an error, or when who read standard output has gone; 130 after Ctrl-C, 143 after
        SIGTERM. What argparse raises passes.
    """
    _fill_standard_streams()
    try:
        with stop_signals(_raise_stopped):
            _silence_opencv()
            status = _reported(name, function, extra)
            _flush_standard_output()
            return status
    except SystemExit:
        with contextlib.suppress(OSError, ValueError):
            _flush_standard_output()
        raise
    except (OSError, ValueError) as error:  # of standard output itself
        if not isinstance(error, BrokenPipeError):
            say(f"{name}: standard output: {getattr(error, 'strerror', None) or error}")
        return 1
    except KeyboardInterrupt as stop:
        say(f"{name}: {str(stop) or 'stopped by SIGINT'}")
        return 128 + getattr(stop, "number", signal.SIGINT)


def lazy_command(name: str, module: str, *, extra: str) -> Callable[[], int]:
    """The entry of a command whose module is imported where Ctrl-C is one line already.

    Args:
        name: of the command.
        module: has its ``main``, which takes the arguments of the process and returns the exit status.
        extra: as for :func:`run_command`.
    """
    return lambda: run_command(name, lambda: int(importlib.import_module(module).main()), extra=extra)


def _silence_opencv() -> None:
    """What is wrong is said once, by us. OpenCV is not imported for that: ``--help`` does without."""
    if os.environ.get(DEBUG):
        return
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    if (cv2 := sys.modules.get("cv2")) is not None and hasattr(cv2, "utils"):
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _reported(name: str, function: Callable[[], int], extra: str) -> int:
    """The function's status, or 1 and a line about the error."""
    try:
        return function()
    except (BrokenPipeError, SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        say(f"{name}: {_described(error, extra)}")
        return 1


def _described(error: BaseException, extra: str) -> str:
    if isinstance(error, SpmError):
        return str(error)
    if package := _package_of(error):
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == package:
            wanted = "video" if package == "av" else extra or EXTRAS.get(package)
            return f"{package} is not installed: pip install '{f'spm-rt[{wanted}]' if wanted else REQUIRED[package]}'"
        return f"{package} is installed and cannot be imported ({in_words(error)})"
    if isinstance(error, MemoryError):
        return "out of memory" + (f" ({error})" if str(error) else "")
    if isinstance(error, OSError) and error.strerror:
        return (f"{error.filename}: " if error.filename is not None else "") + error.strerror
    return f"internal error: {type(error).__name__}: {error} ({DEBUG}=1 shows where; please report it)"


def _package_of(error: BaseException) -> str:
    """The library in whose import an error was raised, of whatever type it is; empty if it comes from elsewhere."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package in EXTRAS.keys() | REQUIRED.keys() and frame.f_code.co_name == "<module>":
            return package
    package = (getattr(error, "name", None) or "").partition(".")[0] if isinstance(error, ImportError) else ""
    return package if package in EXTRAS.keys() | REQUIRED.keys() else ""


def say(text: str) -> None:
    """One line on standard error; nothing where that is closed."""
    line = "".join(c if c.isprintable() else " " if c.isspace() else repr(c)[1:-1] for c in text)
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def say_left_out(lines: Sequence[str], most: int = 10) -> None:
    """What a data set has and a command does not use, on standard error: a line each, at most so many."""
    for line in lines[:most]:
        say(f"left out: {line}")
    if len(lines) > most:
        say(f"left out: {len(lines) - most} more")


def _fill_standard_streams() -> None:
    """Closed streams lead nowhere, lest a file gets their number; names of files that no encoding knows are escaped."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def _flush_standard_output() -> None:
    """What cannot be written is thrown away, so that Python does not try again when it ends."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


@contextlib.contextmanager
def stop_signals(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """While it lasts, the handler gets Ctrl-C, SIGTERM and SIGHUP; not those that are ignored (``nohup``).

    Outside the main thread, where Python handles no signals, nothing is changed.
    """
    numbers = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
    before: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in numbers:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _raise_stopped(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)
