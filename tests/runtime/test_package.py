"""``import spm_rt`` is quick, and gives everything that it names."""

from __future__ import annotations

import subprocess
import sys

import pytest

import spm_rt
from spm_rt.log import Logger


def test_every_name_is_there_and_each_is_listed() -> None:
    for name in spm_rt.__all__:
        assert getattr(spm_rt, name) is getattr(spm_rt, name)
        assert name in dir(spm_rt)
    assert spm_rt.Tracker.__module__ == "spm_rt.trackers.single"
    with pytest.raises(AttributeError, match="module 'spm_rt' has no attribute 'Traker'"):
        spm_rt.Traker  # type: ignore[attr-defined]  # noqa: B018


def test_modules_need_no_import_of_their_own() -> None:
    code = "import spm_rt; print(spm_rt.backends.available, spm_rt.errors.SpmError, spm_rt.trackers.multi.MultiTracker)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_numpy_and_opencv_wait_for_the_first_name() -> None:
    code = (
        "import sys, spm_rt; early = {'numpy', 'cv2'} & {*sys.modules}; from spm_rt import *; "
        "print(sorted(early), sorted({'numpy', 'cv2'} & {*sys.modules}), Tracker.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[] ['cv2', 'numpy'] Tracker"


def test_the_options_need_neither_numpy_nor_opencv_nor_logging() -> None:
    code = (
        "import sys, spm_rt.cli; spm_rt.cli.make_parser().format_help(); from spm_rt import TrackerSettings; "
        "print(sorted({'numpy', 'cv2', 'logging'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("before", ["", "import logging; "])
def test_nothing_is_printed_by_a_logger_that_nobody_set_up(before: str) -> None:
    code = f"{before}import spm_rt.store as it; it.logger.error('heard by %s', 'nobody')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert (done.stdout, done.stderr) == ("", "")


def test_who_sets_logging_up_hears_it_with_the_place_it_comes_from(caplog: pytest.LogCaptureFixture) -> None:
    Logger("spm_rt.any").warning("%d heard", 1)
    assert [(record.name, record.getMessage(), record.module) for record in caplog.records] == [
        ("spm_rt.any", "1 heard", "test_package")
    ]
